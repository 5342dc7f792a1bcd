"""Round reports as files, for whoever started the ServerApp in another process.

A report holds public state only: ``round-N.safetensors`` with the state as tensors and the rest as
metadata, or ``failure.json`` when the run ended in an error. Files appear whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from hansa.errors import HansaError, RefusalError, UsageError
from hansa.plan import Plan
from hansa_server.strategy import Listener, RoundReport

REPORTS = "hansa-reports"
"""Key of the run configuration: the folder that reports go to; it must exist."""

_FAILURE = "failure.json"
_ERRORS: dict[str, type[HansaError]] = {error.__name__: error for error in (RefusalError, UsageError)}


@contextmanager
def reporting(folder: str) -> Iterator[list[Listener]]:
    """Listeners that write every round into ``folder``; an error that passes through is written, too.

    Args:
        folder: An existing folder; empty for no reports.
    """
    if not folder:
        yield []
        return
    path = Path(folder)
    try:
        yield [lambda report: write_report(path, report)]
    except Exception as error:
        draft = path / "failure.draft"
        draft.write_text(json.dumps({"error": type(error).__name__, "message": str(error)}), encoding="utf-8")
        draft.replace(path / _FAILURE)
        raise


def write_report(folder: Path, report: RoundReport) -> None:
    """Write what a round came to."""
    tensors = {name: np.ascontiguousarray(table) for name, table in report.state.items()}
    facts = {"answered": report.answered, "missing": report.missing, "seconds": report.seconds}
    draft = folder / "round.draft"
    save_file(tensors, draft, metadata={"report": json.dumps(facts)})
    draft.replace(_path(folder, report.round))


def take_report(folder: Path, plan: Plan, round_: int) -> RoundReport | None:
    """The report of a round of ``plan``, removed from the folder; None if there is none yet.

    Raises:
        HansaError: The run has ended in this error.
        RuntimeError: The run has ended in any other.
    """
    path = _path(folder, round_)
    if not path.exists():
        if (folder / _FAILURE).exists():
            failure = json.loads((folder / _FAILURE).read_text(encoding="utf-8"))
            if failure["error"] in _ERRORS:
                raise _ERRORS[failure["error"]](failure["message"])
            raise RuntimeError(f"the ServerApp failed: {failure['error']}: {failure['message']}")
        return None
    with safe_open(path, framework="numpy") as file:
        facts = json.loads(file.metadata()["report"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    path.unlink()
    planned = plan.releases
    return RoundReport(round_, len(planned), planned[round_ - 1], state, **facts)


def _path(folder: Path, round_: int) -> Path:
    return folder / f"round-{round_}.safetensors"
