"""Central noise at the realised sigma has that sigma, and the document compares what belongs together."""

import json
import math

import pytest
from click.testing import CliRunner

from hansa.plan import make_plan
from hansa_simulations.bench import distributed as bench
from hansa_simulations.bench import timing
from hansa_simulations.bench.commands import app
from hansa_simulations.experiment import plan_for, prepare, simulate_on
from hansa_simulations.settings import make_settings

TINY = {"scenario": "synthetic", "shops": 20}
SIZES = ["scenario.customers=300", "scenario.items=120", "scenario.shops=20"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    def settings(scenario: str, budget: float, delta: float, dp: str, method: str):
        options = {"scenario": scenario, "epsilon": budget, "delta": delta, "dp": dp, "method": method}
        return make_settings(options, SIZES)

    monkeypatch.setattr(bench, "_settings", settings)


@pytest.mark.parametrize("method", ["cooccurrence", "popularity", "dpsgd"])
def test_central_at_the_realised_noise_has_it_and_the_same_hyperparameters(method: str) -> None:
    prepared = prepare(bench._settings("synthetic", 8.0, 1e-5, "central", method), 0)
    runs = bench.settings_of(prepared, "synthetic", 8.0, 1e-5, method)
    plans = {name: plan_for(settings, prepared.federation, 0) for name, settings in runs.items()}
    claim, same, shared, local = (
        plans[name] for name in (bench.CLAIM, bench.SAME, bench.SHARED, bench.LOCAL)
    )
    assert [plan.dp for plan in (claim, same, shared, local)] == [
        "central",
        "central",
        "distributed",
        "local",
    ]
    assert bench.noise(same).sigma == pytest.approx(bench.noise(shared).sigma, rel=2e-4)
    assert same.settings == shared.settings
    # Not the noise that is claimed: all 20 shops add a share, of which h = 14 make up the claim.
    assert shared.honest == 14
    claimed = max(shared.releases, key=lambda release: release.rows * release.width).noise_multiplier
    assert bench.noise(shared).sigma == pytest.approx(claimed * math.sqrt(20 / 14), rel=0.01)


def test_the_noise_of_a_sum_is_worth_what_an_accountant_says() -> None:
    def plan(dp: str):
        return make_plan(
            run="r",
            method="popularity",
            settings={},
            n_items=50,
            dp=dp,  # type: ignore[arg-type]
            epsilon=8.0,
            delta=1e-5,
            shops=20,
            customers=300,
            roster="0" * 64 if dp == "distributed" else "",
        )

    central, shared, local = (bench.noise(plan(dp)) for dp in ("central", "distributed", "local"))
    assert central.worth == pytest.approx(8.0, rel=1e-3)
    assert local.worth < shared.worth < 8
    assert local.sigma == pytest.approx(central.sigma * math.sqrt(20))
    assert bench.central_epsilon(plan("distributed")) == pytest.approx(shared.worth, rel=0.15)


def test_the_document_holds_the_runs_of_simulate() -> None:
    found = bench.measure("synthetic", 8.0, 1e-5, 2, "popularity")
    rows = {case["name"]: case for case in found["cases"]}
    assert list(rows) == [bench.CLAIM, bench.SAME, bench.SHARED, bench.LOCAL]
    shared, same = rows[bench.SHARED], rows[bench.SAME]
    for seed in (0, 1):
        settings = bench._settings("synthetic", 8.0, 1e-5, "distributed", "popularity")
        result, _ = simulate_on(prepare(settings, seed), settings)
        assert shared["figures"]["model"]["values"][seed] == result["metrics"]["model"]["ndcg@10"]
    means = [row["figures"]["model"]["mean"] for row in (shared, same)]
    assert shared["ratio"] == pytest.approx(means[0] / means[1])
    assert same["ratio"] == 1
    assert rows[bench.LOCAL]["sigma"] > shared["sigma"] == pytest.approx(same["sigma"], rel=2e-4)
    assert {"name", "items", "seconds", "ratio", "baseline"} <= set(shared)
    json.dumps(found, allow_nan=False)
    text = bench.text(found)
    assert any(line.startswith("| distributed | 8 |") for line in text)
    assert timing.machine_line(found) in text


def test_the_command_says_it_in_one_document() -> None:
    options = [
        "--scenario",
        "synthetic",
        "--method",
        "popularity",
        "--seeds",
        "1",
        "--epsilon",
        "2",
        "--json",
    ]
    done = CliRunner().invoke(timing_app(), ["distributed", *options])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["bench"] == "distributed"
    assert found["epsilon"] == 2
    assert found["cases"][0]["gain_kept"]["sd"] is None


def timing_app():
    import typer

    return typer.main.get_command(app)
