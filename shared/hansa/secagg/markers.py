"""Marks of the stages that a shop has done, so that none is ever done twice.

**Guarantee:** a stage of a round is claimed before its reply exists, once, whatever crashes, restarts or
requests follow; rounds of a run only go forward. Repeating a stage could give away both secrets of a shop, or
two sums that differ by one shop. A shop that forgets what it did between two stages (a restart) cannot go on
with that round and counts as dropped. Assumptions: the folder is on a disk that keeps what it has
synchronised, and nobody restores an old copy of it, but together with a ledger that ends every run it knows
(``hansa.dp.ledger.file``).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from hansa.errors import RefusalError

STAGES = ("advertise", "share", "upload", "agree", "unmask")
"""In their order; each is claimed after the one before."""

_SIGN = "hansa secagg markers 1\n"
_NAME = re.compile(r"([0-9a-f]{32})\.(\d+)\.(\d+)\.(\w+)")


class Markers(Protocol):
    """Where a shop marks what it has done."""

    def claim(self, run: str, round_: int, attempt: int, stage: str, digest: bytes) -> None:
        """Mark a stage as done, before it is.

        Args:
            run: The run's name.
            round_: The round.
            attempt: Which try of the round.
            stage: One of ``STAGES``.
            digest: What it is about, for the record only.

        Raises:
            RefusalError: It was done before, or is not the next one, or the mark cannot be made to last.
        """


class MarkerMemory:
    """Marks that last as long as the process: for simulations and tests."""

    def __init__(self) -> None:
        self._done: dict[str, tuple[int, int, int]] = {}

    def claim(self, run: str, round_: int, attempt: int, stage: str, digest: bytes) -> None:
        """See ``Markers``."""
        _check_next(self._done.get(run), round_, attempt, stage)
        self._done[run] = (round_, attempt, STAGES.index(stage))


class MarkerFolder:
    """Marks as files of a folder: exclusive, synchronised, one a stage of the latest round of each run.

    Args:
        path: A folder that ``create`` has made.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)

    @classmethod
    def create(cls, path: Path) -> MarkerFolder:
        """Make the folder, once in a shop's life; one that is there is kept.

        Raises:
            RefusalError: It cannot be made, or there is another kind of folder.
        """
        path = Path(path)
        with _trouble(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.listdir(path):
                _write(path, "markers", _SIGN.encode())
                _synchronise(path.parent)
        folder = cls(path)
        with folder._turn():
            folder._marks()
        return folder

    def claim(self, run: str, round_: int, attempt: int, stage: str, digest: bytes) -> None:
        """See ``Markers``; a folder that is missing or holds anything else is a refusal."""
        name = hashlib.sha256(run.encode()).hexdigest()[:32]
        with self._turn():
            marks = self._marks().get(name, [])
            _check_next(max(marks, default=None), round_, attempt, stage)
            content = {
                "run": run,
                "round": round_,
                "attempt": attempt,
                "stage": stage,
                "digest": digest.hex(),
            }
            with _trouble(self._path):
                _write(
                    self._path, f"{name}.{round_}.{attempt}.{stage}", (json.dumps(content) + "\n").encode()
                )
                for earlier, tried, number in marks:  # the mark just made outdates them
                    if (earlier, tried) < (round_, attempt):
                        (self._path / f"{name}.{earlier}.{tried}.{STAGES[number]}").unlink(missing_ok=True)

    def copy(self) -> dict[str, bytes]:
        """All its files by name, as they are between two claims.

        Raises:
            RefusalError: The folder cannot be relied on.
        """
        with self._turn(), _trouble(self._path):
            self._marks()
            return {name: (self._path / name).read_bytes() for name in sorted(os.listdir(self._path))}

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """A turn as the only one that looks and marks."""
        with _trouble(self._path), open(self._path / "markers", "rb") as sign:
            fcntl.flock(sign, fcntl.LOCK_EX)
            if sign.read() != _SIGN.encode():
                raise OSError("its file `markers` is damaged")
            yield

    def _marks(self) -> dict[str, list[tuple[int, int, int]]]:
        """All marks, by run. The name alone is the mark: a crash may leave the file empty."""
        found: dict[str, list[tuple[int, int, int]]] = {}
        for entry in os.listdir(self._path):
            parts = _NAME.fullmatch(entry)
            if parts is not None and parts[4] in STAGES:
                mark = (int(parts[2]), int(parts[3]), STAGES.index(parts[4]))
                found.setdefault(parts[1], []).append(mark)
            elif entry != "markers":
                raise OSError(f"unknown file {entry!r} in it")
        return found


def _check_next(last: tuple[int, int, int] | None, round_: int, attempt: int, stage: str) -> None:
    number = STAGES.index(stage)
    if number == 0:
        right = last is None or (round_, attempt) > last[:2]
    else:
        right = last == (round_, attempt, number - 1)
    if not right:
        done = "nothing" if last is None else f"round {last[0]}, attempt {last[1]}, {STAGES[last[2]]}"
        raise RefusalError(
            f"secure aggregation: {stage} of round {round_}, attempt {attempt} was done before or is not "
            f"next; last done: {done}",
            reason="repeated or out of order",
        )


@contextlib.contextmanager
def _trouble(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RefusalError(
            f"secure aggregation: the folder of marks {path} cannot be relied on: {error}; "
            "restore access to it, or make another with `MarkerFolder.create` and take a new run",
            reason="no markers",
        ) from None


def _write(folder: Path, name: str, content: bytes) -> None:
    """A new file, on the disk when this returns."""
    handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)
    _synchronise(folder)


def _synchronise(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
