"""The Flower ServerApp of the coordinator: reads the plan from the run's configuration and runs it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from flwr.app import Context, UserConfig
from flwr.serverapp import Grid, ServerApp

from hansa.errors import RefusalError
from hansa.plan import Plan, parse_plan
from hansa.records import Request, record_to_state, state_to_record
from hansa.rng import seeded_generator, system_generator
from hansa.secagg.roster import Roster
from hansa_server.checkpoint import Checkpoint, RunFolder
from hansa_server.grid import StreamingGrid
from hansa_server.home import HOME, ServerHome
from hansa_server.journal import Journal
from hansa_server.members import admitted, node_names
from hansa_server.publishing import publish, published
from hansa_server.reports import REPORTS, reporting
from hansa_server.strategy import Listener, PlanStrategy, RoundReport, hand_over

app = ServerApp()
log = logging.getLogger(__name__)

ROSTER = "hansa-roster"
"""Key of the run configuration: the roster of a league whose sums are masked, as JSON."""
MODEL = "model"
"""Key of the run configuration, in place of a plan: the version of the model to send to all shops."""

_listeners: list[Listener] = []


def listen(*listeners: Listener) -> None:
    """Have every round of runs in this process reported to ``listeners``, and to no earlier ones."""
    _listeners[:] = listeners


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the plan in ``run_config["plan"]``; the final state is left in ``context.state["model"]``.

    A deployed coordinator's folder takes checkpoints, records and the signed model; a run that was cut short
    goes on from there. In simulations ``run_config["simulation-seed"]`` makes noise and initial state
    repeatable; ``run_config["hansa-reports"]`` is a folder for the reports, see ``hansa_server.reports``.
    """
    config, home = context.run_config, os.environ.get(HOME)
    timeout = float(config.get("round-timeout", 3600.0))
    if home is not None and config.get(MODEL):  # a bundle names every key; empty means not set
        there = ServerHome(Path(home))
        _send(StreamingGrid(grid), there, str(config[MODEL]), timeout, Journal(there))
    elif home is not None:
        _deployed(StreamingGrid(grid), config, ServerHome(Path(home)), timeout)
    else:
        _simulated(grid, context, timeout)


def _simulated(grid: Grid, context: Context, timeout: float) -> None:
    config = context.run_config
    with reporting(str(config.get(REPORTS, ""))) as reporters:
        plan = parse_plan(str(config["plan"]))
        seed = config.get("simulation-seed")
        noise = system_generator() if seed is None else seeded_generator(int(seed), "central noise")
        start = system_generator() if seed is None else seeded_generator(int(seed), "initial state")
        strategy = PlanStrategy(plan, noise, [*_listeners, *reporters], roster=_roster(config))
        strategy.enrol(grid, timeout)
        arrays = state_to_record(plan.learner.initial_state(start))
        result = strategy.start(grid, arrays, num_rounds=len(plan.releases), timeout=timeout)
        context.state["model"] = result.arrays


def _deployed(grid: Grid, config: UserConfig, home: ServerHome, timeout: float) -> None:
    plan = parse_plan(str(config["plan"]))
    keys = {shop: bytes.fromhex(card.key) for shop, card in admitted(home).items()}
    books = RunFolder(home.runs / plan.run, plan, _league(home), keys)
    books.begin()
    journal: Journal | None = None

    def end(state: str, message: str = "", **about: object) -> None:
        try:
            if journal is not None:
                journal.tell("outcome", {"run": plan.run, "state": state})
        finally:
            books.finish(state, message, **about)

    try:
        journal, roster = Journal(home), _roster(config)
        pinned = "" if roster is None else roster.to_json()
        plan_text = plan.model_dump_json()
        journal.tell("run", {"run": plan.run, "plan": plan_text, "digest": plan.digest, "roster": pinned})
        sent = _conduct(grid, plan, roster, books, home, timeout, journal)
    except RefusalError as refusal:
        end("refused", str(refusal))
        raise
    except BaseException as error:  # also when the run is stopped
        end("failed", f"{type(error).__name__}: {error}")
        raise
    end("done", model=plan.run, sent=sent)


def _conduct(
    grid: Grid,
    plan: Plan,
    roster: Roster | None,
    books: RunFolder,
    home: ServerHome,
    timeout: float,
    journal: Journal,
) -> dict[str, str]:
    """From the enrolment to the signed model at the shops; what each said of that."""
    names, before = node_names(home), books.load()
    if before is None:  # kept before anything is released, so that the run can go on from it
        before = Checkpoint(0, plan.learner.initial_state(system_generator()), {})
        books.save(before)

    def attempt(round_: int) -> int:
        number = books.attempt(round_)
        journal.tell("attempt", {"run": plan.run, "round": round_, "attempt": number})
        return number

    strategy = PlanStrategy(
        plan,
        system_generator(),
        roster=roster,
        names=names,
        done=before.round,
        next_attempt=attempt,
        memory=before.memory,
        head=journal.head,
    )

    def complete(report: RoundReport) -> None:
        body = {
            "run": plan.run,
            "round": report.round,
            "attempt": report.attempt,
            "release": report.release.name,
            "answered": report.shops,
            "missing": report.reasons,
            "receipts": books.record(report),
        }
        journal.tell("round", body)
        books.save(Checkpoint(report.round, report.state, strategy.memory))

    strategy.listeners.append(complete)
    state, left = before.state, len(plan.releases) - before.round
    if left:
        try:
            strategy.enrol(grid, timeout)
        finally:
            books.enrolled(strategy.enrolment)
            enrolled, refused = sorted(strategy.enrolment.nodes.values()), strategy.enrolment.refused
            journal.tell("enrolled", {"run": plan.run, "enrolled": enrolled, "refused": refused})
        result = strategy.start(grid, state_to_record(state), num_rounds=left, timeout=timeout)
        state = record_to_state(result.arrays)
    shops = [line["answered"] for line in books.rounds()]
    card = publish(home, _league(home), plan, state, shops)
    journal.tell("model", {"run": plan.run, "model": card.model, "sha256": card.sha256})
    return _send(grid, home, plan.run, timeout, journal)


def _send(grid: Grid, home: ServerHome, model: str, timeout: float, journal: Journal) -> dict[str, str]:
    card, state = published(home, model)
    request = Request(card.run, len(card.shops), card.to_json(), state, head=journal.head())
    said = hand_over(grid, node_names(home), request, timeout)
    for shop, problem in sorted(said.items()):
        log.info("model %s: %s: %s", model, shop, problem or "received")
    return said


def _roster(config: UserConfig) -> Roster | None:
    return Roster.from_json(str(config[ROSTER])) if config.get(ROSTER) else None


def _league(home: ServerHome) -> str:
    return home.league.read_text(encoding="utf-8").strip()
