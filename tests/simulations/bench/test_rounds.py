"""The plain loop does the engines' work, and the document says what was measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hansa.models.factorization import ITEMS, Factorization
from hansa.rng import seeded_generator
from hansa.schema import stack
from hansa_simulations.bench import timing
from hansa_simulations.bench.plain import PlainLoop
from hansa_simulations.bench.rounds import text
from hansa_simulations.engine import run_in_process
from hansa_simulations.experiment import plan_for, simulated_shops
from hansa_simulations.federation import DataSettings, Federation, load_federation
from hansa_simulations.settings import SimulationSettings, make_settings
from hansa_simulations.synthetic_parameters import SyntheticParameters


def settings(clipping: str = "sparse") -> SimulationSettings:
    options = {"scenario": "synthetic", "method": "dpsgd", "dp": "none", "rounds": 4}
    noisy = ["method.given_share=1", "method.optimizer=scalar-adam"]  # as they are wherever there is noise
    return make_settings(
        options, ["method.dimensions=8", "method.cap=12", f"engine.clipping={clipping}", *noisy]
    )


@pytest.fixture(scope="module")
def federation() -> Federation:
    few = SyntheticParameters(customers=150, items=120, shops=3)
    return load_federation("synthetic", settings=DataSettings(synthetic=few))


def test_plain_loop_learns_what_the_engine_learns(federation: Federation) -> None:
    given = settings()
    plan = plan_for(given, federation, 0)
    states = []
    learnt = run_in_process(
        plan, simulated_shops(given, federation, plan, 0), seed=0, listeners=[states.append]
    )
    assert isinstance(plan.learner, Factorization)
    histories = stack([shop.train for shop in federation.shops])
    start = torch.from_numpy(states[0].state[ITEMS].copy())  # after the round of counts
    loop = PlainLoop(plan.learner, histories, start, plan.customers, chunk=32)
    for _ in range(plan.learner.gradient_rounds):
        loop.round()
    moved = np.abs(learnt[ITEMS] - states[0].state[ITEMS]).max()
    assert np.abs(loop.table.numpy() - learnt[ITEMS]).max() < 1e-3 * moved


@pytest.mark.parametrize("clipping", ["hooks", "ghost"])
def test_opacus_clipping_learns_the_same(federation: Federation, clipping: str) -> None:
    tables = []
    for given in (settings(), settings(clipping)):
        plan = plan_for(given, federation, 0)
        shops = simulated_shops(given, federation, plan, 0)
        tables.append(run_in_process(plan, shops, seed=0, workers=1)[ITEMS])
    start = plan.learner.initial_state(seeded_generator(0, "initial state"))[ITEMS]
    moved = np.abs(tables[0] - start).max()
    assert np.abs(tables[0] - tables[1]).max() < 1e-3 * moved


def test_document_has_medians_ratios_and_versions(tmp_path: Path) -> None:
    taken = {"plain loop": [1.0, 2.0, 9.0], "inprocess": [3.0, 3.0, 3.0]}
    rows = timing.rows(taken, "plain loop", items=5, data="ml-1m")
    found = timing.document("rounds", [{**row, "overhead": 0.0} for row in rows], 1, repeats=3, steps=2)
    written = timing.write(found, text(found), tmp_path / "new")
    read = json.loads(written[0].read_text())
    assert [(case["name"], case["seconds"], case["ratio"]) for case in read["cases"]] == [
        ("plain loop", 2.0, 1.0),
        ("inprocess", 3.0, 1.5),
    ]
    assert read["threads"] == 1
    assert {"hansa", "torch", "numpy"} <= set(read["versions"])
    assert "| ml-1m, inprocess | 3.0000 | 1.50 |" in written[1].read_text()


def test_turns_are_interleaved_and_the_first_does_not_count() -> None:
    calls: list[str] = []

    def measure(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    taken = timing.interleave({name: lambda name=name: measure(name) for name in "ab"}, 2)
    assert calls == ["b", "a", "a", "b", "b", "a"]
    assert taken == {"a": [3.0, 6.0], "b": [4.0, 5.0]}
