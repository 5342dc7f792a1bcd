"""EASE, the shallow linear autoencoder (Steck 2019, "Embarrassingly shallow autoencoders").

Equation 8: with P = (X'X + lambda I)^-1, the item weights are B = I - P diag(1 / diag P), whose
diagonal is zero, and a customer's scores are x B. A shop with fewer customers than items solves
the n x n dual of the same problem by the Woodbury identity, and never forms an items x items matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch

from hansa.metrics import Scores
from hansa.schema import Histories, IntArray

MAX_ITEMS = 10_000
"""Largest catalogue for the primal form: one items x items float32 matrix is then 400 MB."""
MAX_DUAL_CELLS = 100_000_000
"""Largest customers x items for the dual form, whose weights are one such float32 matrix."""


class Ease(Protocol):
    """A fitted EASE."""

    def score(self, histories: Histories, recency: float = 0.0) -> Scores:
        """x B for every customer's row x, see ``Histories.matrix``: float32 [customers, items]."""
        ...

    def contributions(self, history: Histories, recency: float, listed: IntArray) -> Scores:
        """x_j B_ji of one customer's items j for the ``listed`` items i: float32 [items had, listed]."""
        ...


@dataclass(frozen=True)
class PrimalEase:
    """EASE with explicit item weights.

    Attributes:
        weights: B, float32 [items, items], zero diagonal.
    """

    weights: Scores

    def score(self, histories: Histories, recency: float = 0.0) -> Scores:
        """x B for every customer's row x, see ``Histories.matrix``: float32 [customers, items]."""
        return np.asarray(histories.matrix(recency) @ self.weights, dtype=np.float32)

    def contributions(self, history: Histories, recency: float, listed: IntArray) -> Scores:
        """x_j B_ji of one customer's items j for the ``listed`` items i: float32 [items had, listed]."""
        added: Scores = history.matrix(recency).data[:, None] * self.weights[np.ix_(history.row(0), listed)]
        return added

    @classmethod
    def from_gram(cls, gram: Scores, regularisation: float) -> PrimalEase:
        """Solve from the co-occurrence matrix X'X, float32 [items, items]."""
        system = torch.from_numpy(gram.astype(np.float32, copy=True))
        system.diagonal().add_(regularisation)
        inverse: Scores = torch.cholesky_inverse(torch.linalg.cholesky(system)).numpy()
        weights: Scores = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0)
        return cls(weights)


@dataclass(frozen=True)
class DualEase:
    """EASE through its n training rows: x B = (x X') C + x (1 - 1/d), d = lambda diag P.

    Attributes:
        rows: X, binary float32 [n, items].
        coefficients: C = (XX' + lambda I)^-1 X diag(1/d), float32 [n, items].
        scale: d, float64 [items].
    """

    rows: sp.csr_array
    coefficients: Scores
    scale: np.typing.NDArray[np.float64]

    def score(self, histories: Histories, recency: float = 0.0) -> Scores:
        """x B for every customer's row x, see ``Histories.matrix``: float32 [customers, items]."""
        queries = histories.matrix(recency)
        overlap = (queries @ self.rows.T).toarray().astype(np.float32)
        scores: Scores = overlap @ self.coefficients
        itself = queries.data * (1 - 1 / self.scale[histories.items])
        scores[histories.rows_index, histories.items] += itself.astype(np.float32)
        return scores

    @cached_property
    def _by_item(self) -> sp.csr_array:
        return sp.csr_array(self.rows.T)

    def contributions(self, history: Histories, recency: float, listed: IntArray) -> Scores:
        """x_j B_ji of one customer's items j for the ``listed`` items i: float32 [items had, listed]."""
        had = history.row(0)
        added = np.asarray(self._by_item[had] @ self.coefficients[:, listed], dtype=np.float32)
        added[had[:, None] == listed] = 0  # the diagonal of B
        scaled: Scores = history.matrix(recency).data[:, None] * added
        return scaled


@dataclass(frozen=True)
class EaseProblem:
    """The training data of an EASE, to be solved for several lambdas.

    Attributes:
        histories: The training rows.
    """

    histories: Histories

    @property
    def dual(self) -> bool:
        """Whether the n x n form is used: it is cheaper where customers are much fewer than items."""
        return 2 * len(self.histories) < self.histories.n_items

    @property
    def feasible(self) -> bool:
        """Whether the weights fit into bounded memory."""
        cells = len(self.histories) * self.histories.n_items
        return cells <= MAX_DUAL_CELLS if self.dual else self.histories.n_items <= MAX_ITEMS

    @cached_property
    def rows(self) -> sp.csr_array:
        """X, binary float32 [n, items]."""
        return self.histories.matrix()

    @cached_property
    def gram(self) -> Scores:
        """XX' in the dual form, X'X in the primal one; exact, for counts below 2^24."""
        rows = self.rows
        product = rows @ rows.T if self.dual else rows.T @ rows
        return np.asarray(product.toarray(), dtype=np.float32)

    def solve(self, regularisation: float) -> Ease:
        """The EASE of one lambda (interactions, positive)."""
        if not self.dual:
            return PrimalEase.from_gram(self.gram, regularisation)
        kernel = self.gram.copy()
        kernel[np.diag_indices_from(kernel)] += np.float32(regularisation)
        lower = scipy.linalg.cholesky(kernel, lower=True, overwrite_a=True, check_finite=False)
        half = scipy.linalg.solve_triangular(lower, self.rows.toarray(), lower=True, check_finite=False)
        scale = 1 - np.einsum("ni,ni->i", half, half, dtype=np.float64)
        full = scipy.linalg.solve_triangular(lower, half, lower=True, trans="T", check_finite=False)
        full /= scale.astype(np.float32)
        return DualEase(self.rows, full, scale)
