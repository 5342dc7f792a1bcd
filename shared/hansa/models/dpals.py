"""``dpals``: alternating least squares whose item step is solved from private sums, a published rival.

Private Alternating Least Squares (Chien et al., ICML 2021) with weights by item frequency (Krichene et al.,
"Multi-Task Differential Privacy Under Distribution Skew", ICML 2023, arXiv 2302.07975). A customer's factors
u follow from the own history and the public item factors; what leaves is what the items' least squares need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from hansa.dp.clipping import Contributions, OuterContributions
from hansa.dp.private_sum import Contribution, Release, Table
from hansa.dp.rowwise import root, row_sums, solve
from hansa.metrics import Scores
from hansa.models.base import Method, NoisySum, State, check_range
from hansa.models.cooccurrence import FLOOR, Cooccurrence
from hansa.models.optimizers import Memory
from hansa.models.popularity import COUNTS, counts_release
from hansa.rng import Generator
from hansa.schema import Histories

SQUARES = "squares"
ITEMS = "items"


@dataclass(frozen=True)
class Dpals(Method):
    """Counts, then in each round the sufficient statistics of all items' least squares.

    State: ``counts`` float32 [n_items, 1] and ``floor`` [1, 1] as of ``Cooccurrence``; ``items`` float32
    [vocabulary, dimensions], in the catalogue's order of the vocabulary.

    Attributes:
        n_items: Size of the catalogue.
        vocabulary: Best sellers that are learnt.
        dimensions: d.
        iterations: Rounds after the one that releases counts.
        count_share: Share of the budget (of 1 / sigma^2) that the counts get.
        exponent: Items weigh their noisy count to the power of minus this.
        everything: Weight of all items together as not had, beside 1 for those that a customer had.
        negative_weight: alpha, the weight of a single item that was not had.
        ridge: lambda of the customers' least squares.
        item_ridge: lambda of the items', in deviations of the noise of a matrix A_i.
        cap: Most interactions of a customer that count, newest first.
        popularity_weight: Share of the z-scored logarithm of the counts in the score.
    """

    n_items: int
    vocabulary: int = 300
    dimensions: int = 8
    iterations: int = 3
    count_share: float = 0.1
    exponent: float = 0.25
    everything: float = 0.5
    negative_weight: float = 1.0
    ridge: float = 1.0
    item_ridge: float = 3.0
    cap: int = 500
    popularity_weight: float = 0.1
    name: str = "dpals"

    def __post_init__(self) -> None:
        if not (1 <= self.dimensions <= 256 and 1 <= self.iterations <= 100):
            raise ValueError("dimensions must lie between 1 and 256, iterations between 1 and 100")
        check_range(self, 1e-6, 1e6, "negative_weight", "ridge", "item_ridge", "everything")
        if not 0 <= self.exponent <= 1:
            raise ValueError("exponent must lie between 0 and 1")
        _ = self._counter

    @property
    def size(self) -> int:
        """Items in the vocabulary."""
        return self._counter.size

    @property
    def _counter(self) -> Cooccurrence:
        """What keeps the counts and chooses the vocabulary."""
        return Cooccurrence(
            self.n_items,
            vocabulary=self.vocabulary,
            count_share=self.count_share,
            cap=self.cap,
            popularity_weight=self.popularity_weight,
        )

    def releases(self) -> list[Release]:
        """Counts, then one table of statistics a round, the rest of the budget in equal parts."""
        each = ((1 - self.count_share) / self.iterations) ** -0.5
        width = self.dimensions * (self.dimensions + 1) // 2 + self.dimensions
        squares = Release(SQUARES, rows=self.size + 1, width=width, noise_multiplier=each)
        counts = replace(counts_release(self.n_items), noise_multiplier=self.count_share**-0.5)
        return [counts] + [squares] * self.iterations

    def initial_state(self, generator: Generator) -> State:
        """Random item factors of norm about 1."""
        items = generator.standard_normal((self.size, self.dimensions)) / self.dimensions**0.5
        state = {name: np.zeros(shape, dtype=np.float32) for name, shape in self.state_shapes().items()}
        return {**state, ITEMS: items.astype(np.float32)}

    def state_shapes(self) -> dict[str, tuple[int, int]]:
        """Counts, their floor of noise, and item factors."""
        return {COUNTS: (self.n_items, 1), FLOOR: (1, 1), ITEMS: (self.size, self.dimensions)}

    def contributor(self, round_: int, release: Release, state: State) -> Contribution:
        """Counts, or each customer's part of every item's A_i = sum w_i u u^T and b_i = sum w_i u.

        A last row holds the same for all items together, as not had. That is the outer product of the
        weights and [u u^T, u], a symmetric matrix as its upper triangle with off-diagonals times sqrt(2),
        normalised: every customer uses the whole bound, which scales A and b alike.
        """
        if release.name == COUNTS:
            return self._counter.contributor(round_, release, state)
        over_vocabulary, weights = self._counter.over_vocabulary(state), self._weights(state)

        def squares(histories: Histories) -> Contributions:
            newest = over_vocabulary(histories)
            rows = newest.matrix()
            had = torch.from_numpy(rows.toarray()) * weights
            norms = root(row_sums(had.double().square_())).float()[:, None]
            own = self._factors(state[ITEMS], rows)
            first, second = torch.triu_indices(self.dimensions, self.dimensions)
            products = own[:, first] * own[:, second] * torch.where(first == second, 1.0, 2**0.5)
            anything = torch.where(norms > 0, self.everything, 0.0)
            coefficients = torch.cat([had / torch.where(norms > 0, norms, 1.0), anything], dim=1)
            return OuterContributions(coefficients, torch.cat([products, own], dim=1)).normalised()

        return squares

    def update(self, round_: int, release: Release, state: State, sum_: NoisySum, memory: Memory) -> State:
        """Keep the counts, or solve v_i = (A_i + alpha A + lambda I)^-1 b_i, A_i made positive first."""
        if release.name == COUNTS:
            return self._counter.update(round_, release, state, sum_, memory)
        d = self.dimensions
        first, second = np.triu_indices(d)
        total = sum_.total.astype(np.float64)
        squares = np.zeros((self.size + 1, d, d))
        squares[:, first, second] = total[:, :-d] / np.where(first == second, 1.0, 2**0.5)
        squares[:, second, first] = squares[:, first, second]
        values, vectors = np.linalg.eigh(squares)
        squares = (vectors * np.maximum(values, 0)[:, None]) @ vectors.mT
        ridge = max(self.item_ridge * sum_.noise_deviation * d**0.5, 1e-3) * np.eye(d)
        everything = self.negative_weight / self.everything * squares[-1]
        items = np.linalg.solve(squares[:-1] + everything + ridge, total[:-1, -d:, None])[:, :, 0]
        items /= max(float(np.sqrt((items**2).sum(axis=1).mean())), 1e-12)  # factors of norm about 1
        return {**state, ITEMS: items.astype(np.float32)}

    def score(self, state: Mapping[str, Table], histories: Histories) -> Scores:
        """As ``Cooccurrence``, with products of factors."""
        chosen = self._counter.chosen(state)
        scores = np.empty((len(histories), self.n_items), dtype=np.float32)
        for start, chunk in zip(range(0, len(histories), 256), histories.chunks(256), strict=True):
            rows = chunk.matrix()[:, chosen]
            personal = (self._factors(state[ITEMS], rows) @ torch.from_numpy(state[ITEMS]).T).numpy()
            scores[start : start + len(chunk)] = self._counter.over_catalogue(state, personal)
        return scores

    def _weights(self, state: State) -> Tensor:
        counts = np.maximum(
            state[COUNTS][self._counter.chosen(state), 0], max(float(state[FLOOR][0, 0]), 1e-3)
        )
        weights: npt.NDArray[np.float32] = counts.astype(np.float32) ** np.float32(-self.exponent)
        return torch.from_numpy(weights)

    def _factors(self, items: Table, rows: sp.csr_array) -> Tensor:
        """u = argmin sum_had (1 - v u)^2 + alpha sum_all (v u)^2 + lambda |u|^2: float32 [customers, d].

        Sparse products go row by row: nobody's rounding depends on the other customers.
        """
        table = torch.from_numpy(items)
        outer = (table[:, :, None] * table[:, None, :]).flatten(1).numpy()
        squares = torch.from_numpy(rows @ outer).view(-1, self.dimensions, self.dimensions)
        gram = self.negative_weight * table.T @ table + self.ridge * torch.eye(self.dimensions)
        return solve(squares + gram, torch.from_numpy(rows @ items))
