"""Co-occurrence contributions: every pair of a customer's items, as a packed upper triangle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
        """Every pair straight to its place, the diagonal apart; see ``Contributions``."""
        weights = scale.numpy().astype(np.float64) / np.maximum(self.histories.lengths, 1)
        size, flat = self.histories.n_items, total.view(-1).numpy()
        rows = np.arange(size, dtype=np.int64)
        diagonal = rows * size - rows * (rows - 1) // 2
        for piece, some in _pieces(self.histories, weights):
            ordered = piece.matrix().sorted_indices().indices.astype(np.int64)
            each = some[piece.rows_index]
            _add(flat, diagonal[ordered], each)
            later = piece.offsets[1:][piece.rows_index] - np.arange(len(ordered)) - 1  # of the same customer
            first = np.repeat(np.arange(len(ordered)), later)
            before = np.repeat(np.cumsum(later) - later, later)
            second = ordered[first + np.arange(1, len(first) + 1) - before]
            _add(flat, (diagonal - rows)[ordered][first] + second, (_ROOT_2 * each)[first])

    def where(self, keep: Tensor) -> PairContributions:
        """See ``Contributions``."""
        return PairContributions(self.histories.where(keep.numpy()[self.histories.rows_index]))


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
    """The symmetric matrix float32 [items, items] of a packed triangle [packed_rows(items), 1].

    Independent noise of deviation s in the triangle becomes s on the diagonal and s / sqrt(2) off it.
    """
    matrix = np.empty((items, items), dtype=np.float32)
    low = 0
    for row in range(items):  # whole runs: an index of all entries would take four times the matrix
        high = low + items - row
        np.multiply(triangle[low:high, 0], np.float32(1 / _ROOT_2), out=matrix[row, row:])
        matrix[row, row] = triangle[low, 0]
        low = high
    for top in range(0, items, _TILE):  # in tiles that stay in the cache while they are turned
        tile = slice(top, top + _TILE)
        for left in range(0, top, _TILE):
            other = slice(left, left + _TILE)
            matrix[tile, other] = matrix[other, tile].T
        square = np.triu(matrix[tile, tile])
        matrix[tile, tile] = square + np.triu(square, 1).T
    return matrix
