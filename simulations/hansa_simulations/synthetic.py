"""Scenario ``synthetic``: a federation of any size, drawn shop by shop from a few named parameters.

Items lie on the line [0, 1), each over a stretch as long as its popularity, side by side with the items of
its taste group. A point drawn uniformly from [0, 1) then follows global popularity, and one from a
stretch around a customer's favourite places follows that customer's taste; both cost one binary search.
So a draw needs no table of customers, or of groups, by items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.io.plugins import register_io_source

from hansa.errors import UsageError
from hansa.rng import Generator, seeded_generator
from hansa.schema import Histories, IntArray, ItemArray
from hansa_simulations.protocols import MIN_INTERACTIONS
from hansa_simulations.synthetic_parameters import SyntheticParameters

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

START = 1_704_067_200
"""Epoch seconds at which the generated time begins: 2024-01-01."""
LAST = float(np.nextafter(1.0, 0.0))
"""The largest point of the line."""
_DAY = 86_400
_CHUNK = 1_000_000  # interactions drawn at a time, about, for the sake of memory
_PATIENCE = 30  # rounds of redrawing before a customer who has run out of favourites takes any item


class CustomerIds(Sequence[str]):
    """Customer ids spelt when asked for: ``customer-0000042`` is person 42.

    Args:
        people: int32 [customers], the person of each customer.
    """

    def __init__(self, people: ItemArray) -> None:
        self.people = people

    def __len__(self) -> int:
        return len(self.people)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> CustomerIds: ...

    def __getitem__(self, index: int | slice) -> str | CustomerIds:
        if isinstance(index, slice):
            return CustomerIds(self.people[index])
        return f"customer-{self.people[index]:07}"


@dataclass(frozen=True)
class Batch:
    """Some customers of one shop.

    Attributes:
        customers: Their ids.
        histories: Their interactions, oldest first.
        timestamps: int64 [interactions], epoch seconds, ascending within a customer.
    """

    customers: CustomerIds
    histories: Histories
    timestamps: IntArray


class Population:
    """Everything about a generated federation but the interactions: O(customers + items) numbers.

    Args:
        parameters: What it is like.
        seed: Repeats it.

    Raises:
        UsageError: Parameters that contradict each other.

    Attributes:
        shop_names: Sorted.
        people: Number of people.
        shops_of_people: int64 [people]: shops that each is a customer of.
    """

    def __init__(self, parameters: SyntheticParameters, seed: int) -> None:
        parameters.check()
        self.parameters = parameters
        self.seed = seed
        width = len(str(parameters.shops))
        self.shop_names = [f"shop-{number + 1:0{width}}" for number in range(parameters.shops)]
        self._lay_out_items()
        self._deal_people()
        self._draw_tastes()

    def _lay_out_items(self) -> None:
        """Stretches of [0, 1) for the items in random order; groups are runs of about equally many."""
        p, n = self.parameters, self.parameters.items
        rng = seeded_generator(self.seed, "synthetic", "items")
        weights = (np.arange(1, n + 1) + p.head * n) ** -p.zipf
        ends = np.cumsum(rng.permutation(weights / weights.sum()))
        self._ends = ends / ends[-1]
        firsts = np.arange(p.groups + 1, dtype=np.int64) * n // p.groups
        self._borders = np.concatenate(([0.0], self._ends))[firsts]
        self._widths = np.diff(self._borders)
        self._item_at = rng.permutation(n).astype(np.int32)  # the catalogue's order tells nothing
        self._peaks = rng.random(n)
        group = np.repeat(np.arange(p.groups), np.diff(firsts))
        self._group_of_item = np.empty(n, dtype=np.int64)
        self._group_of_item[self._item_at] = group

    def _deal_people(self) -> None:
        """Who is a customer where; the first shop of a person is home, and no shop is empty."""
        p = self.parameters
        rng = seeded_generator(self.seed, "synthetic", "people")
        several = rng.random(p.customers) < p.overlapping
        counts = 1 + several * rng.integers(1, p.max_shops, p.customers)
        ends = np.cumsum(counts)
        self.people = int(np.searchsorted(ends, p.customers)) + 1
        counts = counts[: self.people]
        counts[-1] -= ends[self.people - 1] - p.customers
        if p.shops > self.people:
            raise UsageError(
                f"scenario.overlapping: {self.people:,} people are too few for {p.shops:,} shops; lower it"
            )
        self.shops_of_people = counts
        shares = np.cumsum(np.exp(p.size_spread * rng.standard_normal(p.shops)))
        person = np.repeat(np.arange(self.people, dtype=np.int64), counts)
        home = np.cumsum(counts) - counts

        def draw(slots: IntArray, late: bool) -> tuple[IntArray, Mask]:
            points = rng.random(len(slots))
            even = (points * p.shops).astype(np.int64)
            drawn = even if late else np.searchsorted(shares / shares[-1], points, side="right")
            founders = np.flatnonzero((home[person[slots]] == slots) & (person[slots] < p.shops))
            drawn[founders] = person[slots[founders]]
            return drawn, np.ones(len(slots), dtype=np.bool_)

        shop = _distinct(person, p.shops, draw)
        order = np.argsort(shop, kind="stable")
        ends = np.cumsum(np.bincount(shop, minlength=p.shops))
        self._members = np.split(person[order].astype(np.int32), ends[:-1])
        self._home = shop[home]

    def _draw_tastes(self) -> None:
        """The places that each person favours, float64 [people, interests], after the home shop's shares."""
        p = self.parameters
        rng = seeded_generator(self.seed, "synthetic", "tastes")
        self._places = np.empty((self.people, p.interests))
        by_home = np.argsort(self._home, kind="stable")
        ends = np.cumsum(np.bincount(self._home, minlength=p.shops))
        for low, high in pairwise([0, *ends.tolist()]):
            local = _balding_nichols(self._widths, p.heterogeneity, rng)
            group = np.searchsorted(
                np.cumsum(local)[:-1], rng.random((high - low, p.interests)), side="right"
            )
            within = rng.random((high - low, p.interests))
            self._places[by_home[low:high]] = np.minimum(
                self._borders[group] + within * self._widths[group], LAST
            )

    @property
    def catalogue(self) -> pl.DataFrame:
        """item_id and category, the taste group of each item; no order or name tells popularity."""
        numbers = pl.DataFrame({"item": np.arange(self.parameters.items), "group": self._group_of_item})
        item = pl.format("item-{}", pl.col("item").cast(pl.String).str.zfill(7))
        group = pl.format("group-{}", (pl.col("group") + 1).cast(pl.String).str.zfill(5))
        return numbers.select(item.alias("item_id"), group.alias("category"))

    def members(self, shop: int) -> CustomerIds:
        """The customers of a shop, in the order of its batches."""
        return CustomerIds(self._members[shop])

    def batches(self, shop: int) -> Iterator[Batch]:
        """A shop's interactions, about a million at a time; the same whenever they are asked for."""
        rng = seeded_generator(self.seed, "synthetic", "shop", shop)
        members = self._members[shop]
        size = int(max(1, _CHUNK // self.parameters.interactions))
        for start in range(0, len(members), size):
            yield self._batch(members[start : start + size], rng)

    def _batch(self, members: ItemArray, rng: Generator) -> Batch:
        p = self.parameters
        lengths = self._lengths(len(members), rng)
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        row = np.repeat(np.arange(len(members), dtype=np.int64), lengths)
        begin = (1 - p.activity) * rng.random(len(members))
        # Sorting row + time as one number orders the times within each row.
        times = np.sort(row + np.minimum(begin[row] + p.activity * rng.random(len(row)), 0.999_999)) - row
        places = self._places[members]

        def draw(slots: IntArray, late: bool) -> tuple[IntArray, Mask]:
            if late:
                return rng.integers(p.items, size=len(slots)), np.ones(len(slots), dtype=np.bool_)
            at = np.searchsorted(self._ends, self._points(places, row[slots], rng), side="right")
            if p.drift == 0:
                return at, np.ones(len(slots), dtype=np.bool_)
            return at, rng.random(len(slots)) < np.exp(-p.drift * np.abs(times[slots] - self._peaks[at]))

        items = self._item_at[_distinct(row, p.items, draw)]
        timestamps = START + (times * (p.days * _DAY)).astype(np.int64)
        return Batch(CustomerIds(members), Histories(offsets, items, p.items), timestamps)

    def _lengths(self, customers: int, rng: Generator) -> IntArray:
        """Shifted log-normal lengths, rounded at random to keep the mean; at most half the catalogue."""
        p = self.parameters
        factor = np.exp(p.spread * rng.standard_normal(customers) - p.spread**2 / 2)
        lengths = MIN_INTERACTIONS + (p.interactions - MIN_INTERACTIONS) * factor
        return np.minimum((lengths + rng.random(customers)).astype(np.int64), p.items // 2)

    def _points(self, places: Floats, rows: IntArray, rng: Generator) -> Floats:
        """A point of [0, 1) for each draw: anywhere, or around one of the customer's favourite places."""
        p = self.parameters
        points = rng.random(len(rows))
        own = np.flatnonzero(rng.random(len(rows)) < p.taste)
        place = places[rows[own], rng.integers(p.interests, size=len(own))]
        group = np.searchsorted(self._borders[1:-1], place, side="right")
        low, width = self._borders[group], self._widths[group]
        # Wrapped around within the group, so that every point of it is equally likely over all customers.
        points[own] = low + (place - low + (points[own] - 0.5) * p.breadth * width) % width
        return np.minimum(points, LAST)


def write_synthetic(folder: Path, parameters: SyntheticParameters, seed: int = 0) -> None:
    """Write a generated federation as a folder in the data contract, without holding it in memory.

    The interactions are ordered by shop and customer, oldest first; the folder reads as the customers
    and histories that the scenario draws.

    Args:
        folder: Where to write interactions.parquet and items.parquet; made if it is missing.
        parameters: What to generate.
        seed: Repeats it.

    Raises:
        UsageError: Parameters that contradict each other, or a folder that cannot be written.
    """
    population = Population(parameters, seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        population.catalogue.write_parquet(folder / "items.parquet")
        _write_interactions(folder / "interactions.parquet", population)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error


def _write_interactions(path: Path, population: Population) -> None:
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "shop_id": pl.String}
    item_ids = population.catalogue["item_id"]

    def frames(
        columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, size: int | None
    ) -> Iterator[pl.DataFrame]:
        for shop, name in enumerate(population.shop_names):
            for batch in population.batches(shop):
                people = pl.Series(batch.customers.people).gather(batch.histories.rows_index)
                yield pl.DataFrame({"person": people, "timestamp": batch.timestamps}).select(
                    pl.format("customer-{}", pl.col("person").cast(pl.String).str.zfill(7)).alias("user_id"),
                    item_ids.gather(batch.histories.items),
                    "timestamp",
                    pl.lit(name).alias("shop_id"),
                )

    register_io_source(frames, schema=schema).sink_parquet(path)


def _distinct(
    row: IntArray, n_values: int, draw: Callable[[IntArray, bool], tuple[IntArray, Mask]]
) -> IntArray:
    """Values below ``n_values`` for all slots, no two of a row alike; the first slot of a value keeps it.

    Args:
        row: Ascending; the row of each slot.
        n_values: Number of values.
        draw: Values for the given slots and whether each is accepted; what is declined or repeats is drawn
            again. After ``_PATIENCE`` rounds it is told to take anything.
    """
    values = np.zeros(len(row), dtype=np.int64)
    pending = slots = np.arange(len(row), dtype=np.int64)
    rounds = 0
    while len(pending):
        values[pending], accepted = draw(pending, rounds >= _PATIENCE)
        wrong = ~pl.Series(row[slots] * n_values + values[slots]).is_first_distinct().to_numpy()
        wrong[np.searchsorted(slots, pending)] |= ~accepted
        pending = slots[wrong]
        touched = np.zeros(row[-1] + 1, dtype=np.bool_)
        touched[row[pending]] = True
        slots = slots[touched[row[slots]]]
        rounds += 1
    return values


def _balding_nichols(shares: Floats, heterogeneity: float, rng: Generator) -> Floats:
    """Shares of one shop: Dirichlet with mean ``shares`` p and variance F p (1 - p), summing to 1."""
    if heterogeneity == 0:
        return shares
    drawn = rng.gamma(shares * (1 - heterogeneity) / heterogeneity)
    if drawn.sum() == 0:  # F is so near 1 that every gamma underflows: the limit is a single group
        drawn = rng.multinomial(1, shares / shares.sum()).astype(np.float64)
    return np.asarray(drawn / drawn.sum(), dtype=np.float64)
