"""Co-occurrence contributions: every pair of a customer's items, as a packed upper triangle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from hansa.dp.private_sum import Table
from hansa.schema import Histories

_ROOT_2 = float(np.sqrt(2))


def packed_rows(items: int) -> int:
    """Entries of the upper triangle, diagonal included, of a matrix [items, items]."""
    return items * (items + 1) // 2


@dataclass(frozen=True)
class PairContributions:
    """x x^T / |x|_1 of each customer's binary row x: Frobenius norm exactly 1, or 0 without items.

    A symmetric matrix leaves as its upper triangle, row by row, with off-diagonal entries times sqrt(2), so
    that the L2 norm of what leaves is the Frobenius norm of the matrix.

    Attributes:
        histories: Rows over the items of the matrix, which are ``histories.n_items``.
    """

    histories: Histories

    def squared_norms(self) -> Tensor:
        """n / n^2 on the diagonal and n (n - 1) / 2 times 2 / n^2 off it make 1 for every n > 0."""
        return torch.from_numpy((self.histories.lengths > 0).astype(np.float64))

    def add_to(self, total: Tensor, scale: Tensor) -> None:
        """One sparse product of the chunk with itself; see ``Contributions``."""
        size = self.histories.n_items
        weights = scale.numpy().astype(np.float64) / np.maximum(self.histories.lengths, 1)
        rows = sp.diags_array(np.sqrt(weights)) @ self.histories.matrix()
        pairs = sp.triu(rows.T @ rows, format="coo")
        first, second = pairs.row.astype(np.int64), pairs.col.astype(np.int64)
        position = first * size - first * (first - 1) // 2 + second - first
        values = np.where(first == second, 1.0, _ROOT_2) * pairs.data
        total.view(-1).index_add_(0, torch.from_numpy(position), torch.from_numpy(values).to(total.dtype))

    def where(self, keep: Tensor) -> PairContributions:
        """See ``Contributions``."""
        return PairContributions(self.histories.where(keep.numpy()[self.histories.rows_index]))


def unpack(triangle: Table, items: int) -> Table:
    """The symmetric matrix float32 [items, items] of a packed triangle [packed_rows(items), 1].

    Independent noise of deviation s in the triangle becomes s on the diagonal and s / sqrt(2) off it.
    """
    matrix = np.zeros((items, items), dtype=np.float32)
    matrix[np.triu_indices(items)] = triangle[:, 0] / np.float32(_ROOT_2)
    matrix += matrix.T
    diagonal = np.diagonal(matrix) * np.float32(_ROOT_2 / 2)
    np.fill_diagonal(matrix, diagonal)
    return matrix
