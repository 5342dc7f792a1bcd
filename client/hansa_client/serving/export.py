"""Lists of all customers as one file, written in pieces: memory does not grow with the customers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from hansa.errors import UsageError
from hansa_client.serving.opening import Counter

CHUNK_CELLS = 1 << 20
"""Scores held at a time: 4 MB an array of them."""
PIECE_ROWS = 20_000
"""Rows of the file held at a time, about."""
SCHEMA = {
    "customer": pl.String,
    "rank": pl.Int32,
    "item": pl.String,
    "score": pl.Float32,
    "reason": pl.String,
}


def export(
    counter: Counter, out: Path, k: int, *, again: bool = False, told: Callable[[int], None] = lambda n: None
) -> int:
    """Write the list of every customer: customer, rank (from 1), item (the shop's code), score, reason.

    The file is for the shop alone (mode 0600), and appears whole or not at all.

    Args:
        counter: What serves.
        out: A file that ends in ``.parquet`` or ``.csv``.
        k: Most items in a list.
        again: Whether items that a customer has had are listed.
        told: Told the number of customers of each piece.

    Returns:
        Number of customers.

    Raises:
        UsageError: The file's name ends otherwise, or it cannot be written.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise UsageError(f"--out {out}: give a file that ends in .parquet or .csv")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            draft = Path(folder) / out.name
            for number, piece in enumerate(tables(counter, k, again=again)):
                piece.write_parquet(Path(folder) / f"{number:08}.piece")
                told(piece["customer"].n_unique())
            pieces = sorted(Path(folder).glob("*.piece"))
            whole = pl.scan_parquet(pieces) if pieces else pl.LazyFrame(schema=SCHEMA)
            if out.suffix == ".csv":
                whole.sink_csv(draft)
            else:
                whole.sink_parquet(draft)
            draft.chmod(0o600)
            draft.replace(out)
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror or error}; name a file that you may write") from error
    return counter.known.facts.customers


def tables(counter: Counter, k: int, *, again: bool = False) -> Iterator[pl.DataFrame]:
    """The rows of ``export`` in pieces of whole customers.

    With ``shared_only`` customers are scored one by one: not even a rounding depends on the others.
    """
    serving, assortment = counter.serving, counter.assortment
    names, histories = counter.known.customers, counter.known.histories
    size = 1 if serving.shared_only else max(1, CHUNK_CELLS // serving.n_items)
    start, batch = 0, []
    for chunk in histories.chunks(size):
        for name, answer in zip(
            names[start : start + len(chunk)], serving.lists(chunk, k, again=again), strict=True
        ):
            batch += [
                (name, rank, assortment.code(found.item), found.score, found.reason.text(assortment.title))
                for rank, found in enumerate(answer, start=1)
            ]
        start += len(chunk)
        if len(batch) >= PIECE_ROWS:
            yield pl.DataFrame(batch, schema=SCHEMA, orient="row")
            batch = []
    if batch:
        yield pl.DataFrame(batch, schema=SCHEMA, orient="row")
