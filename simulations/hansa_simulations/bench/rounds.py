"""``hansa bench rounds``: what a round of training costs, by engine and by way of clipping."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from hansa.models.factorization import ITEMS, Factorization
from hansa.plan import Plan
from hansa.rng import seeded_generator
from hansa.schema import stack
from hansa_server.strategy import RoundReport
from hansa_simulations.bench import timing
from hansa_simulations.bench.plain import PlainLoop
from hansa_simulations.engine import run_in_process
from hansa_simulations.experiment import plan_for, simulated_shops
from hansa_simulations.federation import Federation, load_federation
from hansa_simulations.parallel import single_threaded
from hansa_simulations.ray_engine import run_on_ray
from hansa_simulations.settings import SimulationSettings, make_settings

SHOPS, DIMENSIONS, CAP = 50, 32, 64
PLAIN, IN_PROCESS, RAY, GHOST, HOOKS = (
    "plain loop",
    "inprocess",
    "ray",
    "inprocess, ghost",
    "inprocess, hooks",
)

Engine = Callable[..., Any]


def measure(repeats: int, steps: int, *, ray: bool = True) -> timing.Document:
    """Time all cases on ml-1m, then the engines' overhead on ml-100k.

    Args:
        repeats: Runs of each case that count.
        steps: Gradient rounds in a run; the run's figure is their median.
        ray: Whether to start Ray.
    """
    cases = []
    for name in ("ml-1m", "ml-100k"):
        bench = _Bench(name, steps)
        measures: dict[str, timing.Measure] = {
            PLAIN: bench.plain,
            IN_PROCESS: partial(bench.run, run_in_process, workers=1),
        }
        if name == "ml-1m":
            # Chunks of 64 suit Opacus better, whose [customers, items, d] leaves the cache sooner.
            for case, clipping in ((GHOST, "ghost"), (HOOKS, "hooks")):
                measures[case] = partial(bench.run, run_in_process, workers=1, clipping=clipping, chunk=64)
        if ray:
            measures[RAY] = partial(bench.run, run_on_ray, actors=1)
        timing.say(f"{name}: {bench.federation.customers:,} customers in {SHOPS} shops")
        with single_threaded():
            found = timing.rows(timing.interleave(measures, repeats), PLAIN, **bench.facts)
        plain = next(row["seconds"] for row in found if row["name"] == PLAIN)
        cases += [{**row, "overhead": row["seconds"] - plain} for row in found]
    return timing.document("rounds", cases, threads=1, repeats=repeats, steps=steps)


class _Bench:
    """One data set, ready to be trained on in several ways."""

    def __init__(self, name: str, steps: int) -> None:
        self.settings: SimulationSettings = make_settings(
            {"scenario": name, "shops": SHOPS, "method": "dpsgd", "rounds": steps + 1, "epsilon": 8.0},
            [f"method.dimensions={DIMENSIONS}", f"method.cap={CAP}"],
        )
        self.federation: Federation = load_federation(name, shops=SHOPS)
        self.plan: Plan = plan_for(self.settings, self.federation, 0)
        self.facts = {
            "data": name,
            "items": self.federation.items,
            "customers": self.federation.customers,
            "shops": SHOPS,
        }

    def plain(self) -> float:
        """Median seconds of a round of the plain loop."""
        learner, gradient = self.plan.learner, self.plan.releases[-1]
        assert isinstance(learner, Factorization)
        start = learner.initial_state(seeded_generator(0, "initial state"))[ITEMS]
        loop = PlainLoop(
            learner,
            stack([shop.train for shop in self.federation.shops]),
            torch.from_numpy(start),
            self.plan.customers,
            gradient.noise_multiplier * gradient.bound,
        )
        taken = []
        for _ in range(learner.gradient_rounds):
            began = time.perf_counter()
            loop.round()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    def run(self, engine: Engine, clipping: str = "sparse", chunk: int = 128, **options: Any) -> float:
        """Median seconds of a gradient round of an engine, start-up and the round of counts left out."""
        seconds: list[float] = []

        def listen(report: RoundReport) -> None:
            seconds.append(report.seconds)

        execution = self.settings.execution.model_copy(update={"clipping": clipping, "chunk": chunk})
        settings = self.settings.model_copy(update={"execution": execution})
        shops = simulated_shops(settings, self.federation, self.plan, 0)
        engine(self.plan, shops, seed=0, listeners=[listen], **options)
        return statistics.median(seconds[1:])


def text(found: timing.Document) -> list[str]:
    """The document as Markdown."""
    lines = [
        "# Seconds a round",
        "",
        f"`dpsgd`, d {DIMENSIONS}, every customer in every round, at most {CAP} items each, {SHOPS} shops. "
        "The plain loop is torch on one padded matrix of all customers, without shops or messages, with "
        "norms and sums in double precision like the clipping it stands for. "
        "Overhead is what a round takes beyond the plain loop's.",
        "",
        *timing.table(
            ("data, case", "seconds a round", "ratio", "overhead, ms"),
            (
                (
                    f"{row['data']}, {row['name']}",
                    f"{row['seconds']:.4f}",
                    f"{row['ratio']:.2f}",
                    f"{1000 * row['overhead']:.1f}",
                )
                for row in found["cases"]
            ),
        ),
        "",
        f"Medians of {found['repeats']} interleaved runs of {found['steps']} gradient rounds. "
        + timing.machine_line(found),
    ]
    return lines
