"""How often each item is wanted: one private count over all shops, the least a federation can learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from hansa.dp.clipping import Contributions, RowContributions
from hansa.dp.private_sum import Contribution, Release, Table
from hansa.metrics import Scores
from hansa.models.base import Method, NoisySum, State
from hansa.models.optimizers import Memory
from hansa.rng import Generator
from hansa.schema import Histories

COUNTS = "counts"
MOST_INTERACTIONS = 3_000
"""A customer with more has millions of pairs: a plan from elsewhere must not fill a shop's memory."""


def counts_release(n_items: int) -> Release:
    """The release of normalised item counts: each customer's row has L2 norm 1."""
    return Release(COUNTS, rows=n_items, width=1, noise_multiplier=1.0)


def counts_contribution(histories: Histories, cap: int) -> Contributions:
    """Each customer's newest ``cap`` items at weight 1/sqrt(their number): norm 1, or 0 without items.

    A long history counts more than a short one, but only with the root of its length.
    """
    newest = histories.newest(cap)
    weights = 1.0 / np.sqrt(np.maximum(newest.lengths, 1))
    values = torch.from_numpy(np.repeat(weights, newest.lengths).astype(np.float32))[:, None]
    items = torch.from_numpy(newest.items.astype(np.int64))
    return RowContributions(len(newest), torch.from_numpy(newest.rows_index), items, values)


@dataclass(frozen=True)
class Popularity(Method):
    """Ranks items by a noisy count.

    Attributes:
        n_items: Size of the catalogue.
        cap: Most interactions of a customer that count, newest first.
    """

    n_items: int
    cap: int = 500
    name: str = "popularity"

    def __post_init__(self) -> None:
        if self.cap < 1:
            raise ValueError("cap must be at least 1")
        if self.cap > MOST_INTERACTIONS:
            raise ValueError(f"cap must be at most {MOST_INTERACTIONS:,}")

    def releases(self) -> list[Release]:
        """One release of counts."""
        return [counts_release(self.n_items)]

    def initial_state(self, generator: Generator) -> State:
        """No counts yet."""
        return {COUNTS: np.zeros((self.n_items, 1), dtype=np.float32)}

    def state_shapes(self) -> dict[str, tuple[int, int]]:
        """One column of counts."""
        return {COUNTS: (self.n_items, 1)}

    def contributor(self, round_: int, release: Release, state: State) -> Contribution:
        """See ``counts_contribution``."""
        return lambda histories: counts_contribution(histories, self.cap)

    def update(self, round_: int, release: Release, state: State, sum_: NoisySum, memory: Memory) -> State:
        """The counts are the state."""
        return {COUNTS: sum_.total}

    def score(self, state: Mapping[str, Table], histories: Histories) -> Scores:
        """The same counts for everyone."""
        return np.repeat(state[COUNTS].T, len(histories), axis=0)
