"""The SQLite file under a ledger: rows in order, added and never changed.

Each use opens the file anew and closes it again, which puts all of it into the one file and leaves no handle
behind that could point to a file that was since replaced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from hansa.dp.ledger.entries import Row

PATIENCE = 30.0
"""Seconds to wait for another process's turn to end."""

_SCHEMA = """
CREATE TABLE entries (sequence INTEGER PRIMARY KEY, text BLOB NOT NULL, signature BLOB NOT NULL);
CREATE TRIGGER no_update BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'a ledger only grows'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'a ledger only grows'); END;
CREATE TRIGGER no_gap BEFORE INSERT ON entries
    WHEN NEW.sequence IS NOT (SELECT COALESCE(MAX(sequence), 0) + 1 FROM entries)
    BEGIN SELECT RAISE(ABORT, 'a ledger only grows at its end'); END;
"""


def build(path: Path, rows: list[Row], *, durable: bool) -> None:
    """A new file with these rows, in one piece on the disk."""
    for leftover in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        leftover.unlink(missing_ok=True)
    with closing(_connect(path, "rwc", durable)) as base:
        base.execute(f"PRAGMA journal_mode={'WAL' if durable else 'TRUNCATE'}")
        base.executescript(_SCHEMA)
        base.execute("BEGIN IMMEDIATE")
        for row in rows:
            append(base, row)
        base.execute("COMMIT")
    path.chmod(0o600)


@contextmanager
def turn(path: Path, *, durable: bool) -> Iterator[sqlite3.Connection]:
    """A turn as the only writer of an existing file; what is not committed when it ends is undone.

    Args:
        path: The file.
        durable: Commits are on the disk (write-ahead log, synchronous=FULL) before they return; else they
            outlive processes only, and the file may lie on a network drive.
    """
    with closing(_connect(path, "rw", durable)) as base:
        base.execute("BEGIN IMMEDIATE")
        yield base


@contextmanager
def reading(path: Path, mode: str = "ro") -> Iterator[sqlite3.Connection]:
    """A look at an existing file, on a read-only disk, too.

    Args:
        path: The file.
        mode: ``ro`` changes nothing in it, and may leave an empty log beside it. ``rw`` tidies up, also
            after a process that was killed.
    """
    try:
        base = _connect(path, mode)
    except sqlite3.OperationalError:
        if path.with_name(path.name + "-wal").exists():
            raise
        # A write-ahead log cannot be made here, but neither is there anything in one.
        base = _connect(path, "ro&immutable=1")
    with closing(base):
        yield base


def append(base: sqlite3.Connection, row: Row) -> None:
    """Add a row behind the last."""
    base.execute("INSERT INTO entries VALUES (?, ?, ?)", (row.sequence, row.text, row.signature))


def rows(base: sqlite3.Connection, beyond: int = 0) -> list[Row]:
    """The rows after number ``beyond``, in order.

    Raises:
        sqlite3.DatabaseError: The file is damaged.
    """
    found = base.execute("SELECT * FROM entries WHERE sequence > ? ORDER BY sequence", (beyond,))
    return [_row(*values) for values in found]


def row(base: sqlite3.Connection, sequence: int) -> Row | None:
    """One row, if it is there.

    Raises:
        sqlite3.DatabaseError: The file is damaged.
    """
    found = base.execute("SELECT * FROM entries WHERE sequence = ?", (sequence,)).fetchone()
    return None if found is None else _row(*found)


def numbers(base: sqlite3.Connection) -> Iterator[int]:
    """The numbers of the rows, in order, as far as they can be read.

    Raises:
        sqlite3.DatabaseError: The file is damaged.
    """
    yield from (number for (number,) in base.execute("SELECT sequence FROM entries ORDER BY sequence"))


def _row(sequence: object, text: object, signature: object) -> Row:
    if not (isinstance(sequence, int) and isinstance(text, bytes) and isinstance(signature, bytes)):
        raise sqlite3.DatabaseError(f"row {sequence} holds values of the wrong kind")
    return Row(sequence, text, signature)


def _connect(path: Path, mode: str, durable: bool = True) -> sqlite3.Connection:
    base = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", PATIENCE, isolation_level=None, uri=True
    )
    base.text_factory = bytes
    try:
        base.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
        base.execute("PRAGMA fullfsync=1")  # macOS, where an ordinary sync stops at the drive's cache
        base.execute("PRAGMA checkpoint_fullfsync=1")
        base.execute("PRAGMA cell_size_check=1")
        base.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()  # only now is the file really opened
    except sqlite3.Error:
        base.close()
        raise
    return base
