"""A ledger in a file, for a simulated shop whose messages are answered by several processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hansa.dp.accounting import DpEvent, from_parts, to_parts
from hansa.dp.ledger import Ledger, Reservation


@dataclass
class LedgerFile(Ledger):
    """``Ledger`` with its reservations in ``path``, read before and written after every change.

    A reservation or charge is in the file before the call returns. An exclusive lock beside it makes
    processes take turns; locks are advisory and POSIX only.

    Attributes:
        path: A JSON file; it need not exist yet.
    """

    path: Path = Path("ledger.json")

    def __post_init__(self) -> None:
        if self.path.exists():
            self._load()

    def reserve(self, run: str, releases: tuple[DpEvent, ...]) -> None:
        """See ``Ledger``."""
        with self._turn():
            super().reserve(run, releases)

    def charge(self, run: str, event: DpEvent) -> None:
        """See ``Ledger``."""
        with self._turn():
            super().charge(run, event)

    def save(self) -> None:
        """Write the reservations; readers see the old file or the new one, never a part."""
        book = {
            run: {"charged": entry.charged, "releases": [to_parts(event) for event in entry.releases]}
            for run, entry in self.reservations.items()
        }
        draft = self.path.with_suffix(".draft")
        draft.write_text(
            json.dumps(book), encoding="utf-8"
        )  # not synced: it outlives processes, not the machine
        draft.replace(self.path)

    def _load(self) -> None:
        book = json.loads(self.path.read_text(encoding="utf-8"))
        self.reservations = {
            run: Reservation(run, tuple(from_parts(parts) for parts in entry["releases"]), entry["charged"])
            for run, entry in book.items()
        }

    @contextmanager
    def _turn(self) -> Iterator[None]:
        import fcntl

        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.path.exists():
                self._load()
            yield
            self.save()
