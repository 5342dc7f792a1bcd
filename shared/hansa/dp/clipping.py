"""Per-customer contributions: sparse forms that know their norms and add themselves, clipped.

An algorithm describes what each customer contributes as one of the forms here; only this module turns
descriptions into a sum. The sparse forms never materialise [customers, rows, width].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from hansa.dp.rowwise import root, row_sums
from hansa.schema import IntArray

# Contributions are scaled to this much below the bound, so that rounding cannot lift the change of a sum
# above it. Forming one in float32 costs at most 1e-6 of the bound. Adding n of them in float64, in any order,
# errs by at most 2^-53 n^2 bounds for a sum, the same for its neighbour: 9e-6 for 200,000 customers, were
# they all alike. In float32 it would be 0.008 for 256 (Casacuberta et al. 2022, arXiv 2207.10635).
ROUNDING_SLACK = 1e-5
_IN_CACHE = 1 << 18  # numbers to convert to float64 at a time
_LANES = 16  # columns that a matrix product works on at a time


class Contributions(Protocol):
    """What a chunk of customers contributes to a table [rows, width], one matrix a customer."""

    def squared_norms(self) -> Tensor:
        """float64 [customers]: squared L2 norm of each customer's whole contribution."""
        ...

    def add_to(self, total: Tensor, scale: Tensor) -> None:
        """Add every customer's contribution, times ``scale`` float64 [customers], to ``total`` in place."""
        ...

    def where(self, keep: Tensor) -> Contributions:
        """The same with nothing from customers that are False in ``keep`` bool [customers]."""
        ...

    def groups(self, scale: Tensor) -> Iterator[Group]:
        """Every customer's own entries, times ``scale`` float64 [customers], some customers at a time."""
        ...


@dataclass(frozen=True)
class Group:
    """What some customers contribute, entry by entry: no place occurs twice for the same customer.

    Attributes:
        block: float [customers, m, width]: what each has in the same ``rows`` of the table.
        rows: int64 [m]; None for the first m.
        owners: int64 [e]: customers, as positions in ``block``, that have further rows.
        spots: int64 [e]: these rows.
        values: float [e, width]: what is in them.
    """

    block: Tensor
    rows: Tensor | None
    owners: Tensor
    spots: Tensor
    values: Tensor

    @classmethod
    def of_rows(cls, customers: int, owners: Tensor, spots: Tensor, values: Tensor) -> Group:
        """A group whose customers have no rows in common."""
        return cls(values.new_zeros(customers, 0, values.shape[1]), None, owners, spots, values)


@dataclass(frozen=True)
class RowContributions:
    """A few rows a customer: customer ``customers[k]`` adds ``values[k]`` to row ``rows[k]``.

    Attributes:
        n_customers: Customers in the chunk; one without entries contributes zero.
        customers: int64 [entries].
        rows: int64 [entries]; a (customer, row) pair may repeat, repeats add up before the norm is taken.
        values: float [entries, width].
    """

    n_customers: int
    customers: Tensor
    rows: Tensor
    values: Tensor

    def squared_norms(self) -> Tensor:
        """Norms over unique (customer, row) pairs, see ``Contributions``."""
        squares = _squares(self.values)
        squares[self._layout.repeated] = 0.0
        norms = torch.zeros(self.n_customers, dtype=torch.float64).index_add_(0, self.customers, squares)
        merged = self._layout.merged
        return norms.index_add_(0, merged.customers, _squares(merged.values))

    def row_sums(self, scale: Tensor) -> tuple[Tensor, Tensor]:
        """The scaled sum over customers: rows int64 [r], increasing, and their sums float64 [r, width].

        Repeats were added up before they meet other customers, whom huge ones that cancel would swallow.
        """
        layout, merged = self._layout, self._layout.merged
        weights = scale[self.customers]
        weights[layout.repeated] = 0.0
        sums = _weighted(layout.order, layout.starts, weights, self.values)
        if len(merged.rows):
            own = torch.from_numpy(np.searchsorted(layout.rows, merged.rows.numpy()))
            sums.index_add_(0, own, merged.values * scale[merged.customers, None])
        return torch.from_numpy(layout.rows), sums

    def add_to(self, total: Tensor, scale: Tensor) -> None:
        """See ``Contributions``."""
        rows, sums = self.row_sums(scale)
        total.index_add_(0, rows, sums.to(total.dtype))

    def where(self, keep: Tensor) -> RowContributions:
        """See ``Contributions``."""
        kept = keep[self.customers]
        return RowContributions(self.n_customers, self.customers[kept], self.rows[kept], self.values[kept])

    def groups(self, scale: Tensor) -> Iterator[Group]:
        """See ``Contributions``."""
        merged, single = self._layout.merged, torch.ones(len(self.rows), dtype=torch.bool)
        single[self._layout.repeated] = False
        owners = torch.cat([self.customers[single], merged.customers])
        spots = torch.cat([self.rows[single], merged.rows])
        values = torch.cat([self.values[single].double(), merged.values])
        order = torch.argsort(owners, stable=True)
        ends = torch.cumsum(torch.bincount(owners, minlength=self.n_customers), 0)
        entries = max(1, _IN_CACHE // max(1, self.values.shape[1]))
        start = 0
        while start < self.n_customers:
            low = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(torch.searchsorted(ends, low + entries, right=True)))
            some = order[low : int(ends[stop - 1])]
            own = owners[some]
            yield Group.of_rows(stop - start, own - start, spots[some], values[some] * scale[own, None])
            start = stop

    @cached_property
    def _layout(self) -> _Layout:
        each = max(1, self.n_customers)
        unordered = self.rows.numpy() * each + self.customers.numpy()
        order = np.argsort(unordered)
        keys = unordered[order]
        same = keys[1:] == keys[:-1]
        shared = np.zeros(len(keys), dtype=np.bool_)
        shared[1:] = same
        shared[:-1] |= same
        repeated = np.sort(order[shared])  # as given, so that no sum's rounding depends on other customers
        unique, own = np.unique(unordered[repeated], return_inverse=True)
        values = torch.zeros(len(unique), self.values.shape[1], dtype=torch.float64)
        values.index_add_(0, torch.from_numpy(own), self.values[torch.from_numpy(repeated)].double())
        rows, customers = (torch.from_numpy(part) for part in np.divmod(unique, each))
        merged = RowContributions(self.n_customers, customers, rows, values)
        rows_in_order = self.rows.numpy()[order]
        starts = np.flatnonzero(np.concatenate(([True], rows_in_order[1:] != rows_in_order[:-1])))
        starts = starts[: len(order)]  # none without entries
        return _Layout(order, starts, rows_in_order[starts], torch.from_numpy(repeated), merged)


@dataclass(frozen=True)
class _Layout:
    """How entries of ``RowContributions`` lie when sorted by row, then customer.

    Attributes:
        order: int64 [entries], the entries as sorted.
        starts: int64 [r], where in ``order`` each row begins.
        rows: int64 [r], increasing.
        repeated: int64: entries whose (customer, row) pair others share.
        merged: Those, added up in float64.
    """

    order: IntArray
    starts: IntArray
    rows: IntArray
    repeated: Tensor
    merged: RowContributions


@dataclass(frozen=True)
class OuterContributions:
    """One outer product a customer: row ``rows[j]`` gets ``coefficients[u, j] * factors[u]``.

    The gradient of every loss of the scores ``W f_u`` with respect to the item table W has this form, so
    its norm is |coefficients_u| |factors_u| (Goodfellow 2015, arXiv 1510.01799; "ghost norm").

    Attributes:
        coefficients: float [customers, m].
        factors: float [customers, width].
        rows: int64 [m], distinct rows of the table; None for all of them.
        extra: Further rows of single customers, none of them among ``rows`` with a non-zero
            coefficient of the same customer: (customers int64 [e], rows int64 [e], coefficients float [e]).
    """

    coefficients: Tensor
    factors: Tensor
    rows: Tensor | None = None
    extra: tuple[Tensor, Tensor, Tensor] | None = None

    def squared_norms(self) -> Tensor:
        """See ``Contributions``."""
        squares = self._coefficient_squares
        if self.extra is not None:
            customers, _, coefficients = self.extra
            squares = squares.index_add(0, customers, coefficients.double().square())
        return squares * _squares(self.factors)

    def normalised(self) -> OuterContributions:
        """The same directions at norm 1 (automatic clipping, Bu et al. 2023, arXiv 2206.07136); 0 stays."""
        norms = root(self.squared_norms()).to(self.factors.dtype)[:, None]
        scaled = replace(self, factors=self.factors / torch.where(norms > 0, norms, 1.0))
        scaled.__dict__["_coefficient_squares"] = self._coefficient_squares  # of the same tensor
        return scaled

    @cached_property
    def _coefficient_squares(self) -> Tensor:
        return _squares(self.coefficients)

    def add_to(self, total: Tensor, scale: Tensor) -> None:
        """See ``Contributions``."""
        factors = self.factors.to(total.dtype) * scale[:, None].to(total.dtype)
        coefficients = self.coefficients.to(total.dtype)
        if self.rows is None and total.shape[1] % _LANES == 1:  # one column more than fits would cost a third
            total[:, :-1].addmm_(coefficients.T, factors[:, :-1])
            total[:, -1] += coefficients.T @ factors[:, -1]
        elif self.rows is None:
            total.addmm_(coefficients.T, factors)
        else:
            total.index_add_(0, self.rows, coefficients.T @ factors)
        if self.extra is not None:
            customers, rows, further = self.extra
            total.index_add_(0, rows, factors[customers] * further[:, None].to(total.dtype))

    def groups(self, scale: Tensor) -> Iterator[Group]:
        """Products of single numbers, so that none depends on who else is in the group."""
        count, width = self.factors.shape
        extra = self.extra
        if extra is None:
            nobody = torch.zeros(0, dtype=torch.int64)
            extra = nobody, nobody, self.coefficients.new_zeros(0)
        owners, spots, further = extra
        factors = (self.factors.double() * scale[:, None]).float()  # a float32 has no room for some scales
        step = max(1, _IN_CACHE // max(1, self.coefficients.shape[1] * width))
        for start in range(0, count, step):
            some = slice(start, start + step)
            block = self.coefficients[some, :, None].float() * factors[some, None, :]
            own = (owners >= start) & (owners < start + step)
            values = further[own, None].float() * factors[owners[own]]
            yield Group(block, self.rows, owners[own] - start, spots[own], values)

    def where(self, keep: Tensor) -> OuterContributions:
        """See ``Contributions``."""
        extra = self.extra
        if extra is not None:
            extra = (extra[0], extra[1], torch.where(keep[extra[0]], extra[2], 0.0))
        return OuterContributions(
            torch.where(keep[:, None], self.coefficients, 0.0),
            torch.where(keep[:, None], self.factors, 0.0),
            self.rows,
            extra,
        )


@dataclass(frozen=True)
class DenseContributions:
    """A whole matrix a customer, for small tables only.

    Attributes:
        values: float [customers, rows, width].
    """

    values: Tensor

    def squared_norms(self) -> Tensor:
        """See ``Contributions``."""
        return _squares(self.values.flatten(1))

    def add_to(self, total: Tensor, scale: Tensor) -> None:
        """See ``Contributions``."""
        total.view(-1).addmv_(self.values.flatten(1).T.to(total.dtype), scale.to(total.dtype))

    def groups(self, scale: Tensor) -> Iterator[Group]:
        """See ``Contributions``."""
        nobody = torch.zeros(0, dtype=torch.int64)
        block = self.values * scale[:, None, None].to(self.values.dtype)
        yield Group(block, None, nobody, nobody, self.values.new_zeros(0, self.values.shape[2]))

    def where(self, keep: Tensor) -> DenseContributions:
        """See ``Contributions``."""
        return DenseContributions(torch.where(keep[:, None, None], self.values, 0.0))


def clipped_sum(chunks: Iterable[Contributions], bound: float, total: Tensor) -> Tensor:
    """Add all customers' contributions to ``total`` in place, each scaled to L2 norm at most ``bound``.

    Guarantee: unit one customer; adding or removing one changes ``total`` by at most ``bound`` in L2
    norm, provided that each customer's contribution depends on that customer's rows and public state
    alone, and that ``total`` is float64 (see ``ROUNDING_SLACK``). A contribution that is not finite counts
    as zero, so that no data can stop the sum.

    Args:
        chunks: Contributions of all customers, each customer in exactly one chunk.
        bound: The clipping bound C > 0.
        total: float64 [rows, width], usually zeros.
    """
    for contributions in chunks:
        (kept,), scale = clip([contributions], bound)
        kept.add_to(total, scale)
    return total


def clip(
    parts: Sequence[Contributions], bound: float, times: float = 1.0
) -> tuple[Sequence[Contributions], Tensor]:
    """How to scale what the same customers contribute to several tables, each customer as a whole.

    Guarantee: that of ``clipped_sum`` for all tables together: the norm is taken over all of ``parts``.

    Args:
        parts: One chunk's contributions to each table, in the same order of customers.
        bound: The clipping bound C > 0.
        times: Multiplies every contribution before it is clipped.

    Returns:
        ``parts`` without customers whose contribution is not finite, and what to multiply each customer's
        contribution with: float64 [customers].
    """
    norms = root(row_sums(torch.stack([part.squared_norms() for part in parts], dim=1)))
    finite = norms.isfinite()
    scale = ((1 - ROUNDING_SLACK) * bound / norms.clamp(min=torch.finfo(norms.dtype).tiny)).clamp(max=times)
    if not bool(finite.all()):
        scale = torch.where(finite, scale, 0.0)
        parts = [part.where(finite) for part in parts]  # zero times infinity would spoil the sum
    return parts, scale


def _squares(matrix: Tensor) -> Tensor:
    """Squared norms of the rows in float64: in float32 tiny squares vanish, and long sums fall short.

    None depends on how many rows there are, to the last bit.
    """
    height = max(1, _IN_CACHE // max(1, matrix.shape[1]))
    parts = [
        row_sums(matrix[low : low + height].double().square())
        for low in range(0, max(1, len(matrix)), height)
    ]
    return torch.cat(parts)


def _weighted(order: IntArray, starts: IntArray, weights: Tensor, values: Tensor) -> Tensor:
    """Weighted sums of runs of rows of ``values``, in float64 and in pieces that stay in the cache."""
    bounds, ordered = np.append(starts, len(order)), weights.numpy()[order]
    rows = torch.from_numpy(order)
    sums = torch.empty(len(starts), values.shape[1], dtype=torch.float64)
    piece = max(1, _IN_CACHE // max(1, values.shape[1]))
    first = 0
    while first < len(starts):
        last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + piece, side="right")) - 1)
        low, high = int(bounds[first]), int(bounds[last])
        runs = (ordered[low:high], np.arange(high - low), bounds[first : last + 1] - low)
        matrix = sp.csr_array(runs, shape=(last - first, high - low))
        gathered = values.index_select(0, rows[low:high]).double()
        sums[first:last] = torch.from_numpy(matrix @ gathered.numpy())
        first = last
    return sums
