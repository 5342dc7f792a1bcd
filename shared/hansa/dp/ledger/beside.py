"""What lies beside a ledger's file: its key, and a mark by which an older copy or another file is noticed.

For ``shop.sqlite`` these are ``shop.key`` and ``shop.mark``. The mark holds the ledger's identity, the number
and hash of its last entry, and the inode of its file. It is written after every entry, in place and not
synced: after a power cut it may lag behind the ledger, never lead.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_WIDTH = 512  # one sector, overwritten whole


@dataclass(frozen=True)
class Mark:
    """How far a ledger had come, and in which file."""

    ledger: str
    sequence: int
    hash: str
    inode: int

    def line(self) -> bytes:
        """As it lies in its file."""
        return (json.dumps(asdict(self)).ljust(_WIDTH - 1) + "\n").encode("ascii")


@dataclass(frozen=True)
class Beside:
    """The files that belong to the ledger in ``path``."""

    path: Path

    @property
    def key_path(self) -> Path:
        """The private key, readable by its owner only."""
        return self.path.with_suffix(".key")

    @property
    def mark_path(self) -> Path:
        """The mark."""
        return self.path.with_suffix(".mark")

    @property
    def traces(self) -> list[Path]:
        """Those of the ledger's files that are there; a left-over log would be mixed into a new file."""
        log = self.path.with_name(self.path.name + "-wal")
        return [path for path in (self.path, log, self.key_path, self.mark_path) if path.exists()]

    def draft_key(self, key: Ed25519PrivateKey) -> None:
        """Write the key under a provisional name."""
        self._provisional_key.unlink(missing_ok=True)
        descriptor = os.open(self._provisional_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(key.private_bytes_raw().hex() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def draft_mark(self, mark: Mark) -> None:
        """Write the mark under a provisional name: the ledger's file is never in its place without one."""
        self._provisional_mark.unlink(missing_ok=True)
        _overwrite(self._provisional_mark, mark, sync=True)

    def settle(self) -> None:
        """Give a provisional key and mark their names, unless that is done."""
        for drafted, path in (
            (self._provisional_key, self.key_path),
            (self._provisional_mark, self.mark_path),
        ):
            if not path.exists() and drafted.exists():
                drafted.replace(path)

    @property
    def _provisional_key(self) -> Path:
        return self.path.with_suffix(".key.new")

    @property
    def _provisional_mark(self) -> Path:
        return self.path.with_suffix(".mark.new")

    def read_key(self) -> Ed25519PrivateKey:
        """The private key.

        Raises:
            OSError: There is none.
            ValueError: It is damaged.
        """
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.key_path.read_text("utf-8").strip()))

    def read_mark(self) -> Mark | None:
        """The mark; None if there is none, or it is damaged."""
        try:
            return Mark(**json.loads(self.mark_path.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write_mark(self, mark: Mark, *, sync: bool = False) -> None:
        """Overwrite the mark in place; with ``sync`` it is on the disk before the call returns."""
        _overwrite(self.mark_path, mark, sync)

    def inode(self) -> int:
        """The inode of the ledger's file."""
        return self.path.stat().st_ino

    @contextmanager
    def only_one(self) -> Iterator[None]:
        """Processes that would create a ledger in this folder take turns. POSIX only."""
        import fcntl

        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def sync_folder(self) -> None:
        """Have the names of new files on the disk."""
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _overwrite(path: Path, mark: Mark, sync: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, mark.line(), 0)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
