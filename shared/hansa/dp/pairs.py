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

from hansa.dp.clipping import Group
from hansa.dp.private_sum import Table
from hansa.schema import Histories, IntArray, powers

Floats = npt.NDArray[np.float64]

_ROOT_2 = float(np.sqrt(2))
_PAIRS = 1 << 16  # pairs to place at a time: few enough for the cache
_TILE = 256


def packed_rows(items: int) -> int:
    """Entries above the diagonal of a matrix [items, items]."""
    return items * (items - 1) // 2


@dataclass(frozen=True)
class PairContributions:
    """Each pair of a customer's items, normalised: Frobenius norm 1, or 0 below two items.

    A pair of ages a < b weighs ((1 + a)(1 + b))^-recency (b - a)^-nearness. The diagonal, which counts say
    better, stays zero, so that all of the bound is spent on pairs. The symmetric matrix leaves as what is
    above its diagonal, row by row, times sqrt(2): the L2 norm of what leaves is the Frobenius norm of the
    matrix.

    Attributes:
        histories: Rows over the items of the matrix, which are ``histories.n_items``, oldest first.
        recency: Power by which a customer's older items weigh less, see ``Histories.matrix``.
        nearness: Power by which items weigh less together the more a customer had in between.
    """

    histories: Histories
    recency: float = 0.0
    nearness: float = 0.0

    def squared_norms(self) -> Tensor:
        """1 for every customer with a pair, by the division in ``_pairs``; infinite where items are repeated.

        Repeats would fall on one place, and an infinite norm counts as nothing.
        """
        rows, width = self.histories.rows_index, self.histories.n_items
        _, first = np.unique(rows * width + self.histories.items, return_index=True)
        distinct = np.bincount(rows[first], minlength=len(self.histories))
        norms = np.where(distinct < self.histories.lengths, np.inf, np.minimum(distinct, 2) > 1)
        return torch.from_numpy(norms.astype(np.float64))

    def add_to(self, total: Tensor, scale: Tensor) -> None:
        """Every pair straight to its place; see ``Contributions``."""
        flat = total.view(-1).numpy()
        for customers, spots, values in self._placed():
            _add(flat, spots, scale.numpy()[customers] * values)

    def groups(self, scale: Tensor) -> Iterator[Group]:
        """See ``Contributions``."""
        for customers, spots, values in self._placed():
            first = int(customers[0]) if len(customers) else 0
            own = torch.from_numpy(customers - first)
            count = int(own[-1]) + 1 if len(own) else 0
            scaled = torch.from_numpy(scale.numpy()[customers] * values)
            yield Group.of_rows(count, own, torch.from_numpy(spots), scaled[:, None])

    def _placed(self) -> Iterator[tuple[IntArray, IntArray, Floats]]:
        """Customer, place in the packed triangle and entry there of every pair, by customer."""
        size = self.histories.n_items
        rows = np.arange(size, dtype=np.int64)
        before = rows * size - rows * (rows + 1) // 2 - rows - 1  # (i, j) lies at before[i] + j
        for customers, first, second, values in self._pairs():
            lower, upper = np.minimum(first, second), np.maximum(first, second)
            yield customers, before[lower] + upper, _ROOT_2 * values

    def times(self, vectors: Table) -> Table:
        """Each customer's own matrix times its own row of ``vectors``, float32 [customers, items]."""
        product = np.zeros(vectors.shape, dtype=np.float32)
        flat, width = product.reshape(-1), self.histories.n_items
        for customers, first, second, values in self._pairs():
            _add(flat, customers * width + first, values * vectors[customers, second])
            _add(flat, customers * width + second, values * vectors[customers, first])
        return product

    def where(self, keep: Tensor) -> PairContributions:
        """See ``Contributions``."""
        return replace(self, histories=self.histories.where(keep.numpy()[self.histories.rows_index]))

    def _pairs(self) -> Iterator[tuple[IntArray, IntArray, IntArray, Floats]]:
        """Customer, two items and their entry in the customer's matrix, some customers at a time."""
        longest = int(self.histories.lengths.max(initial=1))
        apart = np.concatenate(([0.0], powers(longest, self.nearness)))
        for start, piece in _pieces(self.histories):
            items, weights = piece.items.astype(np.int64), piece.matrix(self.recency).data.astype(np.float64)
            later = piece.ages  # items of the same customer that follow
            first = np.repeat(np.arange(len(items)), later)
            distance = 1 + np.arange(len(first)) - np.repeat(np.cumsum(later) - later, later)
            second = first + distance
            customers = piece.rows_index[first]
            values = weights[first] * weights[second] * apart[distance]
            squares = 2 * np.bincount(customers, values**2, len(piece))
            values /= np.sqrt(squares)[customers]
            yield start + customers, items[first], items[second], values


def _pieces(histories: Histories) -> Iterator[tuple[int, Histories]]:
    """Consecutive customers after their number, few enough for about ``_PAIRS`` pairs at a time."""
    lengths = histories.lengths
    part = np.cumsum(lengths * (lengths + 1) // 2) // _PAIRS
    bounds = np.concatenate(([0], np.flatnonzero(np.diff(part)) + 1, [len(histories)]))
    for start, stop in pairwise(bounds.tolist()):
        low, high = histories.offsets[start], histories.offsets[stop]
        offsets = histories.offsets[start : stop + 1] - low
        yield start, Histories(offsets, histories.items[low:high], histories.n_items)


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
