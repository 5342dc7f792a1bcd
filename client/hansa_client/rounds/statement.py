"""What a shop signs for a release, and what it keeps of the coordinator's log.

**Guarantee:** a statement is made of the ledger's own entries alone, so that it names what was charged and
nothing that was not; made twice of the same charge it is the same. The coordinator's word on its log is
written into the ledger with what was charged on it: whoever has the ledgers of two shops sees whether both
were shown one log. It changes no decision.
"""

from __future__ import annotations

import logging
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.dp.ledger.entries import Receipt, public_hex
from hansa.errors import VerificationError
from hansa.plan import Plan
from hansa.transparency import Head, LogHead, ReleaseReceipt, endorse
from hansa_client.rounds.payment import is_again
from hansa_client.shop import LocalShop

log = logging.getLogger(__name__)

Charge = tuple[int, dict[str, Any]]
"""Number and body of a ledger's entry."""


def charges_of(shop: LocalShop, plan: Plan, round_: int) -> list[Charge]:
    """What was charged for the newest release of a round: all that one message made."""
    found = [
        (number, draft.body)
        for number, draft in enumerate(shop.ledger.entries(), 1)
        if draft.kind == "charge" and is_charge_of(draft.body, plan, round_)
    ]
    return [(number, body) for number, body in found if _origin(body) == _origin(found[-1][1])]


def is_charge_of(body: dict[str, Any], plan: Plan, round_: int) -> bool:
    """Whether an entry charges a round of a plan, for the first time or again."""
    own = body["run"] == plan.run or is_again(plan, str(body["run"]))
    return own and (body.get("round"), body.get("release")) == (round_, plan.releases[round_ - 1].name)


def _origin(body: dict[str, Any]) -> tuple[object, object]:
    return body["run"], body.get("message")


def statement(shop: LocalShop, plan: Plan, round_: int, charges: list[Charge] | None = None) -> str:
    """The shop's signed word on a release (``hansa.transparency.ReleaseReceipt``), as JSON.

    Args:
        shop: The shop.
        plan: The release's plan.
        round_: Its round.
        charges: What was charged for it; None: as ``charges_of``.

    Returns:
        Empty where nothing was charged, or the ledger has no key.
    """
    charges = charges_of(shop, plan, round_) if charges is None else charges
    if not charges:
        return ""
    sequence, last = charges[-1]
    shown = last.get("log")

    def say(place: Receipt, key: Ed25519PrivateKey) -> str:
        about = shop.coordinator, shop.name, place.ledger, public_hex(key)
        return ReleaseReceipt.make(
            league=shop.coordinator,
            shop=shop.name,
            ledger=place.ledger,
            ledger_key=key,
            sequence=place.sequence,
            hash=place.hash,
            run=plan.run,
            plan=plan.digest,
            round=round_,
            release=plan.releases[round_ - 1].name,
            events=[part for _, body in charges for part in body["event"]],
            roster=plan.roster,
            head=None if shown is None else Head(size=shown["size"], hash=shown["hash"]),
            endorsement="" if shop.key is None else endorse(shop.key, *about),
        ).to_json()

    return shop.ledger.attest(sequence, say)


def log_shown(shop: LocalShop, text: str) -> dict[str, dict[str, object]]:
    """What an entry records of the head that came with a request: nothing unless the coordinator signed it.

    A head that contradicts an earlier one is recorded all the same: it is the evidence.

    Args:
        shop: The shop.
        text: The head as JSON; empty if none came.
    """
    if not shop.signer:
        return {}
    try:
        head = LogHead.from_json(text)
        head.check(shop.signer)
        if head.league != shop.coordinator:
            raise VerificationError("another league's")
    except VerificationError:
        log.warning("shop %s: the request came without a signed head of the coordinator's log", shop.name)
        return {}
    known = [draft.body["log"] for draft in shop.ledger.entries() if draft.body.get("log")]
    farthest = max(known, key=lambda each: int(each["size"]), default=None)
    if farthest is not None and head.size < farthest["size"]:
        log.warning(
            "shop %s: the coordinator's log has %d lines and had %d", shop.name, head.size, farthest["size"]
        )
    if any(each["size"] == head.size and each["hash"] != head.hash for each in known):
        log.warning("shop %s: line %d of the coordinator's log is another than before", shop.name, head.size)
    return {"log": {"size": head.size, "hash": head.hash, "signature": head.signature}}
