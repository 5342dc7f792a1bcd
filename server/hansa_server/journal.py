"""The coordinator's log over all runs: ``log.jsonl``, whose head it signs with every request.

Each line has the hash of the one before (``hansa.transparency``), and shops keep the heads that they were
shown. So no line can be changed, moved or left out later without some shop's ledger telling otherwise.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hansa.durable import append_line, cut_unfinished, sync
from hansa.errors import UsageError, VerificationError
from hansa.transparency import LogHead, LogLine, next_line, read_lines
from hansa_server.home import ServerHome
from hansa_server.publishing import signer

log = logging.getLogger(__name__)


def read_log(path: Path) -> list[LogLine]:
    """The complete lines of a log; none if there is no file.

    Raises:
        UsageError: One does not follow the one before, or is no line.
    """
    return _read(path, 0, None)[0]


def signed_head(home: ServerHome, last: LogLine) -> LogHead:
    """The coordinator's signed word on a log that ends with this line.

    Raises:
        UsageError: The signing key cannot be read.
    """
    league = home.league.read_text(encoding="utf-8").strip()
    return LogHead.make(league, last.sequence, last.hash, signer(home))


class Journal:
    """The log, open for more. What a crash has left of an unfinished line is cut off.

    Args:
        home: The coordinator's folder.

    Raises:
        UsageError: The chain is broken.
    """

    def __init__(self, home: ServerHome) -> None:
        self._home, self._path = home, home.log
        self._signed: tuple[int, str] = 0, ""
        if not self._path.exists():
            self._path.touch(mode=0o600)
            sync(self._path.parent)
        if cut_unfinished(self._path):
            log.warning("%s: its last line was cut short, and is removed", self._path.name)
        self.lines, self._read_to = _read(self._path, 0, None)

    def tell(self, kind: str, body: Mapping[str, Any]) -> None:
        """Add a line, on the disk when this returns; none for what the run's lines have said before.

        An outcome is said again after anything else of its run.
        """
        with open(self._path, "ab") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            self._catch_up()
            own = [(line.kind, line.body) for line in self.lines if line.body["run"] == body["run"]]
            if (kind, dict(body)) in (own[-1:] if kind == "outcome" else own):
                return
            append_line(self._path, next_line(kind, body, self.lines[-1] if self.lines else None))
            self._catch_up()

    def head(self) -> str:
        """The coordinator's signed word on the log as it is now, as JSON; empty before its first line."""
        if self._signed[0] < len(self.lines):
            self._signed = len(self.lines), signed_head(self._home, self.lines[-1]).to_json()
        return self._signed[1]

    def _catch_up(self) -> None:
        """Read what has been added since the last look."""
        added, self._read_to = _read(self._path, self._read_to, self.lines[-1] if self.lines else None)
        self.lines += added


def _read(path: Path, begin: int, after: LogLine | None) -> tuple[list[LogLine], int]:
    """The lines from a byte on, and the byte behind them."""
    try:
        with path.open("rb") as file:
            file.seek(begin)
            *complete, _ = file.read().split(b"\n")
    except FileNotFoundError:
        return [], begin
    try:
        lines = read_lines((line.decode("ascii", "replace") for line in complete), after)
    except VerificationError as error:
        raise UsageError(
            f"{path}: {error}; restore it from a backup, or move it away: a new log begins then, and the "
            "shops' books will show it"
        ) from error
    return lines, begin + sum(len(line) + 1 for line in complete)
