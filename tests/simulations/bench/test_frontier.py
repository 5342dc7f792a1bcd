"""The frontier's cells, its document, and its picture."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from hansa.errors import UsageError
from hansa.plan import METHODS
from hansa_simulations.bench import timing
from hansa_simulations.bench.cells import Folder, run
from hansa_simulations.bench.commands import app
from hansa_simulations.bench.frontier import LINES, SCENARIOS, cells_of, collect, load, ordered, text
from hansa_simulations.bench.frontier_plot import METHOD_LABELS, frontier_figure, places, render

TINY = "synthetic:random20:scenario.customers=60:scenario.items=90:scenario.shops=2"
SAME = TINY.replace("random20", "last20")


def asked(seeds: int = 2):
    return cells_of([TINY, SAME], list(METHODS), ["1", "4", "none"], range(seeds), dp="central")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    made = Folder(tmp_path_factory.mktemp("cells"))
    run(asked(), made, load)
    return made


@pytest.fixture(scope="module")
def found(folder: Folder) -> timing.Document:
    return collect(asked(), folder)


def test_cells_are_the_product_seed_by_seed() -> None:
    wanted = asked()
    assert len(wanted) == len({cell.name for cell in wanted}) == 2 * len(METHODS) * 3 * 2
    assert [cell.settings.seed for cell in wanted] == sorted(cell.settings.seed for cell in wanted)
    assert {(cell.settings.dp, cell.settings.epsilon) for cell in wanted} == {
        ("central", 1.0),
        ("central", 4.0),
        ("none", None),
    }
    assert {cell.settings.delta for cell in wanted} == {1e-5}


def test_the_defaults_say_what_they_mean() -> None:
    chosen = {
        cell.scenario: cell.settings for cell in cells_of(SCENARIOS, ["popularity"], ["1"], [0], dp="local")
    }
    assert list(chosen) == list(SCENARIOS)
    assert chosen["ml-1m:random20"].protocol == "random20"
    last = chosen["ml-100k:last1:data.min_rating=4"]
    assert (last.scenario, last.protocol, last.data.min_rating, last.dp) == ("ml-100k", "last1", 4, "local")
    (short,) = cells_of(["journey"], ["popularity"], ["1"], [0], dp="central")
    assert short.scenario == "journey:last20"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["magic"]}, "--method"),
        ({"epsilons": ["much"]}, "--epsilon much"),
        ({"epsilons": ["-1"]}, "--epsilon -1"),
        ({"scenarios": ["journey:last21"]}, "--protocol last21"),
        ({"scenarios": ["journey:last20:data.colour=1"]}, "data.colour"),
    ],
)
def test_what_is_wrong_is_named(change, message: str) -> None:
    good = {"scenarios": [TINY], "methods": ["popularity"], "epsilons": ["1"]}
    with pytest.raises(UsageError, match=message):
        cells_of(**{**good, **change}, seeds=[0], dp="central")


def test_the_document_holds_means_of_the_cells(folder: Folder, found: timing.Document) -> None:
    wanted = [
        cell
        for cell in asked()
        if (cell.scenario, cell.settings.method, cell.settings.epsilon) == (SAME, "cooccurrence", 4.0)
    ]
    runs = [folder.read(cell) for cell in wanted]
    values = [run["metrics"]["model"]["ndcg@10"] for run in runs]
    (case,) = [
        case
        for case in found["cases"]
        if (case["scenario"], case["method"], case["epsilon"]) == (SAME, "cooccurrence", 4.0)
    ]
    assert case["metrics"]["model"]["ndcg@10"] == pytest.approx(sum(values) / 2)
    assert case["metrics_sd"]["model"]["ndcg@10"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert case["epsilon_spent"] <= 4
    assert [run["seed"] for run in case["runs"]] == case["seeds"] == [0, 1]
    (scenario,) = [scenario for scenario in found["scenarios"] if scenario["name"] == SAME]
    model, alone, pooled = (
        case["metrics"]["model"]["ndcg@10"],
        scenario["references"]["alone"]["ndcg@10"],
        scenario["references"]["pooled"]["ndcg@10"],
    )
    if case["gain_kept"] is not None:
        assert case["gain_kept"] == pytest.approx((model - alone) / (pooled - alone))
    assert case["ratio"] == pytest.approx(model / alone)
    assert {"name", "items", "seconds", "ratio", "baseline"} <= set(case)
    assert found["missing"] == found["stale"] == []
    json.dumps(found, allow_nan=False)


def test_pages_tell_every_figure_and_what_is_missing(folder: Folder, found: timing.Document) -> None:
    page = "\n".join(text(found))
    for case in found["cases"]:
        for model in ("model", "shared"):
            value, sd = (case[part][model]["ndcg@10"] for part in ("metrics", "metrics_sd"))
            assert f"{value:.4f} ± {sd:.4f}" in page
    assert "declared number of customers" in page
    assert re.search(r"- cooccurrence, epsilon .*1, 4: vocabulary \d+", page)
    assert "Missing" not in page
    more = collect([*asked(3)], folder)
    assert len(more["missing"]) == len(asked(3)) - len(asked())
    assert more["missing"][0] in "\n".join(text(more))
    assert collect(asked(1), folder)["cases"][0]["metrics_sd"] is None


def test_stale_cells_are_told(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_code", "other")
    stale = collect(asked(), folder)
    assert stale["stale"] == [cell.name for cell in asked()]
    assert "Stale (run with other code" in "\n".join(text(stale))


@pytest.mark.parametrize("old", [0, 1])
def test_what_a_scenario_is_compared_with_is_not_stale(folder: Folder, tmp_path: Path, old: int) -> None:
    pair = cells_of([TINY], ["popularity", "cooccurrence"], ["4"], [0], dp="central")
    mixed, past = Folder(tmp_path), Folder(tmp_path)
    past._code = "other"
    for position, cell in enumerate(pair):
        result = json.loads(json.dumps(folder.read(cell)))
        genuine = result["metrics"]["pooled"]["ndcg@10"]
        result["notes"] = [f"method: {cell.settings.method}"]
        if position == old:
            result["metrics"]["pooled"]["ndcg@10"] = -1.0
        (past if position == old else mixed).write(cell, result)
    made = collect(pair, mixed)
    assert made["stale"] == [pair[old].name]
    (scenario,) = made["scenarios"]
    assert scenario["references"]["pooled"]["ndcg@10"] == genuine
    assert scenario["seeds"] == [0]
    assert {case["method"]: case["notes"] for case in made["cases"]} == {
        "popularity": ["method: popularity"],
        "cooccurrence": ["method: cooccurrence"],
    }
    assert "notes" not in scenario


def test_no_cell_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no cell"):
        collect(asked(), Folder(tmp_path))


def test_epsilons_stand_in_order_and_apart() -> None:
    assert ordered([None, 4.0, 0.5, 4.0]) == [0.5, 4.0, None]
    assert places([0.5, 4.0, None]) == [-1, 2, 3.5]
    assert places([None]) == [1.5]


def test_the_picture_has_a_panel_a_scenario_and_its_labels_do_not_touch(found: timing.Document) -> None:
    figure = frontier_figure(found)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == 2
    for axes in panels:
        names = {*LINES, *METHODS, *METHOD_LABELS.values()} - set(METHOD_LABELS)
        labels = [label for label in axes.texts if label.get_text() in names | {"popularity"}]
        assert {label.get_text() for label in labels} == names | {"popularity"}
        boxes = sorted((Text.get_window_extent(label, renderer) for label in labels), key=lambda box: box.y0)
        for below, above in pairwise(boxes):  # boxes have room for p and d in every word
            assert above.y0 - below.y1 > -3
        assert max(box.x1 for box in boxes) <= axes.get_window_extent(renderer).x1 + 4
    assert render(found) == render(found)


def test_the_command_runs_draws_and_goes_on(tmp_path: Path) -> None:
    asked_for = ["frontier", "--scenario", TINY, "--method", "popularity", "--epsilon", "2"]
    where = ["--cells", str(tmp_path / "cells"), "--out", str(tmp_path / "out"), "--json"]
    import typer.main

    command = typer.main.get_command(app)
    first = CliRunner().invoke(command, [*asked_for, *where, "--seeds", "1"])
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["bench"] == "frontier"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "frontier.json",
        "frontier.md",
        "frontier.svg",
    ]
    drawn = CliRunner().invoke(command, [*asked_for, *where, "--seeds", "2", "--draw-only"])
    assert drawn.exit_code == 0, drawn.output
    assert len(json.loads(drawn.stdout)["missing"]) == 1


def test_an_interrupted_command_still_writes_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer.main

    from hansa_simulations.bench import cells

    genuine = cells.simulate_on

    def only_epsilon_2(prepared, settings):
        if settings.epsilon != 2:
            raise KeyboardInterrupt
        return genuine(prepared, settings)

    monkeypatch.setattr(cells, "simulate_on", only_epsilon_2)
    arguments = ["frontier", "--scenario", TINY, "--method", "popularity", "--epsilon", "2", "--epsilon", "4"]
    where = ["--cells", str(tmp_path / "cells"), "--seeds", "1", "--json"]
    done = CliRunner().invoke(typer.main.get_command(app), [*arguments, *where])
    assert done.exit_code == 130
    assert json.loads(done.stdout)["missing"] == [f"{TINY} popularity central epsilon 4 seed 0"]
