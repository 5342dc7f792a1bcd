"""A real league of four shops, and the audit reports on it: runs, a refusal, a changed ceiling, crashes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hansa.audit.files import HTML, JSON
from hansa_simulations.bench import timing
from hansa_simulations.loopback.league import LoopbackLeague, loopback_league
from hansa_simulations.loopback.sources import SHOPS

COORDINATOR = "federation"
_REFUSING = "east"


def measure(out: Path | None) -> timing.Document:
    """Set the league up by its operators' commands, let things happen, report, and verify.

    Args:
        out: Where the reports of the coordinator and of the shop that refused are kept; None: nowhere.
    """
    with (
        tempfile.TemporaryDirectory(prefix="hansa-audited-") as folder,
        loopback_league(Path(folder)) as league,
    ):
        league.set_up()
        _history(league)
        reports = Path(folder) / "reports"
        cases = [_report(league, name, reports) for name in [COORDINATOR, *SHOPS]]
        verified = _verify(league, reports)
        if out is not None:
            _keep(reports, out)
        return timing.document("audited", cases, 1, verified=verified, rows=_rows(reports))


def _history(league: LoopbackLeague) -> None:
    """What happens to the league before anybody asks for a report."""
    league.server("train", "--run", "spring", "--method", "popularity", "--dp", "local", "--epsilon", "1")
    timing.say("a run under local noise")
    shown = league.hansa("client", "ledger", "show", str(_ledger(league)), "--json")
    low = float(json.loads(shown)["spent"]) + 0.05
    league.client(_REFUSING, "configure", "--epsilon", f"{low:.4f}", "--no-read")
    league.server("train", "--run", "summer", "--dp", "local", "--epsilon", "2")
    timing.say(f"a run that {_REFUSING} refuses, with a lowered ceiling")
    league.client(_REFUSING, "configure", "--epsilon", "12", "--no-read")
    league.kill(league.coordinator, without="nginx")
    league.kill(league.shop(_REFUSING))
    league.client(_REFUSING, "start")
    league.server("start")
    for name in SHOPS:
        league.wait(name, lambda name=name: json.loads(league.client(name, "status", "--json"))["online"])
    league.wait("the shops", lambda: league.server("status").count("online") == len(SHOPS))
    league.server("train", "--run", "autumn", "--dp", "distributed", "--epsilon", "3")
    timing.say("kill -9 of a shop and of the coordinator, and a run under masks")


def _ledger(league: LoopbackLeague) -> Path:
    return league.shop(_REFUSING) / "ledger" / "ledger.sqlite"


def _report(league: LoopbackLeague, name: str, reports: Path) -> dict[str, Any]:
    home = league.coordinator if name == COORDINATOR else league.shop(name)
    league.hansa("audit", "report", str(home), "--out", str(reports / name))
    size = (reports / name / JSON).stat().st_size
    return {"name": f"report of {name}", "items": size, "seconds": league.seconds[-1][1], "ratio": 1.0,
            "baseline": None}  # fmt: skip


def _verify(league: LoopbackLeague, reports: Path) -> dict[str, Any]:
    """All reports together, with roster and key as an auditor would have them from elsewhere."""
    roster = reports / "roster.json"
    league.server("roster", "--out", str(roster))
    invitation = json.loads((league.shop(_REFUSING) / "invitation.json").read_text(encoding="utf-8"))
    files = [str(reports / name / JSON) for name in [COORDINATOR, *SHOPS]]
    trusted = ("--roster", str(roster), "--coordinator", str(invitation["signer"]))
    found = json.loads(league.hansa("audit", "verify", *files, *trusted, "--json"))
    return {
        "consistent": all(each["consistent"] for each in found["reports"]),
        "authenticated": all(each["authenticated"] for each in found["reports"]),
        "contradictions": len(found["between"]),
        "seconds": league.seconds[-1][1],
    }


def _rows(reports: Path) -> list[list[str]]:
    """What the reports say, in a table."""
    rows = []
    for name in [COORDINATOR, *SHOPS]:
        statement = json.loads((reports / name / JSON).read_bytes())["statement"]
        budget, epsilon = statement["budget"], statement["guarantee"]["epsilon"]
        changes = " ".join(f"{each['before']:g} -> {each['after']:g}" for each in budget["changes"])
        refused = ", ".join(f"{each['run']}" for each in budget["refusals"])
        runs = ", ".join(f"{run['run']} ({run['method']})" for run in statement["runs"])
        spent = "none" if epsilon is None else f"{epsilon:.3f}"
        rows.append([name, runs, str(len(statement["releases"])), spent, refused or "-", changes or "-"])
    return rows


def _keep(reports: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in (COORDINATOR, _REFUSING):
        for file in (JSON, HTML):
            target = out / f"audited-{name}{Path(file).suffix}"
            target.write_bytes((reports / name / file).read_bytes())


def text(found: timing.Document) -> list[str]:
    """The reports in a table, in Markdown."""
    verified = found["verified"]
    return [
        "# A real league, audited",
        "",
        "A coordinator behind nginx and four shops on loopback: a run under local noise, one that a shop "
        "with a lowered ceiling refuses, the ceiling raised, `kill -9` of that shop and of the coordinator, "
        "and a run under masks. Written by `hansa bench audited --out benchmarks`; the coordinator's report "
        "and that of the shop that refused are kept beside it as `audited-*.json` and `.html`.",
        "",
        timing.machine_line(found),
        "",
        *timing.table(["report", "runs", "releases", "epsilon", "refused", "ceiling"], found["rows"]),
        "",
        f"`hansa audit verify` of all five together, with roster and key: consistent "
        f"{verified['consistent']}, authenticated {verified['authenticated']}, {verified['contradictions']} "
        f"contradictions, {verified['seconds']:.1f} s.",
        "",
        *timing.table(
            ["", "bytes", "seconds"],
            [[case["name"], f"{case['items']:,}", f"{case['seconds']:.1f}"] for case in found["cases"]],
        ),
        "",
    ]
