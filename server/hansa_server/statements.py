"""Shops' signed words on their releases, ``hansa.transparency.ReleaseReceipt``, as a coordinator judges them.

``runs/RUN/statements.jsonl`` has a line ``{"round", "attempt", "shop", "text"}`` for each.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hansa.dp.events import to_parts
from hansa.dp.ledger.entries import Receipt
from hansa.errors import VerificationError
from hansa.plan import Plan
from hansa.transparency import ReleaseReceipt

FILE = "statements.jsonl"
WRONG = "wrong receipt of a release"


def judge(
    text: str,
    league: str,
    shop: str,
    plan: Plan,
    round_: int,
    *,
    ledger: Receipt | None = None,
    key: bytes | None = None,
) -> ReleaseReceipt:
    """A shop's word on its release of a round.

    Args:
        text: The statement.
        league: The league's name.
        shop: The shop's name.
        plan: The run's plan.
        round_: The round.
        ledger: The shop's word on its ledger that came with it; None: none came that can be used.
        key: The shop's admitted long-term key; None: unknown.

    Raises:
        VerificationError: It is none, not signed with its own key, or about something else.
    """
    receipt, release = ReleaseReceipt.from_json(text), plan.releases[round_ - 1]
    receipt.check()
    if key is not None and not receipt.endorsed_by(key):
        raise VerificationError("its ledger is not endorsed by the key that the shop was admitted with")
    if ledger is not None and ledger.ledger == receipt.ledger and receipt.sequence > ledger.sequence:
        raise VerificationError("it is of a later entry than the ledger has")
    expected = {
        "league": league,
        "shop": shop,
        "run": plan.run,
        "plan": plan.digest,
        "round": round_,
        "release": release.name,
        "roster": plan.roster,
        "events": tuple(to_parts(release.event)) * release.steps,
    }
    for name, value in expected.items():
        if getattr(receipt, name) != value:
            raise VerificationError(f"its {name} is another than this release's")
    return receipt


def lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a run's file; none if there is no file."""
    try:
        complete = path.read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in complete]


def newest(runs: Path, shop: str) -> ReleaseReceipt | None:
    """The last that any run has of a shop."""
    for path in sorted(runs.glob(f"*/{FILE}"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
        for line in reversed(lines(path)):
            if line["shop"] == shop:
                return ReleaseReceipt.from_json(line["text"])
    return None
