"""A coordinator's folder as the source of the federation's audit report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hansa.audit.document import Evidence, Party
from hansa.audit.making import Material
from hansa.dp.ledger.entries import public_hex
from hansa.errors import UsageError
from hansa.transparency import LogHead, LogLine, ReleaseReceipt, digest_of_text
from hansa_server import receipts, statements
from hansa_server.home import ServerHome
from hansa_server.journal import read_log
from hansa_server.members import members
from hansa_server.publishing import signer


def league_folder(path: Path) -> Material | None:
    """What a coordinator reports: its log, the shops' statements, and their words on their ledgers.

    Raises:
        UsageError: There is no run yet, or a file is damaged.
    """
    home = ServerHome(path.absolute())
    if not home.settings.exists():
        return None
    lines = read_log(home.log)
    if not lines:
        raise UsageError(f"{home.log}: no run yet, so there is nothing to report; see 'hansa server train'")
    key, league = signer(home), home.league.read_text(encoding="utf-8").strip()
    begun = _first_of_each_run(lines)
    said = _statements(home, lines)
    last = lines[-1]
    return Material(
        kind="federation",
        subject=f"the league {league}",
        league=league,
        shop=None,
        parties=[
            Party(role="coordinator", name=league, key=public_hex(key)),
            *(
                Party(role="shop", name=member.shop, key=None if member.card is None else member.card.key)
                for member in members(home)
            ),
        ],
        evidence=Evidence(
            ledgers=[],
            plans=list(dict.fromkeys(str(line.body["plan"]) for line in begun)),
            statements=[each.to_json() for each in said],
            receipts=_receipts(home, said),
            log=[line.text for line in lines],
            head=LogHead.make(league, last.sequence, last.hash, key).to_json(),
            rosters=list(dict.fromkeys(str(line.body["roster"]) for line in begun if line.body["roster"])),
            omitted=[],
        ),
        key=key,
    )


def _first_of_each_run(lines: Sequence[LogLine]) -> list[LogLine]:
    begun: dict[str, LogLine] = {}
    for line in lines:
        if line.kind == "run":
            begun.setdefault(line.body["run"], line)
    return list(begun.values())


def _statements(home: ServerHome, lines: Sequence[LogLine]) -> list[ReleaseReceipt]:
    """Those that the log names, by its runs; what it does not name is the coordinator's to look into."""
    named = {digest for line in lines if line.kind == "round" for digest in line.body["receipts"].values()}
    found: dict[str, ReleaseReceipt] = {}
    for line in _first_of_each_run(lines):
        for said in statements.lines(home.runs / line.body["run"] / statements.FILE):
            if digest_of_text(said["text"]) in named:
                found.setdefault(said["text"], ReleaseReceipt.from_json(said["text"]))
    return list(found.values())


def _receipts(home: ServerHome, said: Sequence[ReleaseReceipt]) -> list[str]:
    """The furthest word of each ledger that has made a statement."""
    held = []
    for shop, ledger in dict.fromkeys((each.shop, each.ledger) for each in said):
        furthest = receipts.furthest(receipts.held(home.runs, shop), ledger)
        held += [] if furthest is None else [furthest.to_json()]
    return held
