"""A shop's releases as they left, so that a coordinator that lost one gets the same bytes and nothing new.

**Guarantee:** what is sent again was sent before: it is read from the disk, never computed, and costs
nothing. It belongs to one round of one plan on one public state; asked for with any other it is refused.
Under ``distributed`` noise nothing is ever kept: the same masked vector among other survivors would give this
shop's part away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from hansa.dp.private_sum import Table
from hansa.durable import write_whole
from hansa.errors import RefusalError

_KEPT_RUNS = 3
_NAME = "release"


class Replies(Protocol):
    """Where a shop keeps what it has sent."""

    def find(self, run: str, round_: int, plan: str, state: str) -> Table | None:
        """The release of a round, if it was sent before.

        Args:
            run: The run's name.
            round_: The round.
            plan: The plan's digest.
            state: Digest of the public state that it was computed from.

        Raises:
            RefusalError: It was, for another plan or state.
        """
        ...

    def keep(self, run: str, round_: int, plan: str, state: str, release: Table) -> None:
        """Keep a release before it is sent; those of the run's earlier rounds are forgotten."""
        ...


class NoReplies:
    """Nothing is kept: in simulations, where nothing is asked for twice."""

    def find(self, run: str, round_: int, plan: str, state: str) -> Table | None:
        """See ``Replies``."""
        return None

    def keep(self, run: str, round_: int, plan: str, state: str, release: Table) -> None:
        """See ``Replies``."""


@dataclass(frozen=True)
class LookedUp:
    """What was found before a message is answered. Nothing is kept: the executor does, after its check.

    Attributes:
        sent: The release of the message's round, if it was sent before.
    """

    sent: Table | None = None

    def find(self, run: str, round_: int, plan: str, state: str) -> Table | None:
        """See ``Replies``."""
        return self.sent

    def keep(self, run: str, round_: int, plan: str, state: str, release: Table) -> None:
        """See ``Replies``."""


class ReplyFolder:
    """Replies as files, one for each run's newest round, of the newest few runs.

    Args:
        path: The folder; made with the first reply.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, run: str, round_: int, plan: str, state: str) -> Table | None:
        """See ``Replies``."""
        try:
            with safe_open(self._file(run), framework="numpy") as file:
                kept: Mapping[str, str] = file.metadata() or {}
                if kept.get("round") != str(round_):
                    return None
                if (kept.get("plan"), kept.get("state")) != (plan, state):
                    reason = "the round was answered for another plan or state"
                    raise RefusalError(f"run {run}, round {round_}: {reason}", reason=reason)
                release: Table = file.get_tensor(_NAME)
        except (FileNotFoundError, SafetensorError):  # cut short by a crash: then it never left
            return None
        return release

    def keep(self, run: str, round_: int, plan: str, state: str, release: Table) -> None:
        """See ``Replies``.

        Raises:
            RefusalError: The disk does not take it; nothing may leave then.
        """
        kept = {"round": str(round_), "plan": plan, "state": state}
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._file(run), save({_NAME: np.ascontiguousarray(release)}, metadata=kept))
            files = sorted(self._path.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
            for old in files[:-_KEPT_RUNS]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise RefusalError(
                f"{self._path}: {error}; the release was charged and not sent",
                reason="the shop's disk failed",
            ) from error

    def _file(self, run: str) -> Path:
        return self._path / f"{hashlib.sha256(run.encode()).hexdigest()[:32]}.safetensors"
