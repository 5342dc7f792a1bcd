"""Sums, products and solutions whose rounding is nobody else's affair.

How a library rounds a sum depends on its order, and that on shapes, places and threads: on how many other
customers there are, and how much they had. Of such a last bit a hostile state makes a whole contribution.
Here each row's results are bit for bit the same in whatever company, in one of two ways: single operations
in an order that position alone fixes, where padding adds exact zeros; or whole numbers, whose sums below
2^53 are exact in float64, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_TINY = 1e-200  # instead of a scale of zero; far below any product of two float32 numbers that are not zero
_COLUMNS = 64  # of padded rows at a time
_NARROW = 16
_PLACES = 1 << 18  # results at a time: few enough for the cache


def row_sums(values: Tensor) -> Tensor:
    """Sums of the rows of ``values`` [rows, width], which are overwritten: the second half onto the first."""
    width = values.shape[1]
    if not width:
        return values.new_zeros(len(values))
    while width > _NARROW:
        half = 1 << ((width - 1).bit_length() - 1)
        values[:, : width - half] += values[:, half:width]
        width = half
    columns = values[:, :width].T.contiguous()  # the same with long runs
    while width > 1:
        half = 1 << ((width - 1).bit_length() - 1)
        columns[: width - half] += columns[half:width]
        width = half
    return columns[0]


def root(values: Tensor) -> Tensor:
    """Square roots by the processor: those of a vector library need not be the same at every place."""
    return torch.from_numpy(np.sqrt(values.numpy()))


@dataclass(frozen=True)
class Grid:
    """A public table as whole numbers times a unit for each column.

    Attributes:
        numbers: float32 [rows, width], whole, at most 2^bits.
        unit: float64 [width].
        bits: Such that sums of as many products as were asked for are exact.
    """

    numbers: Tensor
    unit: Tensor
    bits: int

    @classmethod
    def of(cls, table: Tensor, terms: int) -> Grid:
        """``table`` rounded for sums of up to ``terms`` products; each column's largest uses all bits."""
        bits = min(24, (53 - (terms - 1).bit_length()) // 2)
        unit = table.abs().amax(dim=0).double().clamp(min=_TINY) / 2**bits
        return cls((table / unit).round_().float(), unit, bits)

    def columns(self, count: int) -> Grid:
        """The first ``count`` columns."""
        return Grid(self.numbers[:, :count].contiguous(), self.unit[:count], self.bits)

    def rows(self, chosen: Tensor) -> Grid:
        """The rows at ``chosen`` int64 [rows]."""
        return Grid(self.numbers[chosen], self.unit, self.bits)

    def products(self, vectors: Tensor, out: Tensor | None = None) -> Tensor:
        """Inner products of each of ``vectors`` [customers, width] with all rows: float32, into ``out``."""
        own, scale = self._whole(vectors)
        result = torch.empty(len(vectors), len(self.numbers)) if out is None else out
        step = max(1, _PLACES // max(1, len(vectors)))
        for low in range(0, len(self.numbers), step):
            piece = slice(low, low + step)
            result[:, piece] = (own @ self.numbers[piece].double().T).mul_(scale)
        return result

    def products_with(self, vectors: Tensor, owners: Tensor, rows: Tensor) -> Tensor:
        """Inner products of ``vectors`` at ``owners`` int64 [e] with ``rows`` int64 [e]: float32 [e]."""
        own, scale = self._whole(vectors)
        result = torch.empty(len(rows))
        step = max(1, _PLACES // max(1, vectors.shape[1]))
        for low in range(0, len(rows), step):
            some = slice(low, low + step)
            numbers = self.numbers[rows[some]].double().mul_(own[owners[some]])
            result[some] = numbers.sum(dim=1) * scale[owners[some], 0]
        return result

    def moments(self, rows: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of v v^T and of v over each customer's own ``rows`` that are ``kept``, no more than ``terms``.

        Args:
            rows: int64 [customers, m].
            kept: bool [customers, m].

        Returns:
            float64 [customers, width, width] and [customers, width].
        """
        customers, width = len(rows), self.numbers.shape[1]
        squares = torch.zeros(customers, width, width, dtype=torch.float64)
        sums = torch.zeros(customers, width, dtype=torch.float64)
        for some, marks in zip(torch.split(rows, _COLUMNS, 1), torch.split(kept, _COLUMNS, 1), strict=True):
            busy = torch.nonzero(marks.any(dim=1))[:, 0]
            had = torch.nn.functional.embedding(some[busy], self.numbers).double()
            had *= marks[busy, :, None]
            squares.index_add_(0, busy, had.mT @ had)
            sums.index_add_(0, busy, had.sum(dim=1))
        return squares.mul_(self.unit[:, None] * self.unit), sums.mul_(self.unit)

    def _whole(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Whole numbers, at most 2^bits, in units of this table's columns and of a scale for each row."""
        scaled = vectors.double() * self.unit
        scale = scaled.abs().amax(dim=1, keepdim=True).clamp_(min=_TINY) / 2**self.bits
        return (scaled / scale).round_(), scale


def solve(systems: Tensor, right: Tensor) -> Tensor:
    """x of A x = b for each customer's own symmetric positive A, as L D L^T and without pivots.

    A singular one gives anything, and no error, which would tell of data. Customers lie side by side, so that
    every step is one operation on all of them: for large systems that is as quick as LAPACK's one by one.

    Args:
        systems: float32 [customers, d, d], A.
        right: float32 [customers, d], b.

    Returns:
        float32 [customers, d].
    """
    packed = torch.contiguous_format
    a = systems.permute(1, 2, 0).clone(memory_format=packed)
    x = right.T.clone(memory_format=packed)
    size = len(x)
    for j in range(size):
        below = a[j + 1 :, j]
        ratios = below / a[j, j]
        x[j + 1 :] -= ratios * x[j]
        a[j + 1 :, j + 1 :] -= ratios[:, None] * below
        below.copy_(ratios)
    x /= a.diagonal().T
    for j in range(size - 1, 0, -1):
        x[:j] -= a[j, :j] * x[j]
    return x.T.contiguous()
