"""A shop's interactions from where they are: CSV, Parquet, or a database.

What is in a row never stops a reading: rows that cannot be used are left out and counted. What the operator
can mend (no such file, column, table, connection) is one line that names the field of ``shop.toml``.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from hansa_client.config import Columns, Data, ShopSettings
from hansa_client.data import rowcache
from hansa_client.data.cleaning import SCHEMA, Chunk, Reading, clean, count
from hansa_client.data.database import SqlSource
from hansa_client.data.exclusions import Exclusions
from hansa_client.data.files import CsvSource, ParquetSource
from hansa_client.data.rowcache import MARKED, Cached
from hansa_client.data.sources import Mark, Source
from hansa_client.data.times import check_format
from hansa_client.home import ShopHome

INTERACTIONS = ("customer", "item", "time")


def source_of(home: ShopHome, data: Data) -> Source:
    """The source that ``shop.toml`` names.

    Raises:
        UsageError: It is not there, or cannot be opened.
    """
    if data.kind == "sql":
        return SqlSource(data, home.root)
    path = home.root / data.path
    return ParquetSource(path) if data.kind == "parquet" else CsvSource(path, data.separator, data.encoding)


def read_interactions(
    home: ShopHome, settings: ShopSettings, *, anew: bool = False
) -> tuple[pl.DataFrame, Reading]:
    """Read a shop's interactions, all or with ``data.incremental`` those that are newer than the cache.

    Args:
        home: The shop's folder.
        settings: What ``shop.toml`` says.
        anew: Forget what was read before: finds rows that were deleted, changed or came late.

    Returns:
        customer and item (the shop's codes), strings; time, float64 epoch seconds; in the source's order. And
        what was read and left out.

    Raises:
        UsageError: The source or the settings are wrong; never because of what is in a row.
    """
    data = settings.data
    check_format(data.columns.time_format, data.columns.timezone)
    source = source_of(home, data)
    if not data.incremental:
        rowcache.drop(home)
        rows, first, _ = _read(source.chunks(_roles(data), None), data.columns, None)
        report = count(rows, first, len(rows), True)
    else:
        with rowcache.turn(home):
            rows, report = _incremental(home, data, source, anew)
    return rows.filter(pl.col("reason") == 0).select(INTERACTIONS), report


def _incremental(home: ShopHome, data: Data, source: Source, anew: bool) -> tuple[pl.DataFrame, Reading]:
    """The cached rows and the newer ones.

    Rows that have the largest mark itself are asked for again: more of them may have come since.
    """
    before = None if anew else rowcache.recall(home, data)
    since = None if before is None else before.mark
    rows, first, mark = _read(source.chunks(_roles(data), since), data.columns, since)
    fresh = len(rows)
    if before is not None:
        older = before.rows if since is None else before.rows.filter(pl.col("mark").ne_missing(since.value))
        rows = pl.concat([older, rows])
        first = {**first, **before.first}
    hidden = Exclusions(home).mask(rows["customer"])
    rows = rows.filter(~hidden) if hidden.any() else rows
    rowcache.keep(home, data, Cached(rows, mark, first))
    return rows, count(rows, first, fresh, before is None)


def _roles(data: Data) -> dict[str, str]:
    columns = data.columns
    roles = {"customer": columns.customer, "item": columns.item, "time": columns.time}
    if columns.quantity:
        roles["quantity"] = columns.quantity
    if data.incremental:
        roles["mark"] = data.incremental
    return roles


def _read(
    chunks: Iterable[Chunk], columns: Columns, since: Mark | None
) -> tuple[pl.DataFrame, dict[str, str], Mark | None]:
    """Cleaned rows, where each reason came first, and the largest mark."""
    parts: list[pl.DataFrame] = []
    places: dict[str, str] = {}
    mark = since
    for chunk in chunks:
        rows, first = clean(chunk, columns)
        places = {**first, **places}
        if "mark" in chunk.rows.columns:
            rows = rows.with_columns(chunk.rows["mark"])
            mark = _larger(mark, chunk)
        parts.append(rows)
    empty = pl.DataFrame(schema=MARKED if parts and "mark" in parts[0].columns else SCHEMA)
    return pl.concat([empty, *parts]) if parts else empty, places, mark


def _larger(mark: Mark | None, chunk: Chunk) -> Mark | None:
    marks = chunk.rows["mark"].drop_nulls()
    if chunk.marks == "number":
        numbers = marks.cast(pl.Int64, strict=False)
        if numbers.null_count():
            numbers = marks.cast(pl.Float64, strict=False).fill_nan(None)
        at = numbers.arg_max()
        best = None if at is None else marks[at]
        if best is None or (mark is not None and float(mark.value) >= float(best)):
            return mark
        return Mark("number", best)
    top = marks.max()
    if not isinstance(top, str) or (mark is not None and mark.value >= top):
        return mark
    return Mark("text", top)
