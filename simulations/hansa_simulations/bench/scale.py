"""``hansa bench scale``: time and memory of a whole run against customers, items and shops, one at a time.

Each point of a ladder is a run of ``hansa simulate synthetic`` in a process of its own, so that its peak
memory is its own. Growth is stated as an exponent: 1 is linear, 0 is flat.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hansa_simulations.bench import timing

METHODS = ("dpsgd", "cooccurrence")
AXES = ("customers", "items", "shops")
THREADS = 2
EVALUATED = 1_000  # customers whose recommendations are measured, so that no axis but theirs moves that cost
MEASURES = {
    "seconds": "seconds a round",
    "total_seconds": "seconds in all",
    "memory_mb": "MB above imports",
}
_COMMAND = "import sys; from hansa.cli import main; sys.exit(main())"
_IMPORTS = """
import hansa_simulations.run
from hansa_simulations.memory import peak_memory
print(peak_memory())
"""
_UPPER = 3  # points of a ladder, its last ones, that an exponent is fitted to


@dataclass(frozen=True)
class Point:
    """A federation's size and what runs on it."""

    method: str
    customers: int
    items: int
    shops: int

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.method}: {self.customers:,} customers, {self.items:,} items, {self.shops:,} shops"

    @property
    def arguments(self) -> list[str]:
        """Of the ``hansa simulate`` that measures it."""
        rounds = ["--rounds", "3"] if self.method == "dpsgd" else []
        sizes = {axis: getattr(self, axis) for axis in AXES}
        settings = [f"scenario.{axis}={size}" for axis, size in sizes.items()]
        settings += [f"evaluation.customers={EVALUATED}", f"engine.workers={THREADS}"]
        assignments = [text for setting in settings for text in ("--set", setting)]
        return ["synthetic", "--method", self.method, *rounds, "--references", "none", *assignments]


@dataclass(frozen=True)
class Ladders:
    """Sizes to go through along each axis while the other two stay in the middle.

    Attributes:
        middle: Size along each axis where another one is varied.
        steps: Sizes along each axis, ascending; the middle is one of them.
    """

    middle: Mapping[str, int]
    steps: Mapping[str, Sequence[int]]

    def points(self, method: str, axis: str) -> list[Point]:
        """The ladder along ``axis``, smallest first."""
        return [Point(method, **{**self.middle, axis: size}) for size in self.steps[axis]]


FULL = Ladders(
    {"customers": 20_000, "items": 8_000, "shops": 50},
    {
        "customers": (5_000, 20_000, 80_000, 320_000),
        "items": (500, 2_000, 8_000, 32_000, 128_000),
        "shops": (5, 50, 500, 5_000),
    },
)
QUICK = Ladders(
    {"customers": 400, "items": 300, "shops": 4},
    {"customers": (200, 400), "items": (300, 600), "shops": (4, 8)},
)


def measure(ladders: Ladders = FULL, repeats: int = 3, methods: Sequence[str] = METHODS) -> timing.Document:
    """Run every point of every ladder, each once a turn; the order of the turns alternates.

    Args:
        ladders: What to go through.
        repeats: Turns; a point's figures are the medians over them.
        methods: Methods of learning, each with ladders of its own.
    """
    ladder_points = {(method, axis): ladders.points(method, axis) for method in methods for axis in AXES}
    points = list(dict.fromkeys(point for ladder in ladder_points.values() for point in ladder))
    taken: dict[Point, list[dict[str, float]]] = {point: [] for point in points}
    for turn in range(repeats):
        for number, point in enumerate(reversed(points) if turn % 2 else points):
            figures = run_alone(point)
            taken[point].append(figures)
            place = f"turn {turn + 1}/{repeats}, {number + 1}/{len(points)}"
            timing.say(f"{place}: {point.name}: {figures['seconds']:.3g} s a round")
    medians = {
        point: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for point, runs in taken.items()
    }
    imports, cases = baseline(), []
    for (method, axis), ladder in ladder_points.items():
        middle = Point(method, **ladders.middle)
        cases += [_case(point, axis, middle, medians, imports) for point in ladder]
    return timing.document(
        "scale",
        cases,
        threads=THREADS,
        repeats=repeats,
        imports_mb=imports,
        middle=dict(ladders.middle),
        exponents=fits(cases),
        commands={method: Point(method, **ladders.middle).arguments for method in methods},
    )


def run_alone(point: Point) -> dict[str, float]:
    """Run one point in a process of its own.

    Returns:
        ``seconds`` of the median round after the counts, ``total_seconds`` from loading the data to the
        metrics, ``other_seconds`` of that outside of the rounds, and ``peak_mb`` of resident memory.

    Raises:
        RuntimeError: The process failed; with the end of what it said.
    """
    run = json.loads(timing.alone(_COMMAND, "simulate", *point.arguments, "--json"))
    seconds = [round_["seconds"] for round_ in run["history"]]
    return {
        "seconds": statistics.median(seconds[1:]),
        "total_seconds": run["timing"]["total_seconds"],
        "other_seconds": run["timing"]["total_seconds"] - sum(seconds),
        "peak_mb": run["timing"]["peak_rss_mb"],
    }


def baseline() -> float:
    """Peak resident memory in MB of a process that has imported what a run needs, and nothing else."""
    return float(timing.alone(_IMPORTS))


def _case(
    point: Point, axis: str, middle: Point, medians: Mapping[Point, Mapping[str, float]], imports: float
) -> dict[str, Any]:
    figures = medians[point]
    sizes = {name: getattr(point, name) for name in AXES}
    return {
        "name": point.name,
        "method": point.method,
        "axis": axis,
        **sizes,
        **figures,
        "memory_mb": figures["peak_mb"] - imports,
        "ratio": figures["seconds"] / medians[middle]["seconds"],
        "baseline": middle.name,
    }


def fits(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How each measure grows along each ladder: one row a method, axis and measure.

    ``exponent`` is the slope of the least-squares line through the logarithms of the last three points of the
    ladder, where constant costs matter least; ``range`` the smallest and largest slope between
    neighbours among these.
    """
    rows = []
    ladders = dict.fromkeys((case["method"], case["axis"]) for case in cases)
    for method, axis in ladders:
        ladder = [case for case in cases if (case["method"], case["axis"]) == (method, axis)][-_UPPER:]
        sizes = np.log([case[axis] for case in ladder])
        for name in MEASURES:
            values = np.log([max(case[name], 1e-6) for case in ladder])
            slopes = np.diff(values) / np.diff(sizes)
            rows.append(
                {
                    "method": method,
                    "axis": axis,
                    "measure": name,
                    "exponent": float(np.polyfit(sizes, values, 1)[0]),
                    "range": [float(slopes.min()), float(slopes.max())],
                    "points": len(ladder),
                }
            )
    return rows


def text(found: timing.Document) -> list[str]:
    """The document as Markdown."""
    middle = ", ".join(f"{size:,} {axis}" for axis, size in found["middle"].items())
    lines = [
        "# Scale",
        "",
        f"Whole runs of the generated scenario around {middle}, one size varied at a time, each in a process "
        "of its own. A round is the median one after the counts. *In all* is from generating the data to the "
        f"metrics of {EVALUATED:,} customers, without the imports; memory is the peak resident one "
        f"above the {found['imports_mb']:.0f} MB that the imports take.",
        "",
        "![Seconds a round and memory by customers, items and shops](scale.svg)",
        "",
        "## Exponents",
        "",
        f"1 is linear, 0 is flat: the slope of a line through the logarithms of the last {_UPPER} points "
        "of each ladder, and in brackets the slopes between neighbours among these.",
        "",
        *timing.table(("method, varied", *MEASURES.values()), _exponent_lines(found["exponents"])),
    ]
    for axis in AXES:
        lines += ["", f"## By {axis}", "", *_ladder(found, axis)]
    plural = "a single run" if found["repeats"] == 1 else f"medians of {found['repeats']} interleaved runs"
    lines += ["", f"Each figure is from {plural}. " + timing.machine_line(found), ""]
    lines += ["The middle points are", "", "```sh"]
    lines += [f"hansa simulate {' '.join(arguments)}" for arguments in found["commands"].values()]
    return [*lines, "```"]


def _exponent_lines(exponents: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    lines: dict[str, list[str]] = {}
    for row in exponents:
        low, high = row["range"]
        cell = f"{row['exponent']:.2f} ({low:.2f} to {high:.2f})"
        lines.setdefault(f"{row['method']}, {row['axis']}", []).append(cell)
    return [[name, *cells] for name, cells in lines.items()]


def _ladder(found: timing.Document, axis: str) -> list[str]:
    cases = [case for case in found["cases"] if case["axis"] == axis]
    heads = (f"method, {axis}", "seconds a round", "seconds in all", "outside of rounds", "MB above imports")
    return timing.table(
        heads,
        (
            (
                f"{case['method']}, {case[axis]:,}",
                f"{case['seconds']:.3f}",
                f"{case['total_seconds']:.1f}",
                f"{case['other_seconds']:.1f}",
                f"{case['memory_mb']:,.0f}",
            )
            for case in cases
        ),
    )
