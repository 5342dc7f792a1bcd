"""The picture of ``hansa bench scale``: time and memory along each axis, on logarithmic scales."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from hansa_simulations.bench.scale import AXES, MEASURES
from hansa_simulations.plots import BETTER, INK, QUIET, WIDTH, WORSE, plain_axes, spread

HEIGHT = 7.6  # inches
COLOURS = {"dpsgd": BETTER, "cooccurrence": WORSE}
ROWS = ("seconds", "memory_mb")
_LABEL = 15.0  # points between neighbouring labels


def render(found: Mapping[str, Any]) -> bytes:
    """The plot as an SVG; equal documents give equal bytes."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "hansa"}):
        scale_figure(found).savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def scale_figure(found: Mapping[str, Any]) -> Figure:
    """One column an axis, one row a measure, one line a method; rows share their scale."""
    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor="white")
    FigureCanvasAgg(figure)
    middle = ", ".join(f"{size:,} {axis}" for axis, size in found["middle"].items())
    title = "How a run grows with customers, items and shops"
    note = f"around {middle}; at each line's end the exponent of its last points: 1 is linear, 0 is flat"
    figure.text(0.02, 0.955, title, size=15, weight="bold", color=INK)
    figure.text(0.02, 0.918, note, size=10.5, color=QUIET)
    for height, method in zip((0.955, 0.918), _methods(found), strict=False):
        figure.text(0.985, height, method, size=12, weight="bold", color=_colour(method), ha="right")
    place = {"left": 0.075, "right": 0.985, "top": 0.87, "bottom": 0.085, "wspace": 0.1, "hspace": 0.12}
    grid = figure.subplots(len(ROWS), len(AXES), sharey="row", sharex="col", gridspec_kw=place)
    for row, measure in enumerate(ROWS):
        for column, axis in enumerate(AXES):
            _panel(grid[row][column], found, axis, measure)
            if row == len(ROWS) - 1:
                grid[row][column].set_xlabel(axis, size=11, color=QUIET)
        grid[row][0].set_ylabel(MEASURES[measure], size=11, color=QUIET)
    for axes in grid.flat:
        _labels(axes)
    return figure


def _panel(axes: Axes, found: Mapping[str, Any], axis: str, measure: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    exponents = {(row["method"], row["axis"], row["measure"]): row["exponent"] for row in found["exponents"]}
    for method in _methods(found):
        ladder = [case for case in found["cases"] if (case["method"], case["axis"]) == (method, axis)]
        sizes = [case[axis] for case in ladder]
        values = [max(case[measure], 1e-6) for case in ladder]
        label = f"{exponents[method, axis, measure]:.2f}"
        axes.plot(sizes, values, color=_colour(method), lw=2, marker="o", ms=5, label=label)
    _frame(axes, sorted({case[axis] for case in found["cases"] if case["axis"] == axis}))


def _methods(found: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(case["method"] for case in found["cases"]))


def _colour(method: str) -> str:
    return COLOURS.get(method, QUIET)


def _frame(axes: Axes, sizes: Sequence[int]) -> None:
    plain_axes(axes)
    axes.set_xlim(sizes[0] / 1.3, sizes[-1] * (sizes[-1] / sizes[0]) ** 0.22)  # room for the labels
    axes.set_xticks(sizes, [_short(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    few = high < 100 * low  # decades alone would be too few ticks
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=12))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _labels(axes: Axes) -> None:
    """Write every line's exponent at its end, at its height unless its neighbours need the room."""
    ends_of = {line: np.asarray(line.get_xydata(), dtype=np.float64)[-1] for line in axes.get_lines()}
    lines = sorted(ends_of, key=lambda line: float(ends_of[line][1]))
    bottom, top = axes.transAxes.transform([(0, 0), (0, 1)])[:, 1] * 72 / axes.figure.dpi
    ends = [(float(ends_of[line][0]), float(ends_of[line][1])) for line in lines]
    heights = [float(axes.transData.transform(end)[1]) * 72 / axes.figure.dpi for end in ends]
    for line, end, height, moved in zip(
        lines, ends, heights, spread(heights, _LABEL, bottom + 5, top - 5), strict=True
    ):
        axes.annotate(
            str(line.get_label()),
            xy=end,
            xytext=(9, moved - height),
            textcoords="offset points",
            size=10.5,
            weight="bold",
            va="center",
            color=str(line.get_color()),
        )


def _short(size: int) -> str:
    """20000 as 20 k."""
    for unit, letter in ((1_000_000, " M"), (1_000, " k")):
        if size >= unit:
            return f"{size / unit:g}{letter}"
    return str(size)
