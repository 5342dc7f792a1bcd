"""Ladders, exponents, and figures that belong to the process that they are about."""

import json
from pathlib import Path

import pytest

from hansa_simulations.bench import scale, timing
from hansa_simulations.bench.scale import AXES, FULL, MEASURES, QUICK, Ladders, Point
from hansa_simulations.bench.scale_plot import render

SMALL = Ladders(
    {"customers": 100, "items": 40, "shops": 2},
    {"customers": (100, 200, 400, 800), "items": (40, 80), "shops": (2, 4, 8)},
)


def cost(point: Point) -> dict[str, float]:
    """Linear in customers with a constant that hides it below, square-root in items, flat in shops."""
    seconds = (1 + point.customers**2 * 1e-9) * point.items**0.5
    return {
        "seconds": seconds,
        "total_seconds": float(point.customers),
        "other_seconds": 1.0,
        "peak_mb": 400.0 + point.shops**2,
    }


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> timing.Document:
    monkeypatch.setattr(scale, "run_alone", cost)
    monkeypatch.setattr(scale, "baseline", lambda: 400.0)
    return scale.measure(SMALL, repeats=2, methods=["dpsgd", "cooccurrence"])


@pytest.mark.parametrize("ladders", [FULL, QUICK, SMALL])
def test_a_ladder_varies_one_size_and_goes_through_the_middle(ladders: Ladders) -> None:
    for axis in AXES:
        points = ladders.points("dpsgd", axis)
        assert Point("dpsgd", **ladders.middle) in points
        for other in set(AXES) - {axis}:
            assert {getattr(point, other) for point in points} == {ladders.middle[other]}
        sizes = [getattr(point, axis) for point in points]
        assert sizes == sorted(set(sizes))
        assert len(sizes) > 1


def test_exponents_are_those_of_the_last_three_points(found: timing.Document) -> None:
    fitted = {(row["method"], row["axis"], row["measure"]): row for row in found["exponents"]}
    assert len(fitted) == 2 * len(AXES) * len(MEASURES)
    assert fitted["dpsgd", "items", "seconds"]["exponent"] == pytest.approx(0.5)
    assert fitted["dpsgd", "customers", "total_seconds"]["exponent"] == pytest.approx(1)
    assert fitted["dpsgd", "shops", "memory_mb"]["exponent"] == pytest.approx(2)
    assert fitted["dpsgd", "shops", "seconds"]["exponent"] == pytest.approx(0, abs=1e-12)
    bent = fitted["dpsgd", "customers", "seconds"]
    assert bent["points"] == 3
    assert bent["range"][0] < bent["exponent"] < bent["range"][1]


def test_each_point_runs_once_a_turn_and_turns_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Point] = []

    def run(point: Point) -> dict[str, float]:
        ran.append(point)
        return cost(point)

    monkeypatch.setattr(scale, "run_alone", run)
    monkeypatch.setattr(scale, "baseline", lambda: 400.0)
    scale.measure(SMALL, repeats=2, methods=["dpsgd"])
    first, second = ran[: len(ran) // 2], ran[len(ran) // 2 :]
    assert second == first[::-1]
    assert len(set(first)) == len(first) == 4 + 2 + 3 - 2  # the middle is shared by three ladders


def test_documents_hold_the_contract_and_every_figure(found: timing.Document, tmp_path: Path) -> None:
    written = timing.write(found, scale.text(found), tmp_path, render)
    assert [path.name for path in written] == ["scale.json", "scale.md", "scale.svg"]
    cases = json.loads(written[0].read_text())["cases"]
    assert len(cases) == 2 * (4 + 2 + 3)
    for case in cases:
        assert {"name", "items", "seconds", "ratio", "baseline"} <= set(case)
        assert case["ratio"] == pytest.approx(
            case["seconds"] / next(other["seconds"] for other in cases if other["name"] == case["baseline"])
        )
    markdown = written[1].read_text()
    assert "| dpsgd, 800 | 6.329 | 800.0 | 1.0 | 4 |" in markdown
    assert "| cooccurrence, items | 0.50 (0.50 to 0.50) |" in markdown
    assert "hansa simulate synthetic --method dpsgd" in markdown
    assert render(found) == written[2].read_bytes()


def test_a_point_is_a_run_of_the_command_in_a_process_of_its_own() -> None:
    point = Point("dpsgd", customers=60, items=100, shops=3)
    figures, imports = scale.run_alone(point), scale.baseline()
    assert 0 < figures["seconds"] < figures["total_seconds"]
    assert 0 <= figures["other_seconds"] < figures["total_seconds"]
    assert imports < figures["peak_mb"] < imports + 200


def test_a_point_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="9 are more than the 3 customers"):
        scale.run_alone(Point("dpsgd", customers=3, items=100, shops=9))
