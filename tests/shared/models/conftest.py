"""A league of three tastes, and what it takes to teach a method on it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hansa.dp.clipping import clipped_sum
from hansa.metrics import evaluate
from hansa.models.base import Method, NoisySum, State
from hansa.rng import seeded_generator
from hansa.schema import Histories


@pytest.fixture(scope="session")
def tastes() -> Callable[..., Histories]:
    """Three groups of items; a customer buys mostly from one."""

    def draw(
        customers: int, seed: int = 0, items: int = 60, liked: float = 0.4, other: float = 0.03
    ) -> Histories:
        rng = seeded_generator(seed, "tastes")
        group = rng.integers(0, 3, (customers, 1))
        likes = np.where(np.arange(items)[None] % 3 == group, liked, other)
        return Histories.from_pairs(*np.nonzero(rng.random((customers, items)) < likes), customers, items)

    return draw


@pytest.fixture(scope="session")
def learn() -> Callable[..., State]:
    """Takes a method through all of its releases, with noise of one deviation in each."""

    def run(method: Method, rows: Histories, noise: float = 0.0) -> State:
        state = method.initial_state(seeded_generator(0))
        for round_, release in enumerate(method.releases(), start=1):
            total = np.zeros((release.rows, release.width), dtype=np.float32)
            clipped_sum([method.contribution(round_, release, state, rows)], 1.0, torch.from_numpy(total))
            total += (noise * seeded_generator(round_, "noise").standard_normal(total.shape)).astype(
                np.float32
            )
            state = method.update(round_, release, state, NoisySum(total, noise, len(rows)), {})
        return state

    return run


@pytest.fixture(scope="session")
def accuracy() -> Callable[..., float]:
    """ndcg@10 of every second item of a customer, given the others."""

    def measure(method: Method, state: State, rows: Histories) -> float:
        kept = rows.where(np.arange(len(rows.items)) % 2 == 0)
        held = rows.where(np.arange(len(rows.items)) % 2 == 1)
        return float(np.nanmean(evaluate(lambda some: method.score(state, some), kept, held)["ndcg@10"]))

    return measure
