import math

import numpy as np
import pytest
import torch

from hansa.models.optimizers import KINDS, ServerOptimizer
from hansa.rng import seeded_generator

PLANNED = 8
DIRECTIONS = seeded_generator(0, "directions").standard_normal((PLANNED, 5, 3)).astype(np.float32)


def walk(optimizer):
    memory, here = {}, np.zeros((5, 3), dtype=np.float32)
    path = []
    for index, direction in enumerate(DIRECTIONS, start=1):
        here = here - optimizer.step(index, PLANNED, direction, memory)
        path.append(here)
    return np.stack(path), memory


def torch_walk(make):
    """The same with torch's optimiser and the stated schedule."""
    here = torch.zeros(5, 3, requires_grad=True)
    optimizer = make([here])
    path = []
    for index, direction in enumerate(DIRECTIONS):
        for group in optimizer.param_groups:
            group["lr"] = 0.3 * 0.5 * (1 + math.cos(math.pi * index / PLANNED))
        here.grad = torch.from_numpy(direction)
        optimizer.step()
        path.append(here.detach().numpy().copy())
    return np.stack(path)


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("fedavg", lambda p: torch.optim.SGD(p, lr=0.3)),
        ("momentum", lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.8)),
        ("fedadam", lambda p: torch.optim.Adam(p, lr=0.3, betas=(0.8, 0.95), eps=1e-8)),
    ],
)
def test_steps_are_those_of_torch(kind, make):
    path, _ = walk(ServerOptimizer(kind, rate=0.3, momentum=0.8, second=0.95))
    np.testing.assert_allclose(path, torch_walk(make), atol=1e-5)
    assert path.dtype == np.float32


def test_scalar_adam_has_one_scale_for_the_table():
    optimizer = ServerOptimizer("scalar-adam", rate=0.3, momentum=0.8, second=0.95)
    path, _ = walk(optimizer)
    first = second = 0.0
    here = np.zeros((5, 3))
    for index, direction in enumerate(DIRECTIONS, start=1):
        first = 0.8 * first + 0.2 * direction
        second = 0.95 * second + 0.05 * float((direction.astype(np.float64) ** 2).mean())
        rate = 0.3 * 0.5 * (1 + math.cos(math.pi * (index - 1) / PLANNED))
        here = here - rate * first / (1 - 0.8**index) / math.sqrt(second / (1 - 0.95**index))
        np.testing.assert_allclose(path[index - 1], here, atol=1e-5)
    entrywise, _ = walk(ServerOptimizer("fedadam", rate=0.3, momentum=0.8, second=0.95))
    assert np.abs(entrywise - path).max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_the_rate_falls_to_nothing(kind):
    optimizer = ServerOptimizer(kind, momentum=0.0, second=0.0)
    ones = np.ones((2, 2), dtype=np.float32)
    rates = [float(optimizer.step(index, 10, ones, {})[0, 0]) for index in range(1, 12)]
    assert rates[0] == pytest.approx(0.1, rel=1e-5)
    assert rates == sorted(rates, reverse=True)
    assert rates[5] == pytest.approx(0.05, rel=1e-5)
    assert rates[10] == pytest.approx(0.0, abs=1e-8)


def test_memory_is_what_distinguishes_the_kinds():
    assert {kind: set(walk(ServerOptimizer(kind))[1]) for kind in KINDS} == {
        "fedavg": set(),
        "momentum": {"first"},
        "fedadam": {"first", "second"},
        "scalar-adam": {"first", "second"},
    }


def test_directions_are_not_changed_in_place():
    for kind in KINDS:
        before = DIRECTIONS.copy()
        walk(ServerOptimizer(kind))
        np.testing.assert_array_equal(DIRECTIONS, before)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown optimizer 'adamw'; use one of: fedavg, momentum"):
        ServerOptimizer("adamw")
