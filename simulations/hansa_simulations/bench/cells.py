"""Benchmarks in pieces: every finished run is a file of its own, and what is finished is not run again.

Runs on the same data and seed form a group: its data are loaded and its references fitted once. Processes
may share a folder; each takes groups that no other has.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from hansa.errors import UsageError
from hansa_simulations.bench.provenance import code_digest
from hansa_simulations.bench.timing import say
from hansa_simulations.experiment import Prepared, Result, simulate_on
from hansa_simulations.ledgers import file_name
from hansa_simulations.report import to_json
from hansa_simulations.settings import SimulationSettings

Status = Literal["finished", "stale", "missing"]


@dataclass(frozen=True)
class Cell:
    """One run of a benchmark.

    Attributes:
        scenario: What it runs on, as tables name it.
        settings: Of the run, of one seed.
    """

    scenario: str
    settings: SimulationSettings

    @property
    def group(self) -> str:
        """What it shares data and references with."""
        return f"{self.scenario} seed {self.settings.seed}"

    @property
    def name(self) -> str:
        """What messages and its file are called."""
        settings = self.settings
        epsilon = "none" if settings.epsilon is None else f"{settings.epsilon:g}"
        return f"{self.scenario} {settings.method} {settings.dp} epsilon {epsilon} seed {settings.seed}"


class Folder:
    """Finished cells as JSON files.

    Args:
        path: The folder; made when a cell is written.
        roots: Modules that the figures come from; cells of other code are stale.
    """

    def __init__(self, path: Path, *roots: str) -> None:
        self.path = path
        self._code = code_digest("hansa_simulations.experiment", *roots)

    def read(self, cell: Cell) -> Result | None:
        """A cell's result, also if it is stale; None if it is missing."""
        stored = self._stored(cell)
        return None if stored is None else stored["result"]

    def status(self, cell: Cell) -> Status:
        """Whether a cell is finished, missing, or stale: run with other code or settings."""
        stored = self._stored(cell)
        if stored is None:
            return "missing"
        return "finished" if stored["key"] == self._key(cell) else "stale"

    def write(self, cell: Cell, result: Result) -> None:
        """Store a result, all at once.

        Raises:
            UsageError: The folder cannot be written.
        """
        path = self._file(cell)
        text = to_json({"key": self._key(cell), "name": cell.name, "result": result})
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}.tmp")
            draft.write_text(f"{text}\n", encoding="utf-8")
            draft.replace(path)
        except OSError as error:
            raise self._unusable(error) from error

    @contextmanager
    def claim(self, group: str) -> Iterator[bool]:
        """Whether this process may run a group; until the end no other may. POSIX only, else always."""
        try:
            import fcntl
        except ImportError:
            yield True
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / f"{file_name(group)}.lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when a process dies
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(lock)

    def _stored(self, cell: Cell) -> dict[str, Any] | None:
        try:
            stored = json.loads(self._file(cell).read_text(encoding="utf-8"))
            return stored if isinstance(stored, dict) and {"key", "result"} <= set(stored) else None
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            raise self._unusable(error) from error

    def _file(self, cell: Cell) -> Path:
        return self.path / f"{file_name(cell.name)}.json"

    def _key(self, cell: Cell) -> str:
        text = f"{cell.scenario}\n{cell.settings.model_dump_json()}\n{self._code}"
        return sha256(text.encode()).hexdigest()

    def _unusable(self, error: OSError) -> UsageError:
        return UsageError(f"--cells {self.path}: {error.strerror}; give a folder to read and write")


def run(
    cells: Sequence[Cell], folder: Folder, prepare: Callable[[Cell], Prepared], *, fresh: bool = False
) -> bool:
    """Run what is missing, group by group, and say how far it is on stderr.

    Args:
        cells: What there shall be.
        folder: Where finished cells are.
        prepare: Loads the data of a group, given one of its cells.
        fresh: Whether stale cells are run again.

    Returns:
        Whether it came to its end; False if somebody interrupted. What was finished is stored.
    """

    def waiting(group: str) -> list[Cell]:
        wanted = ("missing", "stale") if fresh else ("missing",)
        return [cell for cell in cells if cell.group == group and folder.status(cell) in wanted]

    try:
        for group in dict.fromkeys(cell.group for cell in cells):
            if not waiting(group):
                continue
            with folder.claim(group) as mine:
                left = waiting(group)
                if not mine:
                    say(f"{group}: another process is at it")
                elif left:
                    _run_group(group, left, folder, prepare)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return False
    return True


def _run_group(
    group: str, cells: Sequence[Cell], folder: Folder, prepare: Callable[[Cell], Prepared]
) -> None:
    started = time.perf_counter()
    prepared = prepare(cells[0])
    if cells[0].settings.references == "all":
        _ = prepared.references
    say(f"{group}: data and references {time.perf_counter() - started:.1f} s")
    for number, cell in enumerate(cells, 1):
        started = time.perf_counter()
        result, _ = simulate_on(prepared, cell.settings)
        if result["interrupted"]:
            raise KeyboardInterrupt
        folder.write(cell, result)
        seconds = time.perf_counter() - started
        accuracy = result["metrics"]["model"]["ndcg@10"]
        say(f"{cell.name} ({number}/{len(cells)}): ndcg@10 {accuracy:.4f}, {seconds:.1f} s")
