"""What attacks found, as lines to read and as a file for a report."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from hansa.errors import UsageError, VerificationError
from hansa.figures import epsilon_text
from hansa_simulations.attacks.faults import Caught
from hansa_simulations.attacks.results import AttackResult


def finish(
    results: Sequence[AttackResult], out: Path | None, as_json: bool, lines: Sequence[str] | None = None
) -> None:
    """Print and write what was found.

    Args:
        results: Of one command.
        out: File for a list of the results, as ``hansa audit report --attacks`` takes it.
        as_json: Print that list in place of the table.
        lines: The table; None: that of ``result_lines``.

    Raises:
        UsageError: The file cannot be written.
        VerificationError: A claim is refuted.
    """
    found = [result.to_json() for result in results]
    if out is not None:
        write(out, found)
    if as_json:
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        print("\n".join(result_lines(results) if lines is None else lines))
        if out is not None:
            print(f"wrote {out}")
    refuted = [result for result in results if result.broken]
    if refuted:
        first = refuted[0]
        raise VerificationError(
            f"{len(refuted)} of {len(results)} claims are refuted, {first.attack} on {first.method} under "
            f"{first.dp} first: {first.words}"
        )


def result_lines(results: Sequence[AttackResult]) -> list[str]:
    """A table of results, and what they say in words where a claim is refuted."""
    heads = ("attack", "method", "dp", "claimed", "at least", "of claim", "confidence", "trials", "")
    rows = [
        (
            result.attack,
            result.method,
            result.dp,
            "nothing" if result.claimed is None else epsilon_text(result.claimed),
            "unbounded" if result.bound is None else f"{result.bound:.3f}",
            _share(result),
            "" if result.confidence is None else f"{100 * result.confidence:.4g} %",
            f"{result.trials:,}",
            "REFUTED" if result.broken else "",
        )
        for result in results
    ]
    return [*aligned([heads, *rows]), *(result.words for result in results if result.broken)]


def _share(result: AttackResult) -> str:
    if not result.claimed or result.bound is None:
        return ""
    return f"{result.bound / result.claimed:.0%}"


def caught_lines(found: Sequence[Caught]) -> list[str]:
    """Which attack catches which fault, one line a fault and DP model."""
    names = list(found[0].by)
    rows = [(each.fault, each.dp, *("caught" if each.by[name] else "-" for name in names)) for each in found]
    return aligned([("fault", "dp", *names), *rows])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def caught_json(found: Iterable[Caught]) -> list[dict[str, object]]:
    """The same as JSON values, with each attack's own result."""
    return [
        {
            "fault": each.fault,
            "dp": each.dp,
            "caught_by": [name for name, caught in each.by.items() if caught],
            "missed_by": [name for name, caught in each.by.items() if not caught],
            "results": [result.to_json() for result in each.results],
        }
        for each in found
    ]


def tell(line: str) -> None:
    """How far an attack is, on a terminal's stderr."""
    if sys.stderr.isatty():
        print(f"trying {line}", file=sys.stderr, flush=True)


def write(path: Path, found: object) -> None:
    """Write JSON values to a file.

    Raises:
        UsageError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {path}: cannot be written ({error.strerror}); name another file") from error
