"""Interleaved measurements, their medians and ratios, and the documents that hold them."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hansa import __version__
from hansa.errors import UsageError
from hansa_simulations.parallel import cores

Measure = Callable[[], float]
"""Runs a case once; the seconds it took, by the case's own clock (e.g. one round of many)."""

Document = dict[str, Any]

_PACKAGES = ("flwr", "numpy", "opacus", "ray", "torch")


def interleave(measures: Mapping[str, Measure], repeats: int) -> dict[str, list[float]]:
    """Seconds of every case, taken in turns, so that a busy moment of the machine hits all of them.

    A first turn warms caches up and does not count. The order of the turns alternates.

    Args:
        measures: The cases by name.
        repeats: Turns that count, at least 1.
    """
    taken: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(repeats + 1):
        for name in list(measures) if turn % 2 else reversed(list(measures)):
            seconds = measures[name]()
            if turn:
                taken[name].append(seconds)
            say(f"{'warm-up' if not turn else f'turn {turn}/{repeats}'}: {name} {seconds:.3g} s")
    return taken


def alone(code: str, *arguments: str) -> str:
    """What Python code prints in a process of its own.

    Raises:
        RuntimeError: It failed; with the end of what it said.
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"python -c '{code.strip()}' {' '.join(arguments)} failed\n{done.stderr[-2000:]}")
    return done.stdout


def rows(taken: Mapping[str, Sequence[float]], baseline: str, **facts: Any) -> list[dict[str, Any]]:
    """One row a case: median seconds, the ratio of medians to the baseline's, and the range.

    Args:
        taken: Seconds of every case, as ``interleave`` gives them.
        baseline: The case that the others are compared with.
        facts: The same for all rows, e.g. ``items=3706``.
    """
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    return [
        {
            "name": name,
            **facts,
            "seconds": median,
            "ratio": median / medians[baseline],
            "baseline": baseline,
            "range": [min(taken[name]), max(taken[name])],
        }
        for name, median in medians.items()
    ]


def document(name: str, cases: list[dict[str, Any]], threads: int, **more: Any) -> Document:
    """What a benchmark found, with the versions and the machine it was found on."""
    return {
        "bench": name,
        "cases": cases,
        "threads": threads,
        "versions": _versions(),
        "machine": {"processor": _processor(), "cores": cores(), "system": platform.system()},
        **more,
    }


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, first column to the left and the others to the right."""
    rule = ["---", *("---:" for _ in heads[1:])]
    return ["| " + " | ".join(cells) + " |" for cells in (heads, rule, *lines)]


def machine_line(found: Document) -> str:
    """Where a document's figures come from, in one line."""
    machine, versions = found["machine"], found["versions"]
    packages = ", ".join(f"{name} {text}" for name, text in versions.items())
    return f"{machine['processor']}, {machine['cores']} cores, threads: {found['threads']}; {packages}."


def write(
    found: Document, text: Sequence[str], out: Path, plot: Callable[[Document], bytes] | None = None
) -> list[Path]:
    """Write a document as ``NAME.json``, its text as ``NAME.md``, and the plot, if any, as ``NAME.svg``.

    Raises:
        UsageError: They cannot be written there.
    """
    contents = {
        "json": f"{json.dumps(found, indent=1, allow_nan=False)}\n".encode(),
        "md": "\n".join([*text, ""]).encode(),
    }
    if plot is not None:
        contents["svg"] = plot(found)
    paths = [out / f"{found['bench']}.{ending}" for ending in contents]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, content in zip(paths, contents.values(), strict=True):
            path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written ({error.strerror}); name another folder") from error
    return paths


def say(line: str) -> None:
    """Tell how far a benchmark is, on stderr."""
    print(line, file=sys.stderr, flush=True)


def _versions() -> dict[str, str]:
    found = {"hansa": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if os.name == "posix" and info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
