"""From evidence to every derived section of a report: the same function makes reports and checks them."""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal

from hansa.audit.document import Cap, Derived, Member, Protection, Release, Risk, Run, Trust, Unit
from hansa.audit.evidence import Books, Exhibits
from hansa.audit.guarantee import FILTER, SUMS, Plans, accounting, finite, guarantee
from hansa.audit.league import (
    budget_of_league,
    exposure_of_league,
    members_of_league,
    releases_of_league,
    runs_of_league,
)
from hansa.audit.ledgers import accepted_plans, budget_of, last_time, of_plan, releases_of, runs_of
from hansa.audit.wording import (
    ADJACENCY,
    COVERED,
    RISKS,
    UNIT,
    UNKNOWN_TRUST,
    not_covered,
    provided,
    trust_of,
)
from hansa.dp.accounting import gaussian
from hansa.plan import Plan

Kind = Literal["shop", "federation", "simulation"]


def derive(kind: Kind, found: Exhibits, overlap: int | None) -> Derived:
    """Every figure and sentence that follows from evidence.

    Args:
        kind: What the report is about.
        found: The evidence, read.
        overlap: Largest number of shops that was declared for one person; None: nothing was.

    Raises:
        ValueError: The evidence is not what a report of this kind rests on.
    """
    if kind == "federation":
        return _of_federation(found, overlap)
    return _of_ledger(kind, found, overlap)


def _of_ledger(kind: Kind, found: Exhibits, overlap: int | None) -> Derived:
    """Of the ledger that has spent most; of a shop's report there is one."""
    if not found.ledgers:
        raise ValueError("there is no ledger in order")
    if kind == "shop" and len(found.ledgers) > 1:
        raise ValueError("a shop's report is about one ledger")
    books = max(found.ledgers, key=lambda each: (each.account.closed, each.account.spent, each.shop))
    runs, releases = runs_of(books, found), releases_of(books, _in_how_many(kind, found))
    plans, bare = accepted_plans(books), [plan for plan in found.plans.values() if plan.dp == "none"]
    plans += [plan.event() for plan in bare]
    runs += [_unprotected(plan) for plan in bare]
    names, known = [run.run for run in runs], [found.plan(run.plan) for run in runs]
    summed = [None if plan is None else plan.dp != "local" for plan in known]
    closed = books.account.closed
    if closed:  # nobody knows what was released besides
        plans, names, summed = [*plans, gaussian(0.0)], [*names, "lost history"], [*summed, None]
    spent = math.inf if bare or closed else books.account.spent
    exposure = Plans(
        events=plans,
        names=names,
        summed=summed,
        filter=books.account.filter,
        delta=books.account.ceiling.delta,
    )
    until = f"up to entry {len(books.rows)} of the ledger of {books.shop} ({last_time(books)[:10]})"
    if closed:
        until += ", a part of whose history is lost"
    if kind == "shop":
        about = f"the shop {books.shop}, {until}"
    else:
        about = f"any shop of this simulation, {until}, which has spent most"
    return Derived(
        guarantee=guarantee(exposure, spent, about, provided(known), overlap),
        unit=_unit(releases, found, runs),
        trust=[_trust(run.run, plan, books.account.vouched) for run, plan in zip(runs, known, strict=True)],
        runs=runs,
        releases=releases,
        members=[] if kind == "shop" else [_member(each) for each in found.ledgers],
        protection=_protection(kind, known),
        accounting=accounting(exposure, FILTER),
        budget=budget_of(books),
        risks=_risks(),
    )


def _of_federation(found: Exhibits, overlap: int | None) -> Derived:
    runs = runs_of_league(found)
    known = [found.plan(run.plan) for run in runs]
    exposure = exposure_of_league(found)
    spent = exposure.overlaps()[0].epsilon
    until = f"up to line {len(found.log)} ({found.log[-1].time[:10]})" if found.log else "which is empty"
    about = f"any one shop in the runs of the league's log, {until}"
    releases = releases_of_league(found)
    return Derived(
        guarantee=guarantee(exposure, math.inf if spent is None else spent, about, provided(known), overlap),
        unit=_unit(releases, found, runs),
        trust=[_trust(run.run, plan, None) for run, plan in zip(runs, known, strict=True)],
        runs=runs,
        releases=releases,
        members=members_of_league(found),
        protection=_protection("federation", known),
        accounting=accounting(exposure, SUMS),
        budget=budget_of_league(found),
        risks=_risks(),
    )


def _unprotected(plan: Plan) -> Run:
    """A run without privacy, which is in no ledger."""
    return Run(
        run=plan.run,
        accepted=None,
        asked_by=None,
        plan=plan.digest,
        again=None,
        planned=len(plan.steps),
        charged=0,
        epsilon=None,
        epsilon_after=None,
        ended=True,
        **of_plan(plan),
    )


def _in_how_many(kind: Kind, found: Exhibits) -> Counter[tuple[object, ...]] | None:
    """By release: in how many ledgers it is charged."""
    if kind == "shop":
        return None
    charged = (
        {
            (entry.body["run"], entry.body.get("round"), entry.body.get("release"))
            for entry in books.entries
            if entry.kind == "charge"
        }
        for books in found.ledgers
    )
    return Counter(each for one in charged for each in one)


def _unit(releases: list[Release], found: Exhibits, runs: list[Run]) -> Unit:
    caps = {run.run: found.plan(run.plan) for run in runs}
    seen: dict[tuple[str, str], Cap] = {}
    for each in releases:
        name = each.release or "?"
        cap = getattr(plan.learner, "cap", None) if (plan := caps.get(each.run)) is not None else None
        seen.setdefault((each.run, name), Cap(run=each.run, release=name, bound=each.bound, interactions=cap))
    return Unit(unit=UNIT, adjacency=ADJACENCY, caps=list(seen.values()))


def _trust(run: str, plan: Plan | None, vouched: tuple[str, ...] | None) -> Trust:
    shared = plan is not None and plan.dp == "distributed"
    return Trust(
        run=run,
        dp=None if plan is None else plan.dp,
        words=UNKNOWN_TRUST if plan is None else trust_of(plan),
        threshold=plan.threshold if plan is not None and shared else None,
        colluders=plan.colluders if plan is not None and shared else None,
        honest=plan.honest if plan is not None and shared else None,
        masked=plan.masked if plan is not None and shared else None,
        roster=plan.roster or None if plan is not None and shared else None,
        vouched=list(vouched) if shared and vouched is not None else None,
    )


def _member(books: Books) -> Member:
    charges = [entry.body for entry in books.entries if entry.kind == "charge"]
    return Member(
        shop=books.shop,
        ledger=books.identity,
        key=books.key,
        statements=len(charges),
        answered=len({(body["run"], body.get("round")) for body in charges}),
        sequence=len(books.rows),
        epsilon=finite(books.account.spent),
    )


def _protection(kind: Kind, plans: list[Plan | None]) -> Protection:
    models = {plan.dp for plan in plans if plan is not None}
    covered = [] if "none" in models else list(COVERED)
    return Protection(covered=covered, not_covered=not_covered(set(models), kind))


def _risks() -> list[Risk]:
    return [Risk(risk=risk, treatment=treatment) for risk, treatment in RISKS]
