"""``hansa client approvals``: see what a coordinator asks beyond the shop's ranges, and decide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa_client.home import HOME, ShopHome

if TYPE_CHECKING:
    from hansa.dp.ledger import Ledger
    from hansa_client.runtime.decisions import Decisions, Question

app = typer.Typer(
    no_args_is_help=True,
    help="What waits for the shop's decision: plans, rosters and bundles. Until then nothing of them runs.",
    add_completion=False,
)

Home = Annotated[
    Path | None, typer.Option("--home", help=f"The shop's folder; default: ${HOME}, else the current one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Name = Annotated[str, typer.Argument(metavar="ID", help="As 'hansa client approvals list' prints it.")]


@app.command("list")
def list_(home: Home = None, json_: Json = False) -> None:
    """Print what waits, the oldest first.

    Examples:

        hansa client approvals list

        hansa client approvals list --json
    """
    waiting = _decisions(home).waiting()
    if json_:
        print(json.dumps([_brief(question) for question in waiting], indent=2))
        return
    for question in waiting:
        print(f"{question.id}  {question.asked}  {question.why}")
    if not waiting:
        print("nothing waits for a decision")


@app.command()
def show(name: Name, home: Home = None, json_: Json = False) -> None:
    """Print what is asked, in full: read it before approving.

    Examples:

        hansa client approvals show plan-3f1c9a0b72

        hansa client approvals show roster-90ab12cd34 --json
    """
    from hansa_client.runtime.questions import describe, lines

    decisions = _decisions(home)
    question = decisions.find(name)
    found = describe(question, decisions, _ledger(decisions))
    if json_:
        print(json.dumps({**_brief(question), **found}, indent=2))
        return
    print(f"{question.id}: {question.why}; asked {question.asked}")
    print("\n".join(lines(question.kind, found)))


@app.command()
def approve(
    name: Name,
    home: Home = None,
    vouch: Annotated[
        str | None,
        typer.Option(
            help="With a roster: shops whose fingerprints you have compared by telephone, with commas. "
            "Default: those vouched for before, if their keys are the same."
        ),
    ] = None,
) -> None:
    """Say yes. The coordinator has to ask again; from then on it gets an answer.

    Examples:

        hansa client approvals approve plan-3f1c9a0b72

        hansa client approvals approve roster-90ab12cd34 --vouch anna,bo
    """
    decisions = _decisions(home)
    question = decisions.find(name)
    names = None if vouch is None else [each.strip() for each in vouch.split(",") if each.strip()]
    decisions.approve(question, _ledger(decisions), names)
    print(f"{question.id}: approved")
    if question.kind == "roster":
        print(_protection(decisions))


@app.command()
def reject(name: Name, home: Home = None) -> None:
    """Say no, now and whenever the same is asked again.

    Examples:

        hansa client approvals reject bundle-7d00aa41fe
    """
    decisions = _decisions(home)
    question = decisions.find(name)
    decisions.reject(question)
    print(f"{question.id}: rejected")


@app.command()
def roster(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of 'hansa server roster --out FILE'.")],
    home: Home = None,
    vouch: Annotated[
        str | None, typer.Option(help="Shops whose fingerprints you have compared by telephone, with commas.")
    ] = None,
) -> None:
    """Approve a roster before any run asks for it. Without --vouch it is only shown, with fingerprints.

    Examples:

        hansa client approvals roster roster.json

        hansa client approvals roster roster.json --vouch anna,bruno
    """
    from hansa.errors import UsageError
    from hansa.secagg.roster import Roster
    from hansa_client.invited import read_invitation
    from hansa_client.runtime.decisions import Question
    from hansa_client.runtime.questions import describe, lines

    decisions = _decisions(home)
    try:
        found = Roster.from_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}; give the file of 'hansa server roster --out'") from error
    own = read_invitation(decisions.home).shop
    if own not in found.keys:
        raise UsageError(f"{file}: does not list this shop, {own}; ask the coordinator to admit it first")
    question = Question("roster", found.digest, "", "a file", found.to_json())
    ledger = _ledger(decisions)
    if vouch is None:
        print("\n".join(lines("roster", describe(question, decisions, ledger))))
        return
    decisions.approve(question, ledger, [each.strip() for each in vouch.split(",") if each.strip()])
    print(f"{question.id}: approved\n{_protection(decisions)}")


def _protection(decisions: Decisions) -> str:
    """What the approved roster and those vouched for come to."""
    from hansa_client.config import read_settings
    from hansa_client.invited import read_invitation
    from hansa_client.runtime.questions import protection, protection_line

    roster, terms = decisions.approved_roster(), read_settings(decisions.home.settings).masking
    assert roster is not None
    own = read_invitation(decisions.home).shop
    vouched = len({*terms.vouched, own})
    found = protection(len(roster), vouched, terms)
    return f"vouched for {protection_line(found, len(roster)).strip()}"


def _decisions(home: Path | None) -> Decisions:
    from hansa_client.runtime.decisions import Decisions

    return Decisions(ShopHome.found(home))


def _ledger(decisions: Decisions) -> Ledger:
    from hansa.dp.ledger.file import LedgerFile
    from hansa.errors import UsageError

    if not decisions.home.ledger.exists():
        raise UsageError(f"{decisions.home.ledger}: not there; 'hansa client configure' makes it")
    return LedgerFile(decisions.home.ledger)


def _brief(question: Question) -> dict[str, Any]:
    return {
        "id": question.id,
        "kind": question.kind,
        "digest": question.digest,
        "asked": question.asked,
        "why": question.why,
    }
