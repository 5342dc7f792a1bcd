"""Whether what parties signed belongs together: plans to ledgers and log, statements to rosters, heads.

Each text may be sound by itself and still be about something else. What refers to nothing is a finding, too:
else a reader would take it for part of the claim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from hansa.audit.evidence import Books, Exhibits
from hansa.dp.ledger.account import event_of, releases_of
from hansa.dp.ledger.entries import Entry
from hansa.errors import VerificationError
from hansa.plan import Plan
from hansa.transparency import LogHead, LogLine

MOST_ATTEMPTS = 1_000
"""Of one round: more would be no league's life, and cost a verifier without end."""


def unbound(kind: str, found: Exhibits, coordinator: str | None) -> Iterator[str]:
    """What does not belong together in the evidence of one report.

    Args:
        kind: Of the report.
        found: Its evidence, read without findings.
        coordinator: The coordinator's public key where it is known, hex: heads in ledgers have to be signed
            by it. Unknown: heads are not looked at, and accuse nobody.
    """
    for books in found.ledgers:
        yield from (f"ledger of {books.shop}: {problem}" for problem in _plans(books, found))
        yield from (f"ledger of {books.shop}: {problem}" for problem in _heads(books, coordinator))
    yield from _keys(found)
    yield from _strangers(kind, found)
    yield from _unused(found)
    yield from _endorsements(found)
    yield from _log(found)


def _plans(books: Books, found: Exhibits) -> Iterator[str]:
    """Reservations and charges against the plans that they name."""
    plans: dict[str, tuple[Plan, str]] = {}
    for entry in books.entries:
        body = entry.body
        if entry.kind == "reserve":
            plan = found.plan(body.get("plan"))
            if plan is None:
                continue
            again = body.get("again")
            plans[body["run"]] = plan, str(again or body["run"])
            if plan.run != plans[body["run"]][1]:
                yield f"entry {entry.sequence}: its plan is of the run {plan.run}"
            elif releases_of(body) != _steps(plan, body if again else None):
                yield f"entry {entry.sequence}: its releases are not those of its plan"
        elif entry.kind == "charge" and body["run"] in plans:
            yield from _charge(entry, plans[body["run"]][0])


def _steps(plan: Plan, again: dict[str, Any] | None) -> tuple[Any, ...]:
    """What a plan reserves; of a lost round that is paid again, that round."""
    if again is None:
        return plan.steps
    release = plan.releases[int(again["round"]) - 1]
    return (release.event,) * release.steps


def _charge(entry: Entry, plan: Plan) -> Iterator[str]:
    body = entry.body
    round_ = body.get("round")
    if type(round_) is not int or not 1 <= round_ <= len(plan.releases):
        yield f"entry {entry.sequence}: its plan has no round {round_!r}"
        return
    release = plan.releases[round_ - 1]
    said = body.get("release"), body.get("bound"), event_of(body)
    if said != (release.name, release.bound, release.event):
        yield f"entry {entry.sequence}: what it charges is not round {round_} of its plan"


def _heads(books: Books, coordinator: str | None) -> Iterator[str]:
    for entry in books.entries:
        if "log" not in entry.body or coordinator is None:
            continue
        if not signed_head(entry.body["log"], books.league or "", coordinator):
            yield f"entry {entry.sequence}: its head of the coordinator's log is not signed by that one"


def signed_head(head: object, league: str, coordinator: str) -> bool:
    """Whether what a ledger has as a head of the coordinator's log is one."""
    try:
        LogHead.model_validate({**head, "version": 1, "league": league}).check(coordinator)  # type: ignore[dict-item]
    except (VerificationError, ValidationError, TypeError):
        return False
    return True


def _keys(found: Exhibits) -> Iterator[str]:
    """No two ledgers have one key, and no ledger two."""
    pairs = {(books.key, books.identity, books.shop) for books in found.ledgers}
    pairs |= {(said.key, said.ledger, said.shop) for said in found.statements}
    for place, what in ((0, "key"), (1, "identity")):
        for value, count in Counter(pair[place] for pair in pairs).items():
            if count > 1:
                yield f"several ledgers have the {what} {value[:8]}"


def _strangers(kind: str, found: Exhibits) -> Iterator[str]:
    """A report on ledgers has no statements of others."""
    known = {(books.identity, books.shop) for books in found.ledgers}
    for said in found.statements:
        if kind != "federation" and (said.ledger, said.shop) not in known:
            yield f"a statement of {said.shop} is of a ledger that is not here"


def _unused(found: Exhibits) -> Iterator[str]:
    """Plans and rosters that nothing refers to; a plan without privacy is in no ledger."""
    named = {entry.body.get("plan") for books in found.ledgers for entry in books.entries}
    named |= {line.body["digest"] for line in found.log if line.kind == "run"}
    for digest, plan in found.plans.items():
        if digest not in named and not (plan.dp == "none" and found.ledgers):
            yield f"nothing refers to the plan of the run {plan.run}"
    rosters: set[object] = {plan.roster for plan in found.plans.values()}
    rosters |= {entry.body.get("roster") for books in found.ledgers for entry in books.entries}
    for digest in found.rosters:
        if digest not in rosters:
            yield f"nothing refers to the roster {digest[:16]}"


def _endorsements(found: Exhibits) -> Iterator[str]:
    """Under masks a shop's statement is endorsed by the key that the round's roster lists for it."""
    for said in found.statements:
        roster = found.rosters.get(said.roster)
        if roster is not None and not said.endorsed_by(roster.keys.get(said.shop, b"")):
            yield f"statement of {said.shop} on {said.run}: the key on its roster does not vouch for it"


def _log(found: Exhibits) -> Iterator[str]:
    """Lines are about runs that were begun, with the plans and shops that these have."""
    begun: dict[str, Plan | None] = {}
    enrolled: dict[str, set[str]] = {}
    for line in found.log:
        run = line.body["run"]
        if line.kind == "run":
            yield from _begin(line, found)
            plan = found.plan(line.body["digest"])
            if begun.setdefault(run, plan) is not plan:
                yield f"line {line.sequence}: the run {run} has another plan than before"
        elif run not in begun:
            yield f"line {line.sequence}: nothing was said of the run {run} before"
        elif line.kind == "attempt" and not 1 <= line.body["attempt"] <= MOST_ATTEMPTS:
            yield f"line {line.sequence}: no attempt has the number {line.body['attempt']}"
        elif line.kind == "enrolled":
            enrolled.setdefault(run, set()).update(line.body["enrolled"])
        elif line.kind == "round":
            if not 1 <= line.body["attempt"] <= MOST_ATTEMPTS:
                yield f"line {line.sequence}: no attempt has the number {line.body['attempt']}"
            answered, missing = set(line.body["answered"]), set(line.body["missing"])
            if not answered <= enrolled.get(run, set()):
                yield f"line {line.sequence}: a shop answered that had not accepted the run"
            if answered & missing:
                yield f"line {line.sequence}: a shop both answered and is missing"
            if not set(line.body["receipts"]) <= enrolled.get(run, set()):
                yield f"line {line.sequence}: a statement of a shop that had not accepted the run"


def _begin(line: LogLine, found: Exhibits) -> Iterator[str]:
    plan = found.plan(line.body["digest"])
    if plan is None:
        return
    if plan.model_dump_json() != line.body["plan"] or plan.run != line.body["run"]:
        yield f"line {line.sequence}: its plan is of another run, or another text"
    roster = line.body["roster"]
    if roster and all(known.to_json() != roster for known in found.rosters.values()):
        yield f"line {line.sequence}: its roster is not here"
    elif bool(roster) != bool(plan.roster) or (plan.roster and plan.roster not in found.rosters):
        yield f"line {line.sequence}: its roster is not that of its plan"
