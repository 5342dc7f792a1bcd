"""``subspace``: co-occurrence of catalogues too large for a matrix [items, items], by its largest directions.

Counts, then a few rounds of the noisy power method (Hardt and Price 2014, arXiv 1311.2495; Balcan, Du, Wang
and Yu 2016, arXiv 1602.07046): the coordinator sends an orthonormal basis Q [items, d], each customer answers
with its part of G Q, and what the noisy sum spans is the next basis. A round releases items x d numbers,
where ``cooccurrence`` releases half of items^2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from hansa.dp.clipping import Contributions, RowContributions
from hansa.dp.private_sum import Contribution, Release, Table
from hansa.dp.rowwise import root, row_sums
from hansa.metrics import Scores
from hansa.models.base import Method, NoisySum, State
from hansa.models.cooccurrence import EMBEDDINGS, FLOOR, Cooccurrence
from hansa.models.optimizers import Memory
from hansa.models.popularity import COUNTS, counts_release
from hansa.rng import Generator
from hansa.schema import Histories, IntArray

BLOCK = "block"
BASIS = "basis"
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Subspace(Method):
    """The noisy power method on co-occurrence, then EASE on what it found, as ``Cooccurrence`` has it.

    State: ``counts``, ``floor`` and ``embeddings`` [vocabulary, dimensions] as of ``Cooccurrence``;
    ``basis`` float32 [vocabulary, dimensions], orthogonal columns of norm 1 or less.

    Attributes:
        n_items: Size of the catalogue.
        dimensions: d.
        iterations: Rounds after the one that releases counts.
        vocabulary: Best sellers in the co-occurrence; 0: the whole catalogue.
        count_share: Share of the budget (of 1 / sigma^2) that the counts get.
        growth: Each round's budget over that of the round before.
        cap: Most interactions of a customer that count, newest first.
        threshold: What is taken off a direction's strength, in spectral norms of the noise.
        regularisation: lambda of the EASE, for a customer who weighs 1 in all.
        popularity_weight: Share of the z-scored logarithm of the counts in the score.
        recency: As of ``Cooccurrence``, in the customer's own scores alone.
    """

    n_items: int
    dimensions: int = 64
    iterations: int = 3
    vocabulary: int = 0
    count_share: float = 0.1
    growth: float = 2.0
    cap: int = 500
    threshold: float = 0.8
    regularisation: float = 50.0
    popularity_weight: float = 0.1
    recency: float = 0.5
    name: str = "subspace"

    def __post_init__(self) -> None:
        if not (1 <= self.dimensions <= 1_024 and 1 <= self.iterations <= 100):
            raise ValueError("dimensions must lie between 1 and 1,024, iterations between 1 and 100")
        if self.vocabulary < 0:
            raise ValueError("vocabulary must be at least 1, or 0 for the whole catalogue")
        if not 0.01 <= self.growth <= 100:
            raise ValueError("growth must lie between 0.01 and 100")
        _ = self._scorer

    @property
    def size(self) -> int:
        """Items in the vocabulary."""
        return min(self.vocabulary or self.n_items, self.n_items)

    @property
    def width(self) -> int:
        """Columns of the basis."""
        return min(self.dimensions, self.size)

    @property
    def _scorer(self) -> Cooccurrence:
        """What chooses the vocabulary, keeps the counts and scores."""
        return Cooccurrence(
            self.n_items,
            vocabulary=self.size,
            count_share=self.count_share,
            cap=self.cap,
            threshold=self.threshold,
            regularisation=self.regularisation,
            popularity_weight=self.popularity_weight,
            rank=self.width,
            recency=self.recency,
        )

    def releases(self) -> list[Release]:
        """Counts, then one block a round, with noise such that each gets its share of the budget."""
        shares = self.growth ** np.arange(self.iterations)
        shares *= (1 - self.count_share) / shares.sum()
        counts = replace(counts_release(self.n_items), noise_multiplier=self.count_share**-0.5)
        block = Release(BLOCK, self.size, self.width)
        return [counts, *(replace(block, noise_multiplier=float(share**-0.5)) for share in shares)]

    def initial_state(self, generator: Generator) -> State:
        """A random basis."""
        state = {name: np.zeros(shape, dtype=np.float32) for name, shape in self.state_shapes().items()}
        directions = generator.standard_normal((self.size, self.width)).astype(np.float32)
        return {**state, BASIS: np.linalg.qr(directions).Q}

    def state_shapes(self) -> dict[str, tuple[int, int]]:
        """Counts, their floor of noise, the basis, and embeddings."""
        shape = (self.size, self.width)
        return {COUNTS: (self.n_items, 1), FLOOR: (1, 1), BASIS: shape, EMBEDDINGS: shape}

    def contributor(self, round_: int, release: Release, state: State) -> Contribution:
        """Counts, or each customer's x (Q^T x)^T / |x (Q^T x)^T| over the vocabulary.

        With x of norm 1 that is the customer's part of G Q over |Q^T x|: the sum is G_w Q of a co-occurrence
        G_w that weighs a customer more the less the basis knows of it, and each uses the whole bound.
        """
        if release.name == COUNTS:
            return self._scorer.contributor(round_, release, state)
        over_vocabulary, basis = self._scorer.over_vocabulary(state), state[BASIS]

        def blocks(histories: Histories) -> Contributions:
            newest = over_vocabulary(histories)
            factors = torch.from_numpy(newest.matrix() @ basis).double()
            norms = root(row_sums(factors.square()) * torch.from_numpy(newest.lengths))
            factors /= torch.where(norms > 0, norms, 1.0)[:, None]
            customers = torch.from_numpy(newest.rows_index)
            items = torch.from_numpy(newest.items.astype(np.int64))
            return RowContributions(len(newest), customers, items, factors[customers])

        return blocks

    def update(self, round_: int, release: Release, state: State, sum_: NoisySum, memory: Memory) -> State:
        """Keep the counts, or take the noisy block Y = U diag(s) W^T: U is the next basis, at last the model.

        The noise alone would have singular values up to edge = deviation (sqrt(items) + sqrt(d)) (Davidson
        and Szarek 2001). Of each direction the share k = max(0, 1 - threshold edge / s) is kept. The
        eigenvalue of u_i is the least-squares one of u_i^T Y = l_i u_i^T Q.
        """
        if release.name == COUNTS:
            return self._scorer.update(round_, release, state, sum_, memory)
        left, strengths, _ = np.linalg.svd(sum_.total, full_matrices=False)
        if round_ <= self.iterations:
            return {**state, BASIS: left}
        edge = sum_.noise_deviation * (self.size**0.5 + self.width**0.5)
        kept = np.clip(1 - self.threshold * edge / np.maximum(strengths, 1e-30), 0, 1)
        along = left.T @ state[BASIS]
        squares = np.maximum((along**2).sum(axis=1), 1e-12)
        values = np.maximum(((left.T @ sum_.total) * along).sum(axis=1) / squares, 0) * kept
        shares = values / (values + self.regularisation)
        return {**state, EMBEDDINGS: (left * np.sqrt(shares)).astype(np.float32)}

    def score(self, state: Mapping[str, Table], histories: Histories) -> Scores:
        """That of ``Cooccurrence``."""
        return self._scorer.score(state, histories)

    def contributions(self, state: Mapping[str, Table], history: Histories, listed: IntArray) -> Scores:
        """Those of ``Cooccurrence``."""
        return self._scorer.contributions(state, history, listed)
