"""Reading and checking a folder in the data contract.

A folder holds ``interactions.(parquet|csv|csv.gz)`` with user_id, item_id, timestamp (epoch seconds or
ISO 8601; without an offset it is UTC) and optionally shop_id (or domain), quantity, price and rating,
and perhaps ``items.(parquet|csv|csv.gz)`` with item_id and any of title, category, brand and price.
Ids are opaque strings: the CSV value ``007`` stays ``007``. Every defect is one ``UsageError`` that
names file, column, row (1 is the first row below the header) and the fix.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import polars as pl

from hansa.errors import UsageError

SUFFIXES = ("parquet", "csv", "csv.gz")
REQUIRED = ("user_id", "item_id", "timestamp")
NUMBERS = ("quantity", "price", "rating")
DETAILS = ("title", "category", "brand")

_ROW = "__row"
# Past this many epoch seconds (the year 5138) a time is in truth given in milliseconds or finer.
_LATEST_SECONDS = 100_000_000_000
_TIME_FORMATS = (
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S",
    *(
        f"%Y-%m-%d{time}{zone}"
        for zone in ("", "%#z")
        for time in ("T%H:%M:%S%.f", " %H:%M:%S%.f", "T%H:%M", " %H:%M")
    ),
)


def read_interactions(folder: str | Path, extra: Sequence[str] = ()) -> pl.DataFrame:
    """The interactions of a folder, checked and normalised, in file order.

    Args:
        folder: A folder in the data contract.
        extra: Further columns to pass through unchanged where the file has them.

    Returns:
        user_id and item_id (strings), timestamp (int64, microseconds since 1970-01-01 UTC, so that
        the order within a second survives), then shop_id (string), quantity, price and rating
        (float64; null where unknown) and the ``extra`` columns, each only if the file has it.

    Raises:
        UsageError: Whatever is wrong with the folder, the file or a value in it.
    """
    path = _find(Path(folder), "interactions")
    if path is None:
        raise UsageError(f"{folder}: no interactions file; add one of {_names('interactions')}")
    names = _header(path)
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise UsageError(
            f"{path}: no column {missing[0]!r}; found {_listed(names)}; rename or add the column"
        )
    shop = next((name for name in ("shop_id", "domain") if name in names), None)
    numbers = [name for name in NUMBERS if name in names]
    passed = [name for name in dict.fromkeys(extra) if name in names]
    known = [*REQUIRED, *([shop] if shop else []), *numbers]
    raw = _load(path, [*known, *(name for name in passed if name not in known)])
    columns = [
        _ids(raw, "user_id", path),
        _ids(raw, "item_id", path),
        _times(raw, "timestamp", path),
        *([_ids(raw, shop, path).rename("shop_id")] if shop else []),
        *(_number(raw, name, path) for name in numbers),
    ]
    taken = {column.name for column in columns}
    return pl.DataFrame([*columns, *(raw[name] for name in passed if name not in taken)])


def read_items(folder: str | Path) -> pl.DataFrame | None:
    """The public catalogue of a folder in file order, or None without an items file.

    The catalogue need not be complete: an item that only the interactions know is still an item,
    it just has no details.

    Returns:
        item_id (unique strings), then those of title, category, brand (strings) and price (float64)
        that the file has; null where unknown.

    Raises:
        UsageError: Whatever is wrong with the file or a value in it.
    """
    path = _find(Path(folder), "items")
    return None if path is None else read_item_file(path)


def read_item_file(path: Path) -> pl.DataFrame:
    """A public catalogue in one file, CSV or Parquet; see ``read_items``.

    Raises:
        UsageError: Whatever is wrong with the file or a value in it.
    """
    names = _header(path)
    if "item_id" not in names:
        raise UsageError(f"{path}: no column 'item_id'; found {_listed(names)}; rename or add the column")
    details = [name for name in DETAILS if name in names]
    prices = ["price"] if "price" in names else []
    raw = _load(path, ["item_id", *details, *prices])
    ids = _ids(raw, "item_id", path)
    repeated = ~ids.is_first_distinct()
    if repeated.any():
        second = int(repeated.arg_true()[0])
        first = int((ids == ids[second]).arg_true()[0])
        raise UsageError(
            f"{path}: column 'item_id', row {raw[_ROW][second]}: {_shown(ids[second])} is already in "
            f"row {raw[_ROW][first]}; keep one row an item"
        )
    texts = [_text(raw, name, path) for name in details]
    return pl.DataFrame([ids, *texts, *(_number(raw, name, path) for name in prices)])


def _names(stem: str) -> str:
    return ", ".join(f"{stem}.{suffix}" for suffix in SUFFIXES)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12])
    return shown + ", ..." if len(names) > 12 else shown


def _shown(value: object) -> str:
    """A value as an error quotes it: one short line."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _find(folder: Path, stem: str) -> Path | None:
    """The one file called ``stem`` in the folder."""
    if not folder.exists():
        raise UsageError(f"{folder}: no such folder; give a folder that holds {_names('interactions')}")
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; give the folder that holds {_names('interactions')}")
    found = [path for suffix in SUFFIXES if (path := folder / f"{stem}.{suffix}").is_file()]
    if len(found) > 1:
        raise UsageError(f"{folder}: both {found[0].name} and {found[1].name}; keep one of them")
    return found[0] if found else None


def _open(path: Path) -> BinaryIO:
    """The decompressed bytes of a CSV file; like polars, goes by its first bytes, not by its name."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if compressed else path.open("rb")


def _header(path: Path) -> list[str]:
    """The column names of a file, unique."""
    try:
        if path.suffix == ".parquet":
            names = list(pl.read_parquet_schema(path))
        else:
            with _open(path) as file:
                names = next(csv.reader([file.readline().decode("utf-8-sig")]), [])
    except UnicodeDecodeError:
        raise _not_utf8(path, 0) from None
    except (OSError, EOFError, pl.exceptions.PolarsError) as error:
        raise _unreadable(path, error) from None
    if not names:
        raise UsageError(f"{path}: the file is empty; write a header and at least one row")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{path}: column {name!r} appears twice in the header; rename or drop one")
    return names


def _load(path: Path, columns: list[str]) -> pl.DataFrame:
    """The named columns, CSV ones as text, and the row number of each row; blank lines are dropped."""
    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path, columns=columns)
        else:
            frame = pl.read_csv(path, columns=columns, infer_schema=False)
    except (OSError, EOFError, pl.exceptions.PolarsError) as error:
        if path.suffix != ".parquet" and (row := _first_undecodable(path)) is not None:
            raise _not_utf8(path, row) from None
        raise _unreadable(path, error) from None
    frame = frame.with_row_index(_ROW, offset=1)
    if path.suffix != ".parquet":
        frame = frame.filter(~pl.all_horizontal(pl.col(columns).is_null()))
    if frame.is_empty():
        raise UsageError(f"{path}: the file holds no rows; write at least one row below the header")
    return frame


def _first_undecodable(path: Path) -> int | None:
    """The first line that is not UTF-8 (0 is the header), or None."""
    try:
        with _open(path) as file:
            for line, content in enumerate(file):
                try:
                    content.decode()
                except UnicodeDecodeError:
                    return line
    except (OSError, EOFError):
        pass
    return None


def _not_utf8(path: Path, row: int) -> UsageError:
    where = f"row {row}" if row else "the header"
    return UsageError(f"{path}: {where}: not UTF-8 text; save the file with UTF-8 encoding")


def _unreadable(path: Path, error: Exception) -> UsageError:
    reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
    kind = "Parquet" if path.suffix == ".parquet" else "CSV"
    return UsageError(f"{path}: cannot be read as {kind} ({reason}); write the file again")


def _wrong(raw: pl.DataFrame, name: str, path: Path, bad: pl.Series, problem: str) -> None:
    """Raise for the first row where ``bad`` is true, if any."""
    if not bad.any():
        return
    at = int(bad.arg_true()[0])
    value = raw[name][at]
    given = "no value" if value is None or value == "" else _shown(value)
    raise UsageError(f"{path}: column {name!r}, row {raw[_ROW][at]}: {given}; {problem}")


def _ids(raw: pl.DataFrame, name: str, path: Path) -> pl.Series:
    column = raw[name]
    if not (column.dtype.is_integer() or column.dtype in (pl.String, pl.Categorical, pl.Enum)):
        raise UsageError(
            f"{path}: column {name!r} holds {column.dtype}; ids are text or integers, so convert the column"
        )
    text = column.cast(pl.String)
    _wrong(raw, name, path, (text.is_null()) | (text == ""), "give every row an id")
    return text


def _text(raw: pl.DataFrame, name: str, path: Path) -> pl.Series:
    if raw[name].dtype.is_nested():
        raise UsageError(f"{path}: column {name!r} holds {raw[name].dtype}; write it as text")
    return raw[name].cast(pl.String)


def _number(raw: pl.DataFrame, name: str, path: Path) -> pl.Series:
    """A float64 column, finite or null; a negative quantity (a return) is refused."""
    column = raw[name]
    if column.dtype.is_nested() or column.dtype.is_temporal():
        raise UsageError(f"{path}: column {name!r} holds {column.dtype}; write it as numbers")
    known = column.is_not_null()
    if column.dtype == pl.String:
        column = column.str.strip_chars()
        known &= column != ""
    number = column.cast(pl.Float64, strict=False)
    _wrong(raw, name, path, known & ~number.is_finite().fill_null(False), "write a number or leave it empty")
    if name == "quantity":
        _wrong(raw, name, path, (number < 0).fill_null(False), "leave returns out, quantities are 0 or more")
    return number


def _times(raw: pl.DataFrame, name: str, path: Path) -> pl.Series:
    """Microseconds since 1970-01-01 UTC, int64."""
    column = raw[name]
    if column.dtype == pl.String:
        micros = _parsed(column.str.strip_chars())
    elif column.dtype in (pl.Datetime, pl.Date):
        micros = (
            column.cast(pl.Datetime("us")).to_physical() if column.dtype == pl.Date else column.dt.epoch("us")
        )
    elif column.dtype.is_numeric():
        micros = _from_seconds(column)
    else:
        micros = pl.Series(name, [None] * len(column), dtype=pl.Int64)
    _wrong(raw, name, path, micros.is_null(), "write epoch seconds or ISO 8601 such as 2024-05-31T12:00:00Z")
    _wrong(
        raw,
        name,
        path,
        (micros.abs() > _LATEST_SECONDS * 1_000_000),
        "beyond the year 5138: write seconds, not milliseconds",
    )
    return micros.rename(name)


def _from_seconds(column: pl.Series) -> pl.Series:
    """Seconds to int64 microseconds; null where not finite; beyond the limit just clipped past it."""
    limit = _LATEST_SECONDS + 1
    if column.dtype.is_integer():
        return column.cast(pl.Int64, strict=False).clip(-limit, limit) * 1_000_000
    seconds = column.cast(pl.Float64)
    return (seconds.set(~seconds.is_finite(), None).clip(-limit, limit) * 1e6).round().cast(pl.Int64)


def _parsed(text: pl.Series) -> pl.Series:
    """Text to int64 microseconds: whole seconds, then other numbers, then each ISO form still needed."""
    micros = _from_seconds(text.cast(pl.Int64, strict=False))
    if micros.null_count():
        text = text.str.strip_suffix("Z")  # UTC is the default, and plain forms parse many times faster
    readers: list[Callable[[pl.Series], pl.Series]] = [
        lambda rest: _from_seconds(rest.cast(pl.Float64, strict=False)),
        *(partial(_from_iso, form) for form in _TIME_FORMATS[:2]),
        lambda rest: rest.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")).to_physical(),
        *(partial(_from_iso, form) for form in _TIME_FORMATS[2:]),
    ]
    for read in readers:
        left = (micros.is_null() & text.is_not_null()).arg_true()
        if not len(left):
            break
        micros = micros.scatter(left, read(text.gather(left)))
    return micros


def _from_iso(form: str, text: pl.Series) -> pl.Series:
    return text.str.to_datetime(form, strict=False, time_unit="us").dt.epoch("us")
