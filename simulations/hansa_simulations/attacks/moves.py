"""How far one customer moves a sum before its noise, by any method: each is left out once, exactly."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from hansa.dp.ledger import Budget, Ledger
from hansa.dp.private_sum import Door, Release, Table
from hansa.models.base import Method, State
from hansa.rng import seeded_generator
from hansa.schema import Histories

ROUNDING = 1e-5
"""Sums leave as float32, whose own rounding no bound covers where there is no noise."""
TIGHTER = 10.0
"""Contributions of most methods have the norm of the bound; at a tenth of it clipping has something to do."""


def largest_move(learner: Method, round_: int, release: Release, state: State, customers: Histories) -> float:
    """The largest distance between the sums with and without one of the customers, over the bound.

    Args:
        learner: The method.
        round_: The round.
        release: What is released in it; the bound is tightened.
        state: The public state.
        customers: A few, each of whom is left out once.
    """
    bare = replace(
        release,
        bound=release.bound / TIGHTER,
        noise_multiplier=0.0,
        noise="gaussian",
        sampling_rate=1.0,
        steps=1,
    )
    contribution = learner.contributor(round_, release, state)
    coins = seeded_generator(0, "nothing is drawn")

    def total(some: Histories) -> Table:
        door = Door("none", Ledger(Budget(math.inf, 0.5)), "bare", coins, coins)
        return door.private_sum(bare, contribution, some).astype(np.float64)

    whole, everybody = total(customers), np.arange(len(customers))
    return max(
        float(np.linalg.norm(whole - total(customers.select(everybody != gone)))) / bare.bound
        for gone in everybody
    )
