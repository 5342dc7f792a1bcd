"""The rows that incremental reading has seen, kept in the vault so that only newer ones are asked for.

**What it knows:** rows that were there when they were read. What is deleted or changed at the source
afterwards stays as it was until everything is read anew, but for customers who are excluded: their rows
are taken out here at once. It is one file for its owner alone and never leaves.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hansa.durable import write_whole
from hansa_client.config import Data
from hansa_client.data.cleaning import SCHEMA
from hansa_client.data.sources import Mark
from hansa_client.home import ShopHome

MARKED = {**SCHEMA, "mark": pl.String}
_ABOUT = "hansa"


@dataclass(frozen=True)
class Cached:
    """What was read before.

    Attributes:
        rows: Columns of ``MARKED``.
        mark: The largest mark among them; None before the first.
        first: Where each reason to leave a row out came first.
    """

    rows: pl.DataFrame
    mark: Mark | None
    first: dict[str, str]


def path_of(home: ShopHome) -> Path:
    """The file."""
    return home.vault / "interactions.parquet"


@contextmanager
def turn(home: ShopHome) -> Iterator[None]:
    """Processes take turns with the file: nobody puts back what another has just taken out."""
    home.vault.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(home.vault, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def recall(home: ShopHome, data: Data) -> Cached | None:
    """What was read of this very source; None if it was another one, or nothing, or the file is damaged."""
    try:
        content = path_of(home).read_bytes()
        about = json.loads(pl.read_parquet_metadata(io.BytesIO(content))[_ABOUT])
        if about["source"] != _identity(data):
            return None
        rows = pl.read_parquet(io.BytesIO(content))
        mark = None if about["mark"] is None else Mark(**about["mark"])
        if dict(rows.schema) == MARKED:
            return Cached(rows, mark, dict(about["first"]))
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError):
        pass
    return None


def keep(home: ShopHome, data: Data, cached: Cached) -> None:
    """Keep what was read, in one piece; a full disk only means that everything is asked for next time."""
    mark = None if cached.mark is None else {"kind": cached.mark.kind, "value": cached.mark.value}
    about = {"source": _identity(data), "mark": mark, "first": cached.first}
    with contextlib.suppress(OSError):
        _write(home, cached.rows, json.dumps(about))


def forget(home: ShopHome, customers: Collection[str]) -> int:
    """Take customers' rows out; a file that cannot be read goes as a whole.

    Returns:
        How many rows went.
    """
    if not path_of(home).exists():
        return 0
    with turn(home):
        return _forget(home, customers)


def _forget(home: ShopHome, customers: Collection[str]) -> int:
    path = path_of(home)
    try:
        content = path.read_bytes()
        about = pl.read_parquet_metadata(io.BytesIO(content))[_ABOUT]
        rows = pl.read_parquet(io.BytesIO(content))
        left = rows.filter(~pl.col("customer").is_in(list(customers)).fill_null(False))
        _write(home, left, about)
    except (OSError, KeyError, pl.exceptions.PolarsError):
        path.unlink(missing_ok=True)
        return 0
    return len(rows) - len(left)


def drop(home: ShopHome) -> None:
    """Forget everything; the next reading asks for all rows."""
    with contextlib.suppress(FileNotFoundError):
        path_of(home).unlink()


def _identity(data: Data) -> str:
    """Which source and columns the rows are of; where the password is plays no part."""
    return hashlib.sha256(data.model_copy(update={"password": ""}).model_dump_json().encode()).hexdigest()


def _write(home: ShopHome, rows: pl.DataFrame, about: str) -> None:
    buffer = io.BytesIO()
    rows.write_parquet(buffer, metadata={_ABOUT: about})
    write_whole(path_of(home), buffer.getvalue())
