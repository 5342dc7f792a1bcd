"""Per-customer contributions: sparse forms that know their norms and add themselves, clipped.

An algorithm describes what each customer contributes as one of the forms here; only this module turns
descriptions into a sum. Neither form ever materialises [customers, rows, width].
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

# Scaling in float32 may round upwards; contributions are scaled to this much below the bound so that
# rounding cannot lift one above it.
ROUNDING_SLACK = 1e-5
_LANES = 16  # columns that a matrix product works on at a time


class Contributions(Protocol):
    """What a chunk of customers contributes to a table [rows, width], one matrix a customer."""

    def squared_norms(self) -> Tensor:
        """float64 [customers]: squared L2 norm of each customer's whole contribution."""
        ...

    def add_to(self, total: Tensor, scale: Tensor) -> None:
        """Add every customer's contribution, times ``scale`` [customers], to ``total`` in place."""
        ...


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
        customers, _, values = self._merged
        zero = torch.zeros(self.n_customers, dtype=torch.float64)
        return zero.index_add(0, customers, _squares(values))

    def add_to(self, total: Tensor, scale: Tensor) -> None:
        """See ``Contributions``."""
        customers, rows, values = self._merged
        total.index_add_(0, rows, values * scale[customers, None])

    @property
    def _merged(self) -> tuple[Tensor, Tensor, Tensor]:
        keys = self.customers * (int(self.rows.max()) + 1 if len(self.rows) else 1) + self.rows
        unique, inverse = torch.unique(keys, return_inverse=True)
        if len(unique) == len(keys):
            return self.customers, self.rows, self.values
        width = int(self.rows.max()) + 1
        merged = self.values.new_zeros(len(unique), self.values.shape[1]).index_add_(0, inverse, self.values)
        return torch.div(unique, width, rounding_mode="floor"), unique % width, merged


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
        norms = self.squared_norms().sqrt().to(self.factors.dtype)[:, None]
        scaled = replace(self, factors=self.factors / torch.where(norms > 0, norms, 1.0))
        scaled.__dict__["_coefficient_squares"] = self._coefficient_squares  # of the same tensor
        return scaled

    @cached_property
    def _coefficient_squares(self) -> Tensor:
        return _squares(self.coefficients)

    def add_to(self, total: Tensor, scale: Tensor) -> None:
        """See ``Contributions``."""
        factors = self.factors * scale[:, None]
        if self.rows is None and total.shape[1] % _LANES == 1:  # one column more than fits would cost a third
            total[:, :-1].addmm_(self.coefficients.T, factors[:, :-1])
            total[:, -1] += self.coefficients.T @ factors[:, -1]
        elif self.rows is None:
            total.addmm_(self.coefficients.T, factors)
        else:
            total.index_add_(0, self.rows, self.coefficients.T @ factors)
        if self.extra is not None:
            customers, rows, coefficients = self.extra
            total.index_add_(0, rows, factors[customers] * coefficients[:, None])


def clipped_sum(chunks: Iterable[Contributions], bound: float, total: Tensor) -> Tensor:
    """Add all customers' contributions to ``total`` in place, each scaled to L2 norm at most ``bound``.

    Guarantee: unit one customer; adding or removing one changes ``total`` by at most ``bound`` in L2
    norm, provided that each customer's contribution depends on that customer's rows and public state
    alone. A contribution that is not finite counts as zero, so that no data can stop the sum.

    Args:
        chunks: Contributions of all customers, each customer in exactly one chunk.
        bound: The clipping bound C > 0.
        total: float [rows, width], usually zeros.
    """
    for contributions in chunks:
        norms = contributions.squared_norms().sqrt()
        scale = ((1 - ROUNDING_SLACK) * bound / norms).clamp_(max=1.0).to(total.dtype)  # 1 for norm 0
        if math.isfinite(float(norms.sum())):
            contributions.add_to(total, scale)
        else:
            finite = norms.isfinite()
            _add_finite(contributions, total, torch.where(finite, scale, 0.0), finite)
    return total


def _squares(matrix: Tensor) -> Tensor:
    """Squared norms of the rows in float64: in float32 tiny squares vanish, and long sums fall short."""
    norms: Tensor = torch.linalg.vector_norm(matrix, dim=1, dtype=torch.float64)
    return norms.square()


def _add_finite(contributions: Contributions, total: Tensor, scale: Tensor, finite: Tensor) -> None:
    """Leave out customers whose contribution overflowed: zero times infinity would spoil the sum."""
    if isinstance(contributions, OuterContributions):
        keep = torch.where(finite[:, None], contributions.coefficients, 0.0)
        factors = torch.where(finite[:, None], contributions.factors, 0.0)
        extra = contributions.extra
        if extra is not None:
            extra = (extra[0], extra[1], torch.where(finite[extra[0]], extra[2], 0.0))
        OuterContributions(keep, factors, contributions.rows, extra).add_to(total, scale)
    elif isinstance(contributions, RowContributions):
        values = torch.where(finite[contributions.customers, None], contributions.values, 0.0)
        RowContributions(
            contributions.n_customers, contributions.customers, contributions.rows, values
        ).add_to(total, scale)
    else:
        raise TypeError(f"unknown form of contributions: {type(contributions).__name__}")
