"""``hybrid``: co-occurrence first, then DP-SGD on what the recommendations come from.

One budget pays for counts, co-occurrence and gradients. The embeddings V of the co-occurrence turn a
customer's own history into a query q = sum_i (1 + age_i)^-p v_i, which needs no training; the output table W
that it meets starts as EASE's and is refined on a softmax loss for the customer's next items: multinomial
logistic regression on fixed features, a convex problem. Without a share of the budget it is
``cooccurrence``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from hansa.dp.clipping import Contributions
from hansa.dp.private_sum import Contribution, Release, Table
from hansa.dp.rowwise import Grid
from hansa.metrics import Scores
from hansa.models.base import NoisySum, State, check_range
from hansa.models.coins import coins
from hansa.models.cooccurrence import EMBEDDINGS, Cooccurrence, output_table, without_idle_columns
from hansa.models.optimizers import Memory, ServerOptimizer
from hansa.models.softmax import full_gradient
from hansa.schema import Histories

REFINEMENT = "refinement"


@dataclass(frozen=True)
class Hybrid(Cooccurrence):
    """Co-occurrence whose output table is refined by noisy gradients.

    State: that of ``Cooccurrence`` and ``refinement`` float32 [vocabulary, d + 1], what the gradients have
    added to the first d columns of the output table and to the items' biases; zero before them.

    Attributes:
        refinement_share: Share of the budget (of 1 / sigma^2) that the gradients get; 0 for none at all.
        refinement_rounds: Gradients, one a round, after counts and co-occurrence.
        dimensions: d, the leading dimensions of the output table that are refined.
        next_items: Items after a cut through a customer's history that the ones before it are to predict.
        temperature: Factor of the inner product in the softmax.
        optimizer: The coordinator's optimiser, see ``ServerOptimizer``.
        rate: Its first learning rate.
    """

    refinement_share: float = 0.0
    refinement_rounds: int = 10
    dimensions: int = 128
    next_items: int = 10
    temperature: float = 20.0
    optimizer: str = "fedadam"
    rate: float = 0.001
    name: str = "hybrid"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("refinement_rounds", "dimensions", "next_items"):
            if not 1 <= getattr(self, name) <= 10_000:
                raise ValueError(f"{name} must lie between 1 and 10,000")
        if not 0 <= self.refinement_share < 1:
            raise ValueError("refinement_share must be at least 0 and below 1")
        check_range(self, 1e-6, 1e6, "rate")
        check_range(self, 1e-3, 1e3, "temperature")
        _ = self._optimizer

    @property
    def _optimizer(self) -> ServerOptimizer:
        return ServerOptimizer(self.optimizer, self.rate)

    @property
    def _refined(self) -> int:
        return min(self.dimensions, self.rank, self.size)

    def releases(self) -> list[Release]:
        """Counts and pairs with what the gradients leave of the budget, then the gradients."""
        first = super().releases()
        if not self.refinement_share:
            return first
        left = (1 - self.refinement_share) ** -0.5
        gradient = Release(
            REFINEMENT,
            rows=self.size,
            width=self._refined + 1,
            noise_multiplier=(self.refinement_rounds / self.refinement_share) ** 0.5,
        )
        first = [replace(release, noise_multiplier=left * release.noise_multiplier) for release in first]
        return first + [gradient] * self.refinement_rounds

    def state_shapes(self) -> dict[str, tuple[int, int]]:
        """Those of ``Cooccurrence``, and the refinement."""
        return {**super().state_shapes(), REFINEMENT: (self.size, self._refined + 1)}

    def contributor(self, round_: int, release: Release, state: State) -> Contribution:
        """As ``Cooccurrence``, or each customer's gradient with respect to the refined columns, at norm 1.

        A public coin cuts the customer's history in two. The older part is the query; the next items after
        the cut are wanted, and all other items but those of the query are what they are compared with.
        """
        if release.name != REFINEMENT:
            return super().contributor(round_, release, state)
        over_vocabulary = self.over_vocabulary(state)
        table = without_idle_columns(state[EMBEDDINGS])
        refined = min(self._refined, table.shape[1])
        outputs = self._outputs(state)
        grid = Grid.of(outputs, outputs.shape[1])

        def gradients(histories: Histories) -> Contributions:
            newest = over_vocabulary(histories)
            rows, marks = newest.padded(self.cap)
            lengths = newest.lengths
            cut = 1 + np.floor(coins(round_, rows, marks)[:, 0] * (lengths - 1)).astype(np.int64)
            place = np.arange(rows.shape[1])
            given = marks & (place < cut[:, None])
            wanted = marks & (place >= cut[:, None]) & (place < cut[:, None] + self.next_items)
            older = newest.where(given[marks])
            queries = self.temperature * torch.from_numpy(older.matrix(self.recency) @ table)
            ones = queries.new_ones(len(queries), 1)
            gradient = full_gradient(
                grid,
                torch.cat([queries, ones], dim=1),
                torch.from_numpy(rows),
                torch.from_numpy(given),
                torch.from_numpy(wanted),
            )
            padding = queries.new_zeros(len(queries), self._refined - refined)
            factors = torch.cat([queries[:, :refined], padding, ones], dim=1)
            return replace(gradient, factors=factors).normalised()

        return gradients

    def update(self, round_: int, release: Release, state: State, sum_: NoisySum, memory: Memory) -> State:
        """As ``Cooccurrence``, or a step of the optimiser."""
        if release.name != REFINEMENT:
            return super().update(round_, release, state, sum_, memory)
        step = self._optimizer.step(round_ - 2, self.refinement_rounds, sum_.mean, memory)
        return {**state, REFINEMENT: state[REFINEMENT] - step}

    def _outputs(self, state: Mapping[str, Table]) -> Tensor:
        """The output table and the biases, float32 [vocabulary, used rank + 1]."""
        outputs = torch.from_numpy(output_table(without_idle_columns(state[EMBEDDINGS])))
        refinement = torch.from_numpy(state[REFINEMENT])
        refined = min(self._refined, outputs.shape[1])
        parts = [outputs[:, :refined] + refinement[:, :refined], outputs[:, refined:], refinement[:, -1:]]
        return torch.cat(parts, dim=1)

    def remembered(self, state: Mapping[str, Table], before: Histories, after: Histories) -> Scores:
        """That of ``Cooccurrence``; what the gradients remember of a customer stays."""
        return np.float32(self.temperature) * super().remembered(state, before, after)

    def factors(self, state: Mapping[str, Table]) -> tuple[Table, Table]:
        """As of ``Cooccurrence``, with the refined outputs at the softmax's temperature."""
        outputs = self._outputs(state).numpy()[:, :-1]
        return without_idle_columns(state[EMBEDDINGS]), np.float32(self.temperature) * outputs

    def personal(self, state: Mapping[str, Table], queries: sp.csr_array) -> Scores:
        """q W^T and the biases, at the softmax's temperature."""
        outputs = self._outputs(state).numpy()
        vectors = self.temperature * (queries @ without_idle_columns(state[EMBEDDINGS]))
        scores: Scores = vectors @ outputs[:, :-1].T + outputs[:, -1]
        return scores
