"""What a method of learning is: public state, releases from customers, and scores at a shop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch.nn import Parameter
from torch.optim import Optimizer

from hansa.dp.clipping import Contributions
from hansa.dp.private_sum import Contribution, Release, Table
from hansa.metrics import Scores
from hansa.models.contributions import left_out
from hansa.models.optimizers import Memory
from hansa.rng import Generator
from hansa.schema import Histories, IntArray

State = dict[str, Table]
"""Everything that is public of a model: named float32 arrays [rows, width], never changed in place."""


@dataclass(frozen=True)
class NoisySum:
    """A release summed over shops.

    Attributes:
        total: float32 [rows, width], noise included.
        noise_deviation: Standard deviation of the noise in each entry of ``total``.
        customers: Declared number of customers expected to have taken part.
    """

    total: Table
    noise_deviation: float
    customers: float

    @property
    def mean(self) -> Table:
        """``total`` for each declared customer."""
        return self.total / np.float32(max(self.customers, 1.0))


def check_range(settings: object, low: float, high: float, *names: str) -> None:
    """Of settings of a plan from elsewhere: what scales a contribution is finite, and within reason.

    Raises:
        ValueError: One of them is not.
    """
    for name in names:
        if not low <= getattr(settings, name) <= high:
            raise ValueError(f"{name} must lie between {low:g} and {high:g}")


class Method(ABC):
    """A federated way to learn a recommender from a sequence of private sums.

    Implementations hold public hyperparameters only. A contribution is a pure function of one
    customer's row and of public state, to the last bit: it never sees other customers, nor does its rounding
    (``hansa.dp.rowwise``).
    """

    name: str

    @abstractmethod
    def releases(self) -> list[Release]:
        """The releases of a whole run, one a round; their noise multipliers are relative to each other."""

    @abstractmethod
    def initial_state(self, generator: Generator) -> State:
        """The public state before the first release."""

    @abstractmethod
    def state_shapes(self) -> dict[str, tuple[int, int]]:
        """Name and shape of every array of the public state."""

    @abstractmethod
    def contributor(self, round_: int, release: Release, state: State) -> Contribution:
        """What a chunk of customers contributes to the release of a round (from 1).

        Whatever depends on public state alone is worked out here, once, and not for every chunk.
        """

    def contribution(
        self, round_: int, release: Release, state: State, histories: Histories
    ) -> Contributions:
        """``contributor`` applied to a single chunk."""
        return self.contributor(round_, release, state)(histories)

    @abstractmethod
    def update(self, round_: int, release: Release, state: State, sum_: NoisySum, memory: Memory) -> State:
        """The coordinator's step from a noisy sum to the next public state.

        Args:
            round_: The round, from 1.
            release: What was released.
            state: The public state that the contributions were formed with.
            sum_: The aggregated release.
            memory: The coordinator's own state between rounds (e.g. momentum), changed in place.

        Returns:
            The next public state.
        """

    def local_optimizer(self, parameters: list[Parameter]) -> Optimizer:
        """What steps a shop's own copy of the table between its private sums, where a release has several.

        The coordinator's ``update`` then gets the shop's whole way in place of a gradient.
        """
        raise NotImplementedError(f"{self.name} takes one step a round")

    @abstractmethod
    def score(self, state: Mapping[str, Table], histories: Histories) -> Scores:
        """Scores of all items from public state and each customer's own row: float32 [customers, items]."""

    def score_before(self, state: Mapping[str, Table], kept: Histories, whole: Histories) -> Scores:
        """Scores of ``kept`` rows for judging the model on what else is in ``whole``, which it learnt from.

        Here those of ``score``: what a model remembers of a customer is limited by its privacy, not at
        all without any. A method that can take a customer's own part out again does so.

        Args:
            state: The public state.
            kept: What the scores may know of each customer.
            whole: What the same customers contributed.
        """
        return self.score(state, kept)

    def contributions(self, state: Mapping[str, Table], history: Histories, listed: IntArray) -> Scores:
        """What each item that one customer has had adds to ``score``: float32 [items had, listed].

        Here by leaving out one at a time, see ``left_out``; a method that is linear in it knows better.

        Args:
            state: The public state.
            history: One customer.
            listed: Positions of the items that are scored.
        """
        return left_out(lambda histories: self.score(state, histories), history, listed)
