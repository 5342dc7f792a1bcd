"""Implicit alternating least squares for catalogues too large for EASE.

Hu, Koren & Volinsky 2008 in the parametrisation of Rendle et al. 2022 ("Revisiting the performance
of iALS on item recommendation benchmarks"): minimise
sum_{observed} (w_u'h_i - 1)^2 + a0 sum_{all} (w_u'h_i)^2 + lambda sum_u (|I_u| + a0 |I|)^nu |w_u|^2
and the same penalty on items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from hansa.metrics import Scores
from hansa.models.contributions import left_out
from hansa.rng import seeded_generator
from hansa.schema import Histories, IntArray

BATCH_CELLS = 1 << 16
"""Padded interactions solved at a time: with 64 dimensions 16 MB of gathered vectors."""


@dataclass(frozen=True)
class IalsSettings:
    """Hyperparameters of iALS, in the names of Rendle et al.

    Attributes:
        dimensions: Length of the vectors.
        unobserved: a0, weight of the unobserved cells.
        regularisation: lambda.
        frequency: nu, how the penalty grows with a row's number of interactions.
        sweeps: Alternations.
    """

    dimensions: int = 64
    unobserved: float = 0.1
    regularisation: float = 0.003
    frequency: float = 1.0
    sweeps: int = 8


@dataclass(frozen=True)
class Ials:
    """A fitted iALS; customers' vectors are solved from their histories when scoring.

    Attributes:
        items: H, float32 [items, dimensions].
        settings: What it was fitted with.
    """

    items: torch.Tensor
    settings: IalsSettings

    def score(self, histories: Histories, recency: float = 0.0) -> Scores:
        """w'h_i with w the least-squares vector of each history: float32 [customers, items].

        Every interaction counts alike: ``recency`` makes no difference here.
        """
        vectors = _solve(self.items, histories.offsets, histories.items, self.settings)
        return np.asarray((vectors @ self.items.T).numpy(), dtype=np.float32)

    def contributions(self, history: Histories, recency: float, listed: IntArray) -> Scores:
        """What each item that one customer has had adds, by leaving it out: float32 [items had, listed]."""
        return left_out(self.score, history, listed)

    @classmethod
    def fit(cls, histories: Histories, settings: IalsSettings | None = None, seed: int = 0) -> Ials:
        """Alternate from small random item vectors; the seed fixes these."""
        chosen = settings or IalsSettings()
        by_item = sp.csr_array(histories.matrix().T)
        offsets, customers = by_item.indptr.astype(np.int64), by_item.indices
        rng = seeded_generator(seed, "ials")
        start = rng.normal(0, 0.1 / np.sqrt(chosen.dimensions), (histories.n_items, chosen.dimensions))
        items = torch.from_numpy(start.astype(np.float32))
        for _ in range(chosen.sweeps):
            vectors = _solve(items, histories.offsets, histories.items, chosen)
            items = _solve(vectors, offsets, customers, chosen)
        return cls(items, chosen)


def _solve(
    fixed: torch.Tensor, offsets: IntArray, columns: np.typing.NDArray[np.int32], settings: IalsSettings
) -> torch.Tensor:
    """The ridge solutions of all rows given the other side's vectors [columns, d]: float32 [rows, d]."""
    dimensions = fixed.shape[1]
    lengths = np.diff(offsets)
    everywhere = settings.unobserved * (fixed.T @ fixed)
    padded = torch.cat([fixed, fixed.new_zeros(1, dimensions)])
    solution = fixed.new_zeros(len(lengths), dimensions)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]  # an empty row's solution is zero
    start = 0
    while start < len(order):
        # Rows of like length share a padded batch; at least one row whatever its length.
        widths = lengths[order[start : start + BATCH_CELLS // max(1, int(lengths[order[start]]))]]
        size = max(1, int(np.searchsorted(widths * np.arange(1, len(widths) + 1), BATCH_CELLS, side="right")))
        rows = order[start : start + size]
        width = int(lengths[rows[-1]])
        place = offsets[rows][:, None] + np.arange(width)
        present = np.arange(width) < lengths[rows][:, None]
        index = np.where(present, columns[np.minimum(place, len(columns) - 1)], len(fixed))
        gathered = padded[torch.from_numpy(index.astype(np.int64))]
        penalty = lengths[rows] + settings.unobserved * len(fixed)
        penalty = settings.regularisation * penalty**settings.frequency
        system = gathered.transpose(1, 2) @ gathered + everywhere
        system.diagonal(dim1=1, dim2=2).add_(torch.from_numpy(penalty.astype(np.float32))[:, None])
        factor = torch.linalg.cholesky(system)
        solution[torch.from_numpy(rows)] = torch.cholesky_solve(gathered.sum(1)[:, :, None], factor)[:, :, 0]
        start += size
    return solution
