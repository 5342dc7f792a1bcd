"""Co-occurrence contributions: every pair of a customer's items, as a packed upper triangle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hansa.dp.private_sum import Table
from hansa.schema import Histories, IntArray

Floats = npt.NDArray[np.float64]

_ROOT_2 = float(np.sqrt(2))
_PAIRS = 1 << 16  # pairs to place at a time: few enough for the cache
_TILE = 256


def packed_rows(items: int) -> int:
    """Entries above the diagonal of a matrix [items, items]."""
    return items * (items - 1) // 2


@dataclass(frozen=True)
class PairContributions:
    """w_i w_j for each pair of a customer's items, normalised: Frobenius norm 1, or 0 below two items.

    w_i = (1 + age)^-recency, see ``Histories.matrix``. The diagonal, which counts say better, stays zero, so
    that all of the bound is spent on pairs. The symmetric matrix leaves as what is above its diagonal, row
    by row, times sqrt(2): the L2 norm of what leaves is the Frobenius norm of the matrix.

    Attributes:
        histories: Rows over the items of the matrix, which are ``histories.n_items``.
        recency: Power by which a customer's older items weigh less.
    """

    histories: Histories
    recency: float = 0.0

    def squared_norms(self) -> Tensor:
        """1 for every customer with a pair, by the division in ``add_to``."""
        return torch.from_numpy((self.histories.lengths > 1).astype(np.float64))

    def add_to(self, total: Tensor, scale: Tensor) -> None:
        """Every pair straight to its place; see ``Contributions``.

        The squared norm is the sum of w_i^2 w_j^2 over i != j, (sum w^2)^2 - sum w^4.
        """
        size, flat = self.histories.n_items, total.view(-1).numpy()
        rows = np.arange(size, dtype=np.int64)
        before = rows * size - rows * (rows + 1) // 2 - rows - 1  # (i, j) lies at before[i] + j
        for piece, some in _pieces(self.histories, scale.numpy().astype(np.float64)):
            marked = piece.matrix(self.recency).sorted_indices()
            items, weights = marked.indices.astype(np.int64), marked.data.astype(np.float64)
            squares = np.bincount(piece.rows_index, weights**2, len(piece))
            norms = np.sqrt(np.maximum(squares**2 - np.bincount(piece.rows_index, weights**4, len(piece)), 0))
            factors = _ROOT_2 * some / np.where(piece.lengths > 1, norms, 1.0)
            later = piece.offsets[1:][piece.rows_index] - np.arange(len(items)) - 1  # of the same customer
            first = np.repeat(np.arange(len(items)), later)
            second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(later) - later, later)
            values = (factors[piece.rows_index] * weights)[first] * weights[second]
            _add(flat, before[items][first] + items[second], values)

    def where(self, keep: Tensor) -> PairContributions:
        """See ``Contributions``."""
        return replace(self, histories=self.histories.where(keep.numpy()[self.histories.rows_index]))


def _pieces(histories: Histories, weights: Floats) -> Iterator[tuple[Histories, Floats]]:
    """Consecutive customers with their weights, few enough for about ``_PAIRS`` pairs at a time."""
    lengths = histories.lengths
    part = np.cumsum(lengths * (lengths + 1) // 2) // _PAIRS
    bounds = np.concatenate(([0], np.flatnonzero(np.diff(part)) + 1, [len(histories)]))
    for start, stop in pairwise(bounds.tolist()):
        low, high = histories.offsets[start], histories.offsets[stop]
        offsets = histories.offsets[start : stop + 1] - low
        yield Histories(offsets, histories.items[low:high], histories.n_items), weights[start:stop]


def _add(flat: npt.NDArray[Any], places: IntArray, values: Floats) -> None:
    np.add.at(flat, places, values.astype(flat.dtype, copy=False))  # quicker than torch's


def unpack(triangle: Table, items: int) -> Table:
    """The symmetric matrix float32 [items, items] with a zero diagonal of a packed triangle [rows, 1].

    Independent noise of deviation s in the triangle becomes s / sqrt(2) in the matrix.
    """
    matrix = np.zeros((items, items), dtype=np.float32)
    low = 0
    for row in range(items):  # whole runs: an index of all entries would take four times the matrix
        high = low + items - row - 1
        np.multiply(triangle[low:high, 0], np.float32(1 / _ROOT_2), out=matrix[row, row + 1 :])
        low = high
    for top in range(0, items, _TILE):  # in tiles that stay in the cache while they are turned
        tile = slice(top, top + _TILE)
        for left in range(0, top, _TILE):
            other = slice(left, left + _TILE)
            matrix[tile, other] = matrix[other, tile].T
        matrix[tile, tile] += matrix[tile, tile].T
    return matrix
