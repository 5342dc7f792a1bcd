"""A shop's dates and times, as it writes them, to epoch seconds; what cannot be read becomes null."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from hansa.errors import UsageError

AUTO = "auto"
_LATEST = 1e11  # the year 5138 in seconds: numbers beyond are milliseconds or finer
_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))
_ISO = (
    r"^(?<date>\d{4}-\d{2}-\d{2}|\d{8})"
    r"(?:[T ]+(?<clock>\d{2}:\d{2})(?::(?<second>\d{2})(?:[.,](?<fraction>\d+))?)?)?"
    r" ?(?<zone>[Zz]|UTC|[+-]\d{2}(?::?\d{2})?)?$"
)
_CLOCK = ("%H", "%I", "%k", "%l", "%T", "%R", "%X", "%c", "%s", "%+")


def check_format(form: str, zone: str) -> None:
    """See that a format and a time zone mean something.

    Raises:
        UsageError: They do not.
    """
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise UsageError(
            f"shop.toml: data.columns.timezone: no time zone {zone!r}; write one such as Europe/Berlin"
        ) from None
    if form != AUTO and not _reads(form):
        raise UsageError(
            f"shop.toml: data.columns.time_format: {form!r} is no format of strftime; write one such as "
            "'%d.%m.%Y %H:%M', or auto"
        )


def _reads(form: str) -> bool:
    """Whether a format has a date in it and reads what it writes."""
    if "%" not in form:
        return False
    moment = datetime(2024, 10, 31, 23, 59, 58, tzinfo=UTC)
    try:
        found = _formatted(pl.Series([moment.strftime(form)]), form, "UTC").item()
    except (ValueError, pl.exceptions.PolarsError):
        return False
    return found is not None and abs(found - moment.timestamp()) < 86_400


def seconds(column: pl.Series, form: str = AUTO, zone: str = "UTC") -> pl.Series:
    """Times as float64 epoch seconds; null where there is none that can be read.

    Args:
        column: Text, numbers, dates or times.
        form: ``auto`` (ISO 8601; epoch seconds, milliseconds or finer, told apart by their size; eight
            digits are a date), or a format of strftime.
        zone: Of times that say none. An hour that the clocks skip counts as the one after it, one that
            comes twice as the first.
    """
    if column.dtype == pl.Date or column.dtype == pl.Datetime:
        found = _epoch(column.cast(pl.Datetime("us")) if column.dtype == pl.Date else column, zone)
    elif form != AUTO:
        text = column.cast(pl.String, strict=False).str.strip_chars()
        found = _formatted(text, form, zone)
    elif column.dtype == pl.String:
        found = _guessed(column.str.strip_chars(), zone)
    elif column.dtype.is_numeric():
        found = _numbers(column.cast(pl.Float64, strict=False))
    else:
        found = pl.Series([None] * len(column), dtype=pl.Float64)
    return found.set((found.abs() >= _LATEST).fill_null(False), None).rename(column.name)


def _formatted(text: pl.Series, form: str, zone: str) -> pl.Series:
    if any(part in form for part in _CLOCK):
        return _epoch(text.str.to_datetime(form, strict=False, time_unit="us"), zone)
    return _epoch(text.str.to_date(form, strict=False).cast(pl.Datetime("us")), zone)


def _guessed(text: pl.Series, zone: str) -> pl.Series:
    """Numbers and ISO 8601 in one column, each value by itself."""
    numbers = text.cast(pl.Float64, strict=False)
    found = _numbers(numbers)
    looks = text.str.len_chars() == 8
    written = ((numbers.is_null() & text.is_not_null()) | (looks & numbers.is_not_null())).arg_true()
    if not len(written):
        return found
    dated = _iso(text.gather(written), zone)
    # Eight digits that are no date of a calendar are seconds of the year 1970.
    return found.scatter(written, dated.zip_with(dated.is_not_null(), found.gather(written)))


def _iso(text: pl.Series, zone: str) -> pl.Series:
    parts = text.str.extract_groups(_ISO).struct.unnest()
    day = parts["date"].str.replace_all("-", "")
    moment = day + " " + parts["clock"].fill_null("00:00") + ":" + parts["second"].fill_null("00")
    naive = moment.str.to_datetime("%Y%m%d %H:%M:%S", strict=False, time_unit="us")
    offset = _offset(parts["zone"])
    local, fixed = _epoch(naive, zone), naive.dt.epoch("us").cast(pl.Float64) / 1e6 - offset
    fraction = ("0." + parts["fraction"].fill_null("0")).cast(pl.Float64)
    return fixed.zip_with(parts["zone"].is_not_null(), local) + fraction


def _offset(zone: pl.Series) -> pl.Series:
    """Seconds east of Greenwich of ``+02``, ``+0200``, ``+02:00`` and ``Z``."""
    digits = zone.str.replace_all("[:+Zz]|UTC|-", "").str.pad_end(4, "0")
    hours, minutes = (digits.str.slice(at, 2).cast(pl.Float64, strict=False) for at in (0, 2))
    sign = zone.str.starts_with("-").fill_null(False).cast(pl.Float64) * -2 + 1
    return sign * (3600 * hours + 60 * minutes)


def _numbers(numbers: pl.Series) -> pl.Series:
    """Epoch seconds, milliseconds, microseconds or nanoseconds, by their size."""
    values = numbers.fill_null(float("nan")).to_numpy()
    unit = np.select([np.abs(values) < limit for limit, _ in _UNITS], [unit for _, unit in _UNITS], np.nan)
    return pl.Series(values / unit).fill_nan(None)


def _epoch(times: pl.Series, zone: str) -> pl.Series:
    if times.dtype.time_zone is None:  # type: ignore[attr-defined]
        times = times.cast(pl.Datetime("us"))
        if zone != "UTC":
            hour = pl.duration(hours=1)
            named, skipped = (
                moment.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
                for moment in (pl.col("time"), pl.col("time") - hour)
            )
            frame = pl.DataFrame({"time": times})
            times = frame.select(pl.coalesce(named, skipped + hour)).to_series()
    return times.dt.epoch("us").cast(pl.Float64) / 1e6
