"""From a shop's rows to interactions: what cannot be used is left out and counted, never an error.

A source hands over rows with its own values; here they become customer, item and time. What a report says of
rows that were left out is how many, why, and where the first one is: never a value, which may be somebody's
name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from hansa_client.config import Columns
from hansa_client.data.times import seconds

REASONS = (
    "",
    "damaged row",
    "no customer",
    "no item",
    "no time",
    "time not readable",
    "no quantity",
    "quantity not readable",
    "returned or none bought",
)
"""Why a row was left out, by number; 0: it was not."""

Kind = Literal["number", "text"]

SCHEMA = {"customer": pl.String, "item": pl.String, "time": pl.Float64, "reason": pl.UInt8}
"""Of cleaned rows; of one that is left out only the reason is kept."""

_NOTHING = ("", "NULL", "Null", "null", "\\N", "NaN", "nan", "None", "none", "N/A", "n/a")


@dataclass(frozen=True)
class Chunk:
    """Some rows of a source.

    Attributes:
        rows: Columns customer, item, time and perhaps quantity, as the source has them; row, its number
            there; perhaps damaged (bool).
        place: The file or table, for reports.
        unit: What row counts: ``line`` or ``row``.
        marks: What the incremental column holds, if there is one.
    """

    rows: pl.DataFrame
    place: str
    unit: str = "row"
    marks: Kind = "text"


@dataclass
class Reading:
    """What was read of a source, and what was left out; no value of any row is in it.

    Attributes:
        rows: Rows read.
        dropped: Rows left out, by reason.
        first: Where the first of them is, by reason.
        anew: Whether everything was read; else only rows newer than the cache.
        fresh: Rows that were asked for this time.
    """

    rows: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    anew: bool = True
    fresh: int = 0

    @property
    def kept(self) -> int:
        """Rows that are used."""
        return self.rows - sum(self.dropped.values())

    @property
    def share_dropped(self) -> float:
        """Of all rows, those left out; 0 where there are none."""
        return 1 - self.kept / self.rows if self.rows else 0.0

    def lines(self) -> list[str]:
        """What to show, a line each."""
        told = [f"{self.rows:,} rows read, {self.kept:,} used"]
        for reason, count in sorted(self.dropped.items(), key=lambda found: -found[1]):
            at = f"; the first: {self.first[reason]}" if reason in self.first else ""
            told.append(f"{count:,} left out: {reason}{at}")
        return told


def clean(chunk: Chunk, columns: Columns) -> tuple[pl.DataFrame, dict[str, str]]:
    """Rows of ``SCHEMA``, one for each of the chunk's in its order, and where each reason came first."""
    raw = chunk.rows
    customer, item = text(raw["customer"]), text(raw["item"])
    written = _given(raw["time"])
    time = seconds(raw["time"], columns.time_format, columns.timezone)
    wrong: list[pl.Series] = [
        _damaged(raw, customer, item),
        customer.is_null(),
        item.is_null(),
        ~written,
        written & time.is_null(),
    ]
    if "quantity" in raw.columns:
        given, sign = _given(raw["quantity"]), bought(raw["quantity"])
        wrong += [~given, given & sign.is_null(), (~sign).fill_null(False)]
    reason = pl.Series("reason", [0], dtype=pl.UInt8).new_from_index(0, len(raw))
    for number in range(len(wrong), 0, -1):  # the first in the list wins
        reason = reason.set(wrong[number - 1], number)
    good = reason == 0
    found = pl.DataFrame([customer.rename("customer"), item.rename("item"), time.rename("time"), reason])
    found = found.with_columns(
        pl.when(good).then(pl.col(name)).otherwise(None) for name in ("customer", "item", "time")
    )
    first = {}
    for number in reason.filter(~good).unique().to_list():
        at = raw["row"][int((reason == number).arg_max() or 0)]
        first[REASONS[number]] = f"{chunk.place}, {chunk.unit} {at}"
    return found, first


def count(rows: pl.DataFrame, first: dict[str, str], fresh: int, anew: bool) -> Reading:
    """The report on cleaned rows."""
    found = dict(rows["reason"].value_counts().rows())
    dropped = {REASONS[number]: many for number, many in sorted(found.items()) if number}
    return Reading(len(rows), dropped, {name: first[name] for name in dropped if name in first}, anew, fresh)


def text(column: pl.Series) -> pl.Series:
    """Ids as text without spaces around them; null where there is none. 12.0 is 12, as it once was."""
    if column.dtype.is_float():
        whole = (column == column.round()) & (column.abs() < 2.0**53)
        as_whole = column.set(~whole.fill_null(False), None).cast(pl.Int64).cast(pl.String)
        column = as_whole.zip_with(as_whole.is_not_null(), column.cast(pl.String))
    elif column.dtype == pl.Binary:
        column = column.cast(pl.String, strict=False)
    elif column.dtype.is_nested():
        column = pl.Series([None] * len(column), dtype=pl.String)
    found = column.cast(pl.String, strict=False).str.strip_chars()
    return found.set(found.is_in(_NOTHING).fill_null(False), None)


def bought(quantity: pl.Series) -> pl.Series:
    """Whether a quantity is above 0; null where it is no number.

    Only the sign matters, so that ``1.000``, ``1,000`` and ``1.000,5`` need no telling apart.
    """
    if quantity.dtype.is_numeric():
        return quantity.cast(pl.Float64, strict=False).fill_nan(None) > 0
    written = quantity.cast(pl.String, strict=False).str.replace_all(r"[\s']", "")
    plain = written.str.contains(r"^\+?-?\d*[.,]?\d[\d.,]*(?:[eE][+-]?\d+)?-?$")
    negative = written.str.starts_with("-") | written.str.ends_with("-")
    some = written.str.replace(r"[eE].*$", "").str.contains("[1-9]")
    return (some & ~negative).set(~plain.fill_null(False), None)


def _given(column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        return (~column.str.strip_chars().is_in(_NOTHING)).fill_null(False)
    missing = column.is_null()
    return ~(missing | column.is_nan().fill_null(False)) if column.dtype.is_float() else ~missing


def _damaged(raw: pl.DataFrame, customer: pl.Series, item: pl.Series) -> pl.Series:
    """Rows that the source could not part into fields, or whose ids hold what no id does."""
    known = raw["damaged"] if "damaged" in raw.columns else pl.Series([False]).new_from_index(0, len(raw))
    for ids in (customer, item):
        known |= ids.str.contains("[\ufffd\x00-\x1f]").fill_null(False)
    return known
