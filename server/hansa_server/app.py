"""The Flower ServerApp of the coordinator: reads the plan from the run's configuration and runs it."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from hansa.plan import parse_plan
from hansa.records import state_to_record
from hansa.rng import seeded_generator, system_generator
from hansa.secagg.roster import Roster
from hansa_server.reports import REPORTS, reporting
from hansa_server.strategy import Listener, PlanStrategy

app = ServerApp()

ROSTER = "hansa-roster"
"""Key of the run configuration: the roster of a league whose sums are masked, as JSON."""

_listeners: list[Listener] = []


def listen(*listeners: Listener) -> None:
    """Have every round of runs in this process reported to ``listeners``, and to no earlier ones."""
    _listeners[:] = listeners


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the plan in ``run_config["plan"]``; the final state is left in ``context.state["model"]``.

    ``run_config["simulation-seed"]``, if there is one, makes noise and initial state repeatable;
    ``run_config["hansa-reports"]`` is a folder for the reports, see ``hansa_server.reports``.
    """
    config = context.run_config
    with reporting(str(config.get(REPORTS, ""))) as reporters:
        plan = parse_plan(str(config["plan"]))
        timeout = float(config.get("round-timeout", 3600.0))
        seed = config.get("simulation-seed")
        noise = system_generator() if seed is None else seeded_generator(int(seed), "central noise")
        start = system_generator() if seed is None else seeded_generator(int(seed), "initial state")
        roster = Roster.from_json(str(config[ROSTER])) if ROSTER in config else None
        strategy = PlanStrategy(plan, noise, [*_listeners, *reporters], roster=roster)
        strategy.enrol(grid, timeout)
        arrays = state_to_record(plan.learner.initial_state(start))
        result = strategy.start(grid, arrays, num_rounds=len(plan.releases), timeout=timeout)
        context.state["model"] = result.arrays
