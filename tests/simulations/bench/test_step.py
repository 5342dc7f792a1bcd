"""All ways take the same step where there is no noise, and the document says what was measured."""

import json

import numpy as np
import pytest
import torch

from hansa.dp.opacus_reference import WAYS, stepper
from hansa_simulations.bench import step as bench
from hansa_simulations.bench import timing

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def moved(way: str, bound: float, rows: torch.Tensor) -> np.ndarray:
    torch.manual_seed(0)
    model = bench.Sampled(50, 8).double()
    before = model.items.weight.detach().clone()
    step = stepper(way, model, rate=1.0, noise_multiplier=0.0, bound=bound, expected=len(rows))
    step(rows)
    return (model.items.weight.detach() - before).numpy()


@pytest.mark.parametrize("bound", [1e-3, 1e6])
def test_all_ways_take_the_same_step(bound: float) -> None:
    rows = bench.batch(50, customers=6)
    private = [moved(way, bound, rows) for way in WAYS if way != "dense"]
    size = np.abs(private[0]).max()
    assert size > 0
    for other in private[1:]:
        np.testing.assert_allclose(other, private[0], rtol=1e-2, atol=1e-3 * size)
    dense = moved("dense", bound, rows)
    assert np.allclose(dense, private[0], atol=1e-4 * size) == (bound > 1)


def test_the_document_has_every_way_and_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "peak_bytes", lambda way, items: 10**6)
    found = bench.measure(1, sizes=(60,))
    assert [case["name"] for case in found["cases"]] == list(bench.NAMES.values())
    for case in found["cases"]:
        assert case["baseline"] == "without DP"
        assert {"items", "seconds", "ratio", "peak_mb", "peak_tables"} <= set(case)
    assert found["threads"] == 2
    json.dumps(found, allow_nan=False)
    assert any(line.startswith("| Opacus ghost | 60 |") for line in bench.text(found))
    assert timing.machine_line(found) in bench.text(found)


def test_hooks_are_left_out_where_they_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench._hooks_fit(100)
    assert not bench._hooks_fit(10**9)


def test_peak_memory_sees_what_a_step_takes() -> None:
    """Hooks keep a gradient of every customer: 256 tables, and the sparse way nothing like it."""
    table = 4 * 20_000 * bench.WIDTH
    assert bench.peak_bytes("sparse", 20_000) < 15 * table
    assert bench.peak_bytes("hooks", 20_000) > 200 * table
