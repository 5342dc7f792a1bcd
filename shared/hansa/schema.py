"""What models see: customers' histories as compressed rows, and the public catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

IntArray = npt.NDArray[np.int64]
ItemArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Histories:
    """The interactions of a shop's customers, one compressed row a customer.

    A row lists distinct catalogue positions, oldest first.

    Attributes:
        offsets: int64 [customers + 1]; row u is ``items[offsets[u]:offsets[u + 1]]``.
        items: int32 [interactions], positions in the catalogue.
        n_items: Size of the catalogue.
    """

    offsets: IntArray
    items: ItemArray
    n_items: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> IntArray:
        """int64 [customers]: interactions of each customer."""
        return np.diff(self.offsets)

    def row(self, customer: int) -> ItemArray:
        """int32 [length]: the items of one customer, oldest first."""
        return self.items[self.offsets[customer] : self.offsets[customer + 1]]

    @cached_property
    def rows_index(self) -> IntArray:
        """int64 [interactions]: the customer of each interaction."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    @cached_property
    def ages(self) -> IntArray:
        """int64 [interactions]: 0 for a customer's newest interaction, 1 for the one before it, and so on."""
        return self.offsets[1:][self.rows_index] - 1 - np.arange(len(self.items))

    def matrix(self, recency: float = 0.0) -> sp.csr_array:
        """float32 matrix [customers, items]: (1 + age)^-recency for each interaction, so binary at 0."""
        weights = powers(int(self.lengths.max(initial=0)), recency).astype(np.float32)
        data = weights[self.ages]
        return sp.csr_array((data, self.items, self.offsets), shape=(len(self), self.n_items))

    def select(self, customers: npt.NDArray[np.bool_] | IntArray) -> Histories:
        """The rows of the chosen customers (a mask or positions), in the given order."""
        chosen = np.flatnonzero(customers) if customers.dtype == np.bool_ else customers
        lengths = self.lengths[chosen]
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        starts = np.repeat(self.offsets[:-1][chosen] - offsets[:-1], lengths)
        picks = starts + np.arange(offsets[-1], dtype=np.int64)
        return Histories(offsets, self.items[picks], self.n_items)

    def newest(self, cap: int) -> Histories:
        """At most the ``cap`` newest items of each customer."""
        if len(self) == 0 or int(self.lengths.max()) <= cap:
            return self
        return self.where(self.offsets[1:][self.rows_index] - np.arange(len(self.items)) <= cap)

    def padded(self, cap: int) -> tuple[IntArray, npt.NDArray[np.bool_]]:
        """At most the ``cap`` newest items of each customer as one matrix.

        Returns:
            int64 [customers, longest]: items, oldest first, padded with item 0; at least one column.
            bool [customers, longest]: which of them are no padding.
        """
        lengths = np.minimum(self.lengths, cap)
        columns = np.arange(lengths.max(initial=1))
        present = columns < lengths[:, None]
        if not len(self.items):
            return np.zeros(present.shape, dtype=np.int64), present
        places = (self.offsets[1:] - lengths)[:, None] + columns
        return np.where(present, np.take(self.items, places, mode="clip"), np.int64(0)), present

    def where(self, keep: npt.NDArray[np.bool_]) -> Histories:
        """The same customers with only the interactions marked in ``keep`` [interactions]."""
        counts = np.bincount(self.rows_index[keep], minlength=len(self))
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        return Histories(offsets, self.items[keep], self.n_items)

    def chunks(self, customers: int) -> Iterator[Histories]:
        """Consecutive pieces of at most ``customers`` customers (views, no copies)."""
        for start in range(0, len(self), customers):
            stop = min(start + customers, len(self))
            low, high = self.offsets[start], self.offsets[stop]
            yield Histories(self.offsets[start : stop + 1] - low, self.items[low:high], self.n_items)

    @classmethod
    def from_pairs(
        cls, customers: npt.ArrayLike, items: npt.ArrayLike, n_customers: int, n_items: int
    ) -> Histories:
        """Build from (customer, item) pairs given oldest first; repeats keep the first.

        Args:
            customers: integers [interactions] below ``n_customers``.
            items: integers [interactions] below ``n_items``.
            n_customers: Number of rows; customers without pairs get an empty row.
            n_items: Size of the catalogue.
        """
        u = np.asarray(customers, dtype=np.int64)
        i = np.asarray(items, dtype=np.int64)
        _, first = np.unique(u * n_items + i, return_index=True)
        keep = np.sort(first)
        u, i = u[keep], i[keep]
        order = np.argsort(u, kind="stable")
        counts = np.bincount(u, minlength=n_customers)
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        return cls(offsets, i[order].astype(np.int32), n_items)


def powers(longest: int, exponent: float) -> npt.NDArray[np.float64]:
    """1, 2^-exponent, 3^-exponent and so on, float64 [``longest`` or a little more].

    More of them leave the others as they are, to the last bit: they come in whole lots of a vector processor.
    """
    return np.arange(1, 64 * (longest // 64 + 1) + 1, dtype=np.float64) ** -exponent


def stack(parts: list[Histories]) -> Histories:
    """All customers of several shops, one after the other, over one catalogue."""
    ends = np.cumsum([0] + [len(p.items) for p in parts])
    offsets = [p.offsets[:-1] + e for p, e in zip(parts, ends, strict=False)]
    return Histories(
        np.concatenate([*offsets, ends[-1:]]).astype(np.int64),
        np.concatenate([p.items for p in parts]),
        parts[0].n_items,
    )


@dataclass(frozen=True)
class Catalogue:
    """The public list of items that all shops share; an item is known by its position.

    Attributes:
        item_ids: Opaque strings, unique.
        details: One row an item in the same order: any of title, category, brand, price.
    """

    item_ids: tuple[str, ...]
    details: pl.DataFrame = field(default_factory=pl.DataFrame)

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True)
class Shop:
    """One shop's data in a simulation: what it trains on and what is held out of it.

    Attributes:
        name: Opaque shop id.
        customers: Opaque customer ids [customers].
        train: Histories to learn from.
        held_out: Histories to predict, same customers in the same order.
    """

    name: str
    customers: Sequence[str]
    train: Histories
    held_out: Histories
