"""What a coordinator's log and the shops' statements say of a federation's runs and releases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from hansa.audit.document import Budget, Member, Refusal, Release, Restart, Run
from hansa.audit.evidence import Exhibits, written
from hansa.audit.guarantee import Plans, finite
from hansa.audit.ledgers import noise_of, of_plan
from hansa.dp.accounting import DpEvent, compose, epsilon, to_parts
from hansa.plan import Plan
from hansa.transparency import LogLine, ReleaseReceipt


def _lines(found: Exhibits, kind: str) -> list[LogLine]:
    return [line for line in found.log if line.kind == kind]


def _begun(found: Exhibits) -> dict[str, LogLine]:
    """The first line of each run; one that is gone on with has more."""
    begun: dict[str, LogLine] = {}
    for line in _lines(found, "run"):
        begun.setdefault(line.body["run"], line)
    return begun


def _plans(found: Exhibits) -> Iterator[tuple[str, Plan]]:
    for run, line in _begun(found).items():
        plan = found.plan(line.body.get("digest"))
        if plan is not None:
            yield run, plan


def _attempts(found: Exhibits, run: str) -> dict[int, int]:
    """Of each round that shops were asked for, how many attempts; masked ones may each have been paid."""
    tried: dict[int, int] = defaultdict(int)
    for line in found.log:
        if line.kind in ("round", "attempt") and line.body["run"] == run:
            tried[int(line.body["round"])] = max(tried[int(line.body["round"])], int(line.body["attempt"]))
    return tried


def _event(found: Exhibits, run: str, plan: Plan) -> DpEvent:
    """A run as planned, and what lost attempts at masked rounds may have cost besides."""
    again: list[DpEvent] = []
    if plan.dp == "distributed":
        for round_, attempts in _attempts(found, run).items():
            if not 1 <= round_ <= len(plan.releases):
                continue  # a finding of ``gaps``
            release = plan.releases[round_ - 1]
            again += [release.event] * (release.steps * (attempts - 1))
    return compose([*plan.steps, *again])


def _taken_part(found: Exhibits) -> dict[str, set[str]]:
    """By run the shops that accepted it, answered, or have made a statement on it."""
    part: dict[str, set[str]] = defaultdict(set)
    for line in found.log:
        if line.kind in ("enrolled", "round"):
            part[line.body["run"]] |= set(line.body["enrolled" if line.kind == "enrolled" else "answered"])
    for said in found.statements:
        part[said.run].add(said.shop)
    return part


def exposure_of_league(found: Exhibits) -> Plans:
    """What a customer of a shop was exposed to that took part in every run; not runs that all refused."""
    part = _taken_part(found)
    known = [(run, plan) for run, plan in _plans(found) if part[run]]
    return Plans(
        events=[_event(found, run, plan) for run, plan in known],
        names=[run for run, _ in known],
        summed=[plan.dp != "local" for _, plan in known],
        filter=None,
        delta=max((plan.delta for _, plan in known), default=1e-5),
    )


def _delta_each(found: Exhibits) -> float:
    """The delta of each run, such that those of all together are the report's."""
    exposure = exposure_of_league(found)
    return exposure.delta / max(1, len(exposure.events))


def runs_of_league(found: Exhibits) -> list[Run]:
    """The runs of a log, in order."""
    runs, before = [], 0.0
    plans, part, shared = dict(_plans(found)), _taken_part(found), _delta_each(found)
    for run, line in _begun(found).items():
        plan = plans.get(run)
        own = None if plan is None else epsilon(_event(found, run, plan), shared)
        before += own if own is not None and part[run] else 0.0
        outcomes = [each for each in _lines(found, "outcome") if each.body["run"] == run]
        done = {int(each.body["round"]) for each in _lines(found, "round") if each.body["run"] == run}
        runs.append(
            Run(
                run=run,
                accepted=line.time,
                asked_by=None if found.head is None else found.head.league,
                plan=line.body.get("digest"),
                again=None,
                epsilon=None if own is None else finite(own),
                epsilon_after=finite(before),
                planned=0 if plan is None else len(plan.steps),
                charged=0 if plan is None else sum(plan.releases[number - 1].steps for number in done),
                ended=bool(outcomes) and outcomes[-1].body["state"] == "done",
                **of_plan(plan),
            )
        )
    return runs


def releases_of_league(found: Exhibits) -> list[Release]:
    """The complete rounds of a log, in order."""
    plans = dict(_plans(found))
    return [_release(line, plans.get(line.body["run"])) for line in _lines(found, "round")]


def _release(line: LogLine, plan: Plan | None) -> Release:
    body = line.body
    planned = None if plan is None else plan.releases[int(body["round"]) - 1]
    noise: dict[str, Any] = {
        "mechanism": "unknown",
        "parts": [],
        "bound": None,
        "multiplier": None,
        "sigma": None,
        "sampling": None,
    }
    if planned is not None:
        noise = noise_of(to_parts(planned.event) * planned.steps, planned.bound)
    return Release(
        number=line.sequence,
        time=line.time,
        run=body["run"],
        round=int(body["round"]),
        release=body["release"],
        to="the coordinator",
        shops=len(body["answered"]),
        epsilon_after=None,
        log=line.sequence - 1,
        **noise,
    )


def members_of_league(found: Exhibits) -> list[Member]:
    """The shops that a log or a statement names."""
    plans, shared = dict(_plans(found)), _delta_each(found)
    part: dict[str, set[str]] = defaultdict(set)
    answered: dict[str, int] = defaultdict(int)
    for run, shops in _taken_part(found).items():
        for shop in shops:
            part[shop].add(run)
    for line in _lines(found, "round"):
        for shop in line.body["answered"]:
            answered[shop] += 1
    said = defaultdict(list)
    for statement in found.statements:
        said[statement.shop].append(statement)
    furthest = {receipt.ledger: receipt.sequence for receipt in found.receipts}
    costs = {run: epsilon(_event(found, run, plan), shared) for run, plan in plans.items()}
    members = []
    for shop in sorted({*part, *said}):
        last = max(said[shop], key=lambda each: each.sequence, default=None)
        members.append(
            Member(
                shop=shop,
                ledger=None if last is None else last.ledger,
                key=None if last is None else last.key,
                statements=len(said[shop]),
                answered=answered[shop],
                sequence=None if last is None else max(last.sequence, furthest.get(last.ledger, 0)),
                epsilon=finite(sum(sorted(costs[run] for run in part[shop] if run in costs))),
            )
        )
    return members


def budget_of_league(found: Exhibits) -> Budget:
    """Budgets are the shops' own; of them a league knows refusals, and where runs were gone on with."""
    refusals = [
        Refusal(number=line.sequence, time=line.time, shop=shop, run=line.body["run"], reason=reason)
        for line in _lines(found, "enrolled")
        for shop, reason in sorted(line.body["refused"].items())
    ]
    restarts = [
        Restart(
            number=line.sequence,
            time=line.time,
            words=f"run {line.body['run']}: round {line.body['round']} took {line.body['attempt']} attempts",
        )
        for line in _lines(found, "round")
        if int(line.body["attempt"]) > 1
    ]
    return Budget(
        ledger=None,
        shop=None,
        ceiling=None,
        delta=None,
        spent=None,
        charged=None,
        left=None,
        closed=None,
        history=[],
        changes=[],
        refusals=refusals,
        restarts=restarts,
    )


def gaps(found: Exhibits) -> list[str]:
    """What is wrong between the log, the plans and the shops' statements."""
    plans, problems = dict(_plans(found)), []
    texts = {said.digest: said for said in found.statements}
    named = set()
    for run, line in _begun(found).items():
        if run not in plans:
            problems.append(f"the plan of run {run} ({str(line.body.get('digest'))[:16]}) is not here")
    for line in _lines(found, "round"):
        run, round_ = line.body["run"], int(line.body["round"])
        plan = plans.get(run)
        if plan is not None and not 1 <= round_ <= len(plan.releases):
            problems.append(f"run {run}: its plan has no round {round_}")
            continue
        for shop in line.body["answered"]:
            digest = line.body["receipts"].get(shop)
            if digest is None:
                continue  # the coordinator had none that it could use: told by ``oddities``
            said = texts.get(digest)
            if said is None:
                problems.append(f"run {run}, round {round_}: {shop} answered, and its statement is not here")
                continue
            named.add(digest)
            if said.head is not None and _head_differs(said.head.size, said.head.hash, found):
                problems.append(
                    f"run {run}, round {round_}: {shop} was shown another line {said.head.size} of the log"
                )
            if said.shop != shop or plan is None or not _fits(said, run, round_, plan):
                problems.append(f"run {run}, round {round_}: the statement of {shop} is about something else")
    for digest, said in texts.items():
        if digest not in named:
            problems.append(
                f"run {said.run}, round {said.round}: the statement of {said.shop} is not in the log"
            )
    return problems


def _head_differs(size: int, hash_: str, found: Exhibits) -> bool:
    return size > len(found.log) or found.log[size - 1].hash != hash_


def oddities(found: Exhibits) -> list[str]:
    """What a reader should know that contradicts nothing: a shop's second ledger, an odd order."""
    notes, ledgers = [], defaultdict(set)
    furthest: dict[str, int] = {}
    texts = {said.digest: said for said in found.statements}
    rounds = [line.body for line in _lines(found, "round")]
    listed = [body["receipts"].get(shop) for body in rounds for shop in body["answered"]]
    for line in _lines(found, "round"):
        notes += [
            f"run {line.body['run']}, round {line.body['round']}: {shop} answered, and the log names no "
            "statement of it: only the coordinator's word"
            for shop in sorted({*line.body["answered"]} - {*line.body["receipts"]})
        ]
    for said in (texts[digest] for digest in dict.fromkeys(listed) if digest in texts):
        ledgers[said.shop].add(said.ledger)
        if said.sequence < furthest.get(said.ledger, 0):
            notes.append(
                f"run {said.run}, round {said.round}: the statement of {said.shop} is older than one before "
                "it in the log: sent again, or its ledger went back"
            )
        furthest[said.ledger] = max(said.sequence, furthest.get(said.ledger, 0))
    for shop, several in sorted(ledgers.items()):
        if len(several) > 1:
            notes.append(f"{shop} has used {len(several)} ledgers, each with a budget of its own: ask it why")
    return notes


def _fits(said: ReleaseReceipt, run: str, round_: int, plan: Plan) -> bool:
    release = plan.releases[round_ - 1]
    events = [list(part) for part in to_parts(release.event)] * release.steps
    return (said.run, said.round, said.plan, said.roster, said.release, written(said)) == (
        run,
        round_,
        plan.digest,
        plan.roster,
        release.name,
        events,
    )
