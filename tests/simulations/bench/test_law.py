"""The law is found where it was planted, and its cells and documents hold what they should."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer.main
from click.testing import CliRunner

from hansa.errors import UsageError
from hansa.planner.advice import customers_for
from hansa.planner.payoff import KINDS, share_kept
from hansa_simulations.bench.cells import Folder, run
from hansa_simulations.bench.commands import app
from hansa_simulations.bench.law import cells_of, collect, fit, fits, load, text
from hansa_simulations.bench.law_plot import law_figure, render

ROOT = Path(__file__).parents[3]
TINY = "synthetic:last20:scenario.customers=60:scenario.items=90:scenario.shops=2"
PLANTED = {"half": 30_000.0, "power": 1.3, "most": 0.9}


def test_a_planted_law_is_found() -> None:
    strength = np.array([2e3, 1e4, 4e4, 1e5, 4e5])
    items = np.array([100, 300, 900, 3000, 3000])
    kept = np.array([share_kept(x, k, **PLANTED) for x, k in zip(strength, items, strict=True)])
    assert fit(strength, items, kept) == pytest.approx({**PLANTED, "most": max(kept)}, rel=1e-3)


def test_customers_are_as_many_as_the_law_says() -> None:
    few, many = (customers_for(0.5, budget, "popularity", 3000, PLANTED) for budget in (4.0, 1.0))
    assert few is not None
    assert many is not None
    assert share_kept(many * 1.1, 3000, **PLANTED) >= 0.5 > share_kept(many * 0.9, 3000, **PLANTED)
    assert many == pytest.approx(4 * few, rel=0.1)
    assert customers_for(0.95, 1.0, "popularity", 3000, PLANTED) is None


def case(factor: int | None, epsilon: float, kept: float | None, **more) -> dict:
    base = {"scenario": "a", "method": "popularity", "items": 3000, "items_in_statistic": 3000}
    return {
        **base,
        "factor": factor,
        "epsilon": epsilon,
        "customers": 5_000 * (factor or 1),
        "gain_kept": kept,
        **more,
    }


def test_only_drawn_federations_are_fitted() -> None:
    drawn = [case(f, e, share_kept(5_000 * f * e, 3000, **PLANTED)) for f in (1, 10, 40) for e in (1.0, 4.0)]
    (found,) = fits([*drawn, case(None, 1.0, 0.9), case(2, 1.0, None), case(1, 1.0, 0.5, method="dpsgd")])
    assert found["cells"] == 6
    assert found["error"] < 1e-4
    assert found["half"] == pytest.approx(PLANTED["half"], rel=0.01)


def test_cells_are_the_real_data_and_every_size() -> None:
    wanted = cells_of([TINY], [10, 1, 40], ["cooccurrence", "dpsgd"], ["1", "2"], [0])
    sizes = [(cell.settings.method, cell.factor) for cell in wanted if cell.settings.epsilon == 1]
    assert sizes == [
        ("cooccurrence", None), ("dpsgd", None), ("cooccurrence", 1), ("dpsgd", 1),
        ("cooccurrence", 10), ("dpsgd", 10), ("cooccurrence", 40),
    ]  # fmt: skip
    assert len({cell.name for cell in wanted}) == len(wanted)
    with pytest.raises(UsageError, match="--epsilon none"):
        cells_of([TINY], [1], ["popularity"], ["none"], [0])


def test_a_small_law_from_cells_to_its_picture(tmp_path: Path) -> None:
    wanted = cells_of([TINY], [1, 3], ["popularity"], ["1", "4"], [0])
    folder = Folder(tmp_path / "cells")
    run(wanted, folder, load)
    found = collect(wanted, folder)
    assert [c["customers"] for c in found["cases"]] == [60, 60, 60, 60, 180, 180]
    assert [c["factor"] for c in found["cases"]] == [None, None, 1, 1, 3, 3]
    assert {c["shops"] for c in found["cases"] if c["factor"] == 3} == {6}
    json.dumps(found, allow_nan=False)
    page = "\n".join(text(found))
    for c in found["cases"]:
        assert f"{c['metrics']['model']['ndcg@10']:.4f}" in page
    assert render(found) == render(found)
    assert len(law_figure(found).axes) == 1
    more = collect(cells_of([TINY], [1, 3, 5], ["popularity"], ["1", "4"], [0]), folder)
    assert len(more["missing"]) == 2


def test_the_command_draws_what_is_there(tmp_path: Path) -> None:
    asked = ["law", "--scenario", TINY, "--factor", "1", "--method", "popularity", "--epsilon", "1"]
    where = ["--cells", str(tmp_path / "cells"), "--json"]
    done = CliRunner().invoke(typer.main.get_command(app), [*asked, *where])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["bench"] == "law"
    empty = CliRunner().invoke(typer.main.get_command(app), [*asked, "--cells", str(tmp_path), "--draw-only"])
    assert isinstance(empty.exception, UsageError)


def test_the_planner_goes_by_the_measured_law() -> None:
    """Whoever measures anew writes the constants into ``hansa.planner.payoff``."""
    for kind in KINDS:
        if kind.measured_on is not None:
            measured = json.loads((ROOT / "benchmarks" / "law.json").read_text())["laws"]
            (entry,) = [
                law
                for law in measured
                if (law["scenario"], law["method"]) == (kind.measured_on, "cooccurrence")
            ]
            wanted = [entry[name] for name in ("half", "power", "most")]
            assert [kind.half, kind.power, kind.most] == pytest.approx(wanted, rel=0.02), kind.name
