"""All that a shop may learn from: its customers and their histories over the shared catalogue."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from hansa.errors import HansaError
from hansa.schema import Catalogue, Histories
from hansa_client.config import ShopSettings, read_settings
from hansa_client.data.catalogue import Mapped, load_catalogue, map_items
from hansa_client.data.cleaning import Reading
from hansa_client.data.connectors import read_interactions
from hansa_client.data.exclusions import Exclusions, refuse_unconfirmed
from hansa_client.home import ShopHome


@dataclass(frozen=True)
class DataReport:
    """What was read, and what of it is used.

    Attributes:
        reading: Rows of the source.
        mapping: Item codes.
        excluded: Customers left out because they opted out.
        busiest: The largest share of the interactions that one customer has.
    """

    reading: Reading
    mapping: Mapped
    excluded: int
    busiest: float

    def lines(self) -> list[str]:
        """What to show, a line each."""
        out = [f"{self.excluded:,} customers left out, who opted out"] if self.excluded else []
        return [*self.reading.lines(), *self.mapping.lines(), *out]


@dataclass(frozen=True)
class ShopData:
    """A shop's customers and what they have had.

    Attributes:
        customers: Ids, sorted.
        histories: Their rows: distinct items, oldest first; of repeats the first counts.
        newest: Time of the newest interaction, epoch seconds; None where there is none.
        report: What was read and left out.
    """

    customers: list[str]
    histories: Histories
    newest: float | None
    report: DataReport


def load_data(
    home: ShopHome, settings: ShopSettings, *, anew: bool = False, catalogue: Catalogue | None = None
) -> ShopData:
    """Read, clean, map and sort a shop's interactions, without customers who opted out.

    A customer none of whose items the catalogue knows is no customer here.

    Args:
        home: The shop's folder.
        settings: What ``shop.toml`` says.
        anew: See ``read_interactions``.
        catalogue: The shared catalogue; None: that of the folder.

    Raises:
        UsageError: Source, settings, catalogue or the list of exclusions are wrong; never because of what is
            in a row.
        RefusalError: The shop was restored, and its list of exclusions may be older than that.
    """
    refuse_unconfirmed(home)
    catalogue = load_catalogue(home) if catalogue is None else catalogue
    exclusions = Exclusions(home)
    rows, reading = read_interactions(home, settings, anew=anew)
    hidden = exclusions.mask(rows["customer"])
    excluded = rows["customer"].filter(hidden).n_unique()
    known, mapped = map_items(rows.filter(~hidden), catalogue, settings, home)
    known = known.sort("time", maintain_order=True)
    names = known["customer"].unique().sort()
    places = pl.DataFrame({"customer": names}).with_row_index("place")
    who = known.select("customer").join(places, on="customer", how="left", maintain_order="left")["place"]
    counts = who.value_counts()["count"].max()
    busiest = float(counts) / len(known) if isinstance(counts, int) else 0.0
    newest = known["time"].max()
    return ShopData(
        customers=names.to_list(),
        histories=Histories.from_pairs(who.to_numpy(), known["item"].to_numpy(), len(names), len(catalogue)),
        newest=float(newest) if isinstance(newest, float) else None,
        report=DataReport(reading, mapped, excluded, busiest),
    )


def occurring(home: ShopHome, customers: Collection[str]) -> int | None:
    """How many of these customers the shop's data have now, for the operator; None if they cannot be read."""
    try:
        rows, _ = read_interactions(home, read_settings(home.settings))
    except HansaError:
        return None
    return len({name.strip() for name in customers} & set(rows["customer"].unique().to_list()))
