"""``hansa client doctor``: what keeps a shop from taking part, and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[
    Path | None, typer.Option("--home", help="The shop's folder. Default: $HANSA_SHOP, or the current one.")
]


def doctor(
    home: Home = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check everything that a shop needs, from the clock to the budget. Exit code 2 if anything fails.

    It reads the data and asks the coordinator's proxy two empty requests; it charges nothing, sends nothing,
    and names no customer.

    Examples:

        hansa client doctor --home corner

        hansa client doctor --json
    """
    from hansa.errors import UsageError
    from hansa_client.home import ShopHome
    from hansa_client.setup.doctor import examine

    place = ShopHome.found(home)
    if not place.root.is_dir():
        raise UsageError(f"{place.root}: no shop's folder; 'hansa client init INVITATION' makes one")
    findings = []
    for finding in examine(place):
        findings.append(finding)
        if not json_:
            print(f"{finding.state:<5} {finding.name:<12} {finding.detail}")
            if finding.fix:
                print(f"{'':<19}-> {finding.fix}")
    failed = [finding.name for finding in findings if finding.state == "fail"]
    if json_:
        print(json.dumps({"ok": not failed, "findings": [vars(finding) for finding in findings]}, indent=2))
    if failed:
        raise UsageError(f"doctor: {len(failed)} checks fail: {', '.join(failed)}")
