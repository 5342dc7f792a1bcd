"""The outgoing check: what a shop's answer may hold, judged by its ledger and not by who computed it.

**Guarantee:** numbers about customers leave only as the release of an accepted plan that the ledger was
charged for while this very message was answered, or as the bytes that were sent for the same round before,
looked up before anything is computed. So a charge is used once. With them goes the statement that the ledger
makes of these charges, and no other. The check knows shapes, types and charges;
that the numbers carry the noise that their charge says is the door's promise (``hansa.dp.private_sum``).
"""

from __future__ import annotations

import numpy as np

from hansa.dp.ledger.entries import Receipt
from hansa.dp.private_sum import Table
from hansa.errors import RefusalError
from hansa.plan import Plan
from hansa.records import RELEASE_MESSAGE, STAGE_MESSAGES, Answer, Request
from hansa.secagg.masks import packed_size
from hansa.secagg.messages import Advert, Agreement, Envelopes, Message, Shares, Upload
from hansa_client.rounds.statement import Charge, charges_of, is_charge_of, statement
from hansa_client.shop import LocalShop

LONGEST_REASON = 200
_UPLOAD = STAGE_MESSAGES["upload"]
_FIELDS: dict[str, type[Message]] = {
    STAGE_MESSAGES["advertise"]: Advert,
    STAGE_MESSAGES["share"]: Envelopes,
    _UPLOAD: Upload,
    STAGE_MESSAGES["agree"]: Agreement,
    STAGE_MESSAGES["unmask"]: Shares,
}


class BlockedError(RefusalError):
    """An answer that may not leave."""

    def __init__(self, what: str) -> None:
        super().__init__(f"egress blocked: {what}", reason=f"egress blocked: {what}")


def check_answer(
    kind: str,
    answer: Answer,
    request: Request,
    plan: Plan | None,
    shop: LocalShop,
    since: int,
    sent: Table | None = None,
) -> None:
    """See that an answer may leave.

    Args:
        kind: Flower's message type.
        answer: The answer, that holds nothing besides.
        request: What was asked, with the message's id.
        plan: The run's plan, if it has one.
        shop: Whose answer it is.
        since: How many entries the ledger had before the message was answered.
        sent: What had been sent for this round by then, if anything.

    Raises:
        BlockedError: It may not.
    """
    if len(answer.reason) > LONGEST_REASON or not answer.reason.isprintable():
        raise BlockedError("reason")
    if answer.receipt:
        _check_receipt(answer.receipt, shop)
    arrays = answer.release is not None or answer.residues is not None
    if arrays and not (answer.accepted and kind in (RELEASE_MESSAGE, _UPLOAD)):
        raise BlockedError("an array in an answer that has none")
    if answer.statement and not arrays:
        raise BlockedError("statement")
    if not answer.accepted:
        if answer.fields:
            raise BlockedError("a protocol record in a refusal")
        return
    if answer.reason:
        raise BlockedError("reason")
    _check_fields(kind, answer)
    if kind == RELEASE_MESSAGE:
        _check_release(answer, request, _planned(plan), shop, since, sent)
    elif kind == _UPLOAD:
        _check_residues(answer, request, _planned(plan), shop, since)


def _check_receipt(text: str, shop: LocalShop) -> None:
    try:
        Receipt.from_json(text)
    except (ValueError, RecursionError):
        raise BlockedError("receipt") from None
    own = shop.ledger.receipt()
    if own is None or own.to_json() != text:
        raise BlockedError("receipt")


def _check_fields(kind: str, answer: Answer) -> None:
    if kind not in _FIELDS:
        if answer.fields:
            raise BlockedError("a protocol record in an answer that has none")
        return
    try:
        _FIELDS[kind].from_fields(answer.fields)
    except RefusalError:
        raise BlockedError("protocol record") from None


def _check_release(
    answer: Answer, request: Request, plan: Plan, shop: LocalShop, since: int, sent: Table | None
) -> None:
    if plan.dp != "local" or answer.release is None or answer.residues is not None:
        raise BlockedError("not the release that the plan has")
    release, table = plan.releases[request.round - 1], answer.release
    if table.dtype != np.float32 or table.shape != (release.rows, release.width):
        raise BlockedError("shape or type of the release")
    charges = _charges(shop, request, since)
    if sent is not None:
        if charges or sent.tobytes() != table.tobytes():
            raise BlockedError("not what was sent for this round before")
        charges = charges_of(shop, plan, request.round)
    elif not charges:
        raise BlockedError("the ledger has no charge for this release")
    else:
        _match(charges, request.round, release.steps, plan)
    _check_statement(answer, request, plan, shop, charges)


def _check_residues(answer: Answer, request: Request, plan: Plan, shop: LocalShop, since: int) -> None:
    if plan.dp != "distributed" or answer.residues is None or answer.release is not None:
        raise BlockedError("not the release that the plan has")
    charges = _charges(shop, request, since)
    if not charges:
        raise BlockedError("the ledger has no charge for this release")
    release = plan.releases[request.round - 1]
    if len(answer.residues) != packed_size(release.rows * release.width, plan.bits(release)):
        raise BlockedError("size of the release")
    _match(charges, request.round, 1, plan)
    _check_statement(answer, request, plan, shop, charges)


def _check_statement(
    answer: Answer, request: Request, plan: Plan, shop: LocalShop, charges: list[Charge]
) -> None:
    """The ledger makes it anew of the charges, to the same text."""
    if answer.statement != statement(shop, plan, request.round, charges):
        raise BlockedError("statement")


def _charges(shop: LocalShop, request: Request, since: int) -> list[Charge]:
    """What was charged while this message was answered, and for it."""
    drafts = list(enumerate(shop.ledger.entries(), 1))[since:]
    new = [(number, draft.body) for number, draft in drafts if draft.kind == "charge"]
    if any(body.get("message") != request.message for _, body in new) or (new and not request.message):
        raise BlockedError("the ledger was charged for another message")
    return new


def _match(charges: list[Charge], round_: int, steps: int, plan: Plan) -> None:
    if not all(is_charge_of(body, plan, round_) for _, body in charges):
        raise BlockedError("the ledger was charged for another release")
    if len(charges) != steps:
        raise BlockedError("the ledger was charged for another number of steps")


def _planned(plan: Plan | None) -> Plan:
    if plan is None:
        raise BlockedError("a release without a plan")
    return plan
