"""Shops' signed words on their releases, ``hansa.transparency.ReleaseReceipt``, as a coordinator judges them.

``runs/RUN/statements.jsonl`` has a line ``{"round", "attempt", "shop", "text"}`` for each.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hansa.dp.events import to_parts
from hansa.errors import VerificationError
from hansa.plan import Plan
from hansa.transparency import ReleaseReceipt

FILE = "statements.jsonl"
WRONG = "wrong receipt of a release"


def judge(text: str, league: str, shop: str, plan: Plan, round_: int) -> ReleaseReceipt:
    """A shop's word on its release of a round.

    Raises:
        VerificationError: It is none, not signed with its own key, or about something else.
    """
    receipt, release = ReleaseReceipt.from_json(text), plan.releases[round_ - 1]
    receipt.check()
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
