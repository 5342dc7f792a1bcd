"""CSV and Parquet, a file or a folder of them: rows as they are written, whatever is in them."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from hansa.errors import UsageError
from hansa_client.data.cleaning import Chunk, Kind
from hansa_client.data.sources import CHUNK, Mark, field_of, missing

if TYPE_CHECKING:
    from _csv import Reader

_Row = tuple[int, list[str] | None]
"""The line where a row ends, and its fields."""

_VALUE = re.compile(r"[\d.,:/+\- TZ]*\d[\d.,:/+\- TZ]*|\S+@\S+")
"""Numbers, dates and addresses, which name no column."""

_SUFFIXES = {"csv": (".csv", ".csv.gz"), "parquet": (".parquet",)}


def found_files(kind: str, path: Path) -> list[Path]:
    """The files of a source in the order of their names; of a folder those below it, too.

    Raises:
        UsageError: There are none.
    """
    wanted = " or ".join(_SUFFIXES[kind])
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"shop.toml: data.path: no file or folder {path}; give the one that holds the data")
    try:
        found = sorted(
            file
            for file in path.rglob("*")
            if file.name.endswith(_SUFFIXES[kind]) and file.name[0] not in "._" and file.is_file()
        )
    except OSError as error:
        raise _unreadable(path, error) from None
    if not found:
        raise UsageError(f"shop.toml: data.path: no file *{wanted} in the folder {path}; put one there")
    return found


def _unreadable(path: Path, error: Exception) -> UsageError:
    """What fails is the file; its text may hold values, so only the system's own words are told."""
    reason = (
        error.strerror if isinstance(error, OSError) and error.strerror else "damaged, or of another kind"
    )
    return UsageError(f"shop.toml: data.path: {path} cannot be read ({reason}); write it again")


def _places(files: Sequence[Path], root: Path) -> list[tuple[Path, str]]:
    return [(file, str(file.relative_to(root)) if file != root else file.name) for file in files]


class CsvSource:
    """See ``Source``. Fields are parted by Python's csv module, which takes whatever is written.

    Args:
        path: A file, perhaps compressed by gzip, or a folder.
        separator: One character.
        encoding: One that Python knows; a byte order mark is left out.
    """

    def __init__(self, path: Path, separator: str, encoding: str) -> None:
        self._path, self._separator = path, separator
        try:
            codec = codecs.lookup(encoding).name
        except LookupError:
            raise UsageError(
                f"shop.toml: data.encoding: {encoding!r} is unknown; write utf-8, cp1252 or another one"
            ) from None
        self._encoding = "utf-8-sig" if codec == "utf-8" else codec
        self._files = found_files("csv", path)

    def columns(self) -> list[str]:
        """See ``Source``."""
        with self._open(self._files[0]) as lines:
            return self._header(self._files[0], lines)[0]

    def head(self, rows: int) -> list[dict[str, object]]:
        """See ``Source``."""
        path = self._files[0]
        try:
            with self._open(path) as lines:
                names, reader = self._header(path, lines)
                return [dict(zip(names, row or [], strict=False)) for _, row in islice(_whole(reader), rows)]
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(path, error) from None

    def chunks(self, columns: Mapping[str, str], since: Mark | None) -> Iterator[Chunk]:
        """See ``Source``; a file is read as a whole, and what is older passed over."""
        for path, place in _places(self._files, self._path):
            try:
                with self._open(path) as lines:
                    yield from self._file(path, place, lines, columns, since)
            except (OSError, EOFError, zlib.error) as error:
                raise _unreadable(path, error) from None

    @contextmanager
    def _open(self, path: Path) -> Iterator[io.TextIOWrapper]:
        with ExitStack() as stack:
            try:
                file = stack.enter_context(path.open("rb"))
                packed = file.peek(2)[:2] == b"\x1f\x8b"
            except OSError as error:
                raise _unreadable(path, error) from None
            raw = stack.enter_context(gzip.GzipFile(fileobj=file)) if packed else file
            yield stack.enter_context(io.TextIOWrapper(raw, self._encoding, errors="replace", newline=""))

    def _header(self, path: Path, lines: io.TextIOWrapper) -> tuple[list[str], Reader]:
        reader = csv.reader(lines, delimiter=self._separator)
        try:
            names = [name.strip() for name in next(reader, [])]
        except csv.Error:
            names = []
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(path, error) from None
        if not any(names):
            raise UsageError(f"shop.toml: data.path: {path} has no header; write the columns' names first")
        return names, reader

    def _file(
        self,
        path: Path,
        place: str,
        lines: io.TextIOWrapper,
        columns: Mapping[str, str],
        since: Mark | None,
    ) -> Iterator[Chunk]:
        names, reader = self._header(path, lines)
        picks = {role: self._position(role, name, place, names) for role, name in columns.items()}
        rows = _whole(reader)
        while taken := list(islice(rows, CHUNK)):
            chunk = _columns(taken, picks, len(names))
            kind: Kind = "text"
            if "mark" in picks:
                kind = since.kind if since is not None else _kind(chunk["mark"])
            if since is not None:
                chunk = chunk.filter(_at_least(chunk["mark"], since))
            yield Chunk(chunk, place, "line", kind)

    def _position(self, role: str, name: str, place: str, names: list[str]) -> int:
        if name not in names:
            if any(_VALUE.fullmatch(found) for found in names):  # then its names are somebody's
                raise UsageError(
                    f"shop.toml: data.path: the first line of {place} looks like a row; write the columns' "
                    "names above it"
                )
            hint = ""
            if len(names) == 1:
                hint = f" (separator {self._separator!r}: perhaps data.separator is another one)"
            raise missing(field_of(role), name, place + hint, names)
        if names.count(name) > 1:
            raise UsageError(
                f"shop.toml: {field_of(role)}: {place} has several columns {name!r}; rename one of them"
            )
        return names.index(name)


def _whole(reader: Reader) -> Iterator[_Row]:
    """Rows but empty lines, None for what csv cannot take (a field that never ends): it goes on behind it."""
    while True:
        try:
            row: list[str] | None = next(reader)
        except StopIteration:
            return
        except csv.Error:
            row = None
        if row is None or row:
            yield reader.line_num, row


def _columns(taken: list[tuple[int, list[str] | None]], picks: Mapping[str, int], width: int) -> pl.DataFrame:
    """Rows by role; one with more fields than the header is damaged, one with fewer lacks the last ones."""
    damaged = [row is None or any(row[width:]) for _, row in taken]
    roles = {
        role: [row[at] if row is not None and at < len(row) else None for _, row in taken]
        for role, at in picks.items()
    }
    return pl.DataFrame(
        {**roles, "row": [line for line, _ in taken], "damaged": damaged},
        schema={**dict.fromkeys(roles, pl.String), "row": pl.Int64, "damaged": pl.Boolean},
    )


def _kind(marks: pl.Series) -> Kind:
    return "number" if marks.cast(pl.Float64, strict=False).null_count() == marks.null_count() else "text"


def _at_least(marks: pl.Series, since: Mark) -> pl.Series:
    if since.kind == "number":
        return (marks.cast(pl.Float64, strict=False) >= float(since.value)).fill_null(False)
    return (marks >= since.value).fill_null(False)


class ParquetSource:
    """See ``Source``.

    Args:
        path: A file or a folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = found_files("parquet", path)

    def columns(self) -> list[str]:
        """See ``Source``."""
        return list(self._schema(self._files[0]))

    def head(self, rows: int) -> list[dict[str, object]]:
        """See ``Source``."""
        try:
            return pl.read_parquet(self._files[0], n_rows=rows, hive_partitioning=False).to_dicts()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _unreadable(self._files[0], error) from None

    def chunks(self, columns: Mapping[str, str], since: Mark | None) -> Iterator[Chunk]:
        """See ``Source``."""
        for path, place in _places(self._files, self._path):
            schema = self._schema(path)
            for role, name in columns.items():
                if name not in schema:
                    raise missing(field_of(role), name, place, list(schema))
            picked = [pl.col(name).alias(role) for role, name in columns.items()]
            try:
                rows = pl.scan_parquet(path, hive_partitioning=False, glob=False).select(picked)
                rows = rows.with_row_index("row", offset=1)
                if since is not None:
                    rows = rows.filter(_typed(schema[columns["mark"]], since))
                if "mark" in columns:
                    rows = rows.with_columns(_as_text(schema[columns["mark"]]).alias("mark"))
                kind: Kind = "number" if _is_number(schema, columns) else "text"
                total = int(rows.select(pl.len()).collect().item())
                for start in range(0, total, CHUNK):
                    yield Chunk(rows.slice(start, CHUNK).collect(), place, marks=kind)
            except (OSError, pl.exceptions.PolarsError) as error:
                raise _unreadable(path, error) from None

    def _schema(self, path: Path) -> dict[str, pl.DataType]:
        try:
            return dict(pl.read_parquet_schema(path))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise _unreadable(path, error) from None


def _typed(kind: pl.DataType, since: Mark) -> pl.Expr:
    """Whether a mark is at least the last one, compared as what the column holds."""
    if kind.is_temporal():
        return pl.col("mark") >= pl.lit(since.value).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us")
    if kind.is_numeric():
        number = int(since.value) if since.value.lstrip("-").isdigit() else float(since.value)
        return pl.col("mark") >= number
    return pl.col("mark").cast(pl.String) >= since.value


def _is_number(schema: Mapping[str, pl.DataType], columns: Mapping[str, str]) -> bool:
    return "mark" in columns and schema[columns["mark"]].is_numeric()


def _as_text(kind: pl.DataType) -> pl.Expr:
    if kind.is_temporal():
        return pl.col("mark").cast(pl.Datetime("us")).dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
    return pl.col("mark").cast(pl.String)
