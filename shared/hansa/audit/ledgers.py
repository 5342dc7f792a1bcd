"""What a shop's ledger says of its runs, releases and budget."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from hansa.audit.document import Budget, Change, Moment, Refusal, Release, Restart, Run
from hansa.audit.evidence import Books, Exhibits
from hansa.audit.guarantee import finite
from hansa.dp.accounting import DpEvent, Part, compose, epsilon
from hansa.dp.ledger.entries import Entry
from hansa.plan import Plan

MECHANISMS = {"gaussian": "Gaussian", "skellam": "Skellam"}


def last_time(books: Books) -> str:
    """When the last entry was written, by the shop's clock."""
    return books.entries[-1].time


def accepted_plans(books: Books) -> list[DpEvent]:
    """Everything that was set aside, a plan at a time."""
    return [compose(list(known.releases)) for known in books.account.reservations.values()]


def runs_of(books: Books, found: Exhibits) -> list[Run]:
    """The runs that a ledger has accepted, in order."""
    return [_run(entry, books, found) for entry in books.entries if entry.kind == "reserve"]


def _run(entry: Entry, books: Books, found: Exhibits) -> Run:
    body, known = entry.body, books.account.reservations[entry.body["run"]]
    plan = found.plan(body.get("plan"))
    return Run(
        run=known.run,
        accepted=entry.time,
        asked_by=_text(body.get("asked_by")),
        plan=_text(body.get("plan")),
        again=_text(body.get("again")),
        epsilon=finite(epsilon(compose(list(known.releases)), books.account.ceiling.delta)),
        epsilon_after=body["epsilon_after"],
        planned=len(known.releases),
        charged=known.charged,
        ended=known.ended,
        **of_plan(plan),
    )


def of_plan(plan: Plan | None) -> dict[str, Any]:
    """What a run's section says of its plan."""
    return {
        "method": None if plan is None else plan.method,
        "settings": {} if plan is None else dict(plan.settings),
        "items": None if plan is None else plan.n_items,
        "customers": None if plan is None else plan.customers,
        "shops": None if plan is None else plan.shops,
    }


def releases_of(books: Books, shops: Counter[tuple[object, ...]] | None) -> list[Release]:
    """What a ledger was charged for, in order.

    Args:
        books: The ledger.
        shops: By (run, round, release) in how many ledgers it is, where the report is about many.
    """
    asked = {entry.body["run"]: entry.body for entry in books.entries if entry.kind == "reserve"}
    return [_release(entry, asked, shops) for entry in books.entries if entry.kind == "charge"]


def _release(
    entry: Entry, asked: Mapping[str, Mapping[str, Any]], shops: Counter[tuple[object, ...]] | None
) -> Release:
    body = entry.body
    about = body["run"], body.get("round"), body.get("release")
    log = body.get("log")
    return Release(
        number=entry.sequence,
        time=entry.time,
        run=body["run"],
        round=body.get("round"),
        release=_text(body.get("release")),
        to=_text(asked.get(body["run"], {}).get("asked_by")),
        shops=None if shops is None else shops[about],
        epsilon_after=body["epsilon_after"],
        log=log.get("size") if isinstance(log, dict) else None,
        **noise_of([tuple(part) for part in body["event"]], body.get("bound")),
    )


def noise_of(parts: list[Part], bound: float | None) -> dict[str, Any]:
    """What a release's section says of its noise."""
    first = parts[0]
    if first[0] == "skellam":
        mechanism, multiplier, rate = "Skellam", math.sqrt(first[1] / first[2]), 1.0
    else:
        multiplier, rate = float(first[0]), float(first[1])
        mechanism = "Gaussian" if multiplier else "none"
    return {
        "mechanism": mechanism,
        "parts": parts,
        "bound": bound,
        "multiplier": multiplier,
        "sigma": None if bound is None else multiplier * bound,
        "sampling": rate,
    }


def budget_of(books: Books) -> Budget:
    """The lifetime budget and its way there."""
    account, entries = books.account, books.entries
    ceiling, spent = account.ceiling.epsilon, account.spent
    return Budget(
        ledger=books.identity,
        shop=books.shop,
        ceiling=finite(ceiling),
        delta=account.ceiling.delta,
        spent=finite(spent),
        charged=max((moment.charged for moment in _history(entries)), default=0.0),
        left=0.0 if account.closed or math.isinf(spent) else finite(max(0.0, ceiling - spent)),
        closed=account.closed,
        history=list(_history(entries)),
        changes=[
            Change(
                number=entry.sequence,
                time=entry.time,
                before=entry.body["epsilon_before"],
                after=entry.body["epsilon_after"],
            )
            for entry in entries
            if entry.kind == "ceiling"
        ],
        refusals=[
            Refusal(
                number=entry.sequence,
                time=entry.time,
                shop=None,
                run=entry.body["run"],
                reason=entry.body["reason"],
            )
            for entry in entries
            if entry.kind == "refuse"
        ],
        restarts=[
            Restart(number=entry.sequence, time=entry.time, words=_restart(entry.body))
            for entry in entries
            if entry.kind == "reconcile"
        ],
    )


def _restart(body: Mapping[str, Any]) -> str:
    if body["receipt"] is None:
        return "taken into use again without a receipt: history is lost, the ceiling counts as spent"
    return "taken into use again from a copy, compared with a receipt that another party held"


def _history(entries: list[Entry]) -> Iterator[Moment]:
    """After each entry that moved spending or the ceiling; infinite spending, without noise, has no place."""
    spent, charged, ceiling = 0.0, 0.0, entries[0].body["epsilon"]
    for entry in entries:
        if entry.kind == "reserve":
            spent = entry.body["epsilon_after"]
        elif entry.kind == "charge":
            charged = entry.body["epsilon_after"]
        elif entry.kind == "ceiling":
            ceiling = entry.body["epsilon_after"]
        elif entry.kind != "open":
            continue
        if spent is not None and charged is not None:
            yield Moment(
                number=entry.sequence, time=entry.time, spent=spent, charged=charged, ceiling=ceiling
            )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
