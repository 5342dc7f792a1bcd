"""The picture of ``hansa bench frontier``: a panel a scenario, accuracy against epsilon, a line a method."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hansa_simulations import words
from hansa_simulations.bench.frontier import LINES, ordered
from hansa_simulations.plots import COLOURS, FAINT, INK, QUIET, STYLES, WIDTH, plain_axes, spread
from hansa_simulations.words import METRIC

PANEL_HEIGHT = 2.9  # inches
COLUMNS = 3
METHOD_COLOURS = {
    "cooccurrence": "#0072B2",
    "dpsgd": "#C85200",
    "hybrid": "#8E3A80",
    "subspace": "#3E8FCB",
    "dpals": "#B3263F",
    "popularity": "#8A6A00",
}
METHOD_LABELS = {"popularity": "private counts"}
TITLES = {
    "journey": "groceries (journey)",
    "ml-1m": "films (ml-1m)",
    "ml-100k": "films (ml-100k)",
    "games": "video games (games)",
    "xmarket": "electronics (xmarket)",
}
_PROTOCOLS = {
    "last20": "newest 20 % held out",
    "random20": "random 20 % held out",
    "last1": "newest one held out",
    "loo99": "newest one against 99",
}
_LABEL = 11.5  # points between neighbouring labels
_ROOM = 92.0  # points right of the lines, for their labels


def render(found: Mapping[str, Any], kind: str = "svg") -> bytes:
    """The plot as an SVG, or a PNG; equal documents give equal bytes."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "hansa"}):
        metadata = {"Date": None} if kind == "svg" else {}
        frontier_figure(found).savefig(buffer, format=kind, dpi=160, metadata=metadata)
    return buffer.getvalue()


def frontier_figure(found: Mapping[str, Any]) -> Figure:
    """Small multiples with lines for the methods, and for popularity, alone and pooled across."""
    scenarios = found["scenarios"]
    columns = min(COLUMNS, len(scenarios))
    rows = math.ceil(len(scenarios) / columns)
    height = rows * PANEL_HEIGHT + 1.25
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)
    seeds = max(len(scenario["seeds"]) for scenario in scenarios)
    means = f"means of {seeds} seeds" if seeds > 1 else "one seed"
    title = "What shops serve: accuracy against the privacy budget"
    note = (
        f"ndcg@10 against epsilon of one customer with all interactions, delta "
        f"{words.delta_text(scenarios[0]['delta'])}, {found['dp']} DP; {means}"
    )
    figure.text(0.02, 1 - 0.36 / height, title, size=15, weight="bold", color=INK)
    figure.text(0.02, 1 - 0.64 / height, note, size=10.5, color=QUIET)
    grid = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": 0.052,
            "right": 0.985,
            "top": 1 - 1.3 / height,
            "bottom": 0.52 / height,
            "wspace": 0.17,
            "hspace": 0.44,
        },
    )
    for axes, scenario in zip(grid.flat, scenarios, strict=False):
        _panel(axes, scenario, [case for case in found["cases"] if case["scenario"] == scenario["name"]])
    for axes in grid.flat[len(scenarios) :]:
        axes.set_axis_off()
    return figure


def places(epsilons: Sequence[float | None]) -> list[float]:
    """Where epsilons stand on the axis: by their logarithm to base 2, no privacy right of all."""
    known = [math.log2(epsilon) for epsilon in epsilons if epsilon is not None]
    return [*known, *([max(known, default=0.0) + 1.5] * (len(epsilons) - len(known)))]


def _panel(axes: Axes, scenario: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> None:
    name, protocol, *more = scenario["name"].split(":")
    axes.set_title(TITLES.get(name, name), size=11, weight="bold", color=INK, loc="left", pad=19)
    told = ", ".join([_PROTOCOLS.get(protocol, protocol), *more]).replace(
        "data.min_rating=", "rated at least "
    )
    axes.annotate(told, (0, 1), (0, 7), "axes fraction", "offset points", size=9.5, color=QUIET)
    epsilons = ordered(case["epsilon"] for case in cases)
    place = dict(zip(epsilons, places(epsilons), strict=True))
    start, end = min(place.values()), max(place.values())
    labels: list[tuple[float, str, str]] = []
    for line in LINES:
        if scenario["references"][line] is not None:
            value = scenario["references"][line][METRIC]
            ends = [start - 0.3, end + 0.1]
            axes.plot(ends, [value, value], color=COLOURS[line], ls=STYLES[line], lw=1.4, zorder=1)
            labels.append((value, line, COLOURS[line]))
    for method in dict.fromkeys(case["method"] for case in cases):
        colour = METHOD_COLOURS.get(method, INK)
        private = [case for case in cases if case["method"] == method and case["epsilon"] is not None]
        private.sort(key=lambda case: float(case["epsilon"]))
        open_ = [case for case in cases if case["method"] == method and case["epsilon"] is None]
        _line(axes, private, place, colour)
        for case in open_:
            bridge = [*private[-1:], case]
            x, y = [place[c["epsilon"]] for c in bridge], [c["metrics"]["model"][METRIC] for c in bridge]
            axes.plot(x, y, color=colour, lw=1.2, ls=(0, (1.5, 1.5)), zorder=2)
            axes.plot(x[-1], y[-1], color=colour, marker="o", mfc="white", ms=5, mew=1.5, zorder=3)
        last = [*private, *open_][-1]["metrics"]["model"][METRIC]
        labels.append((last, METHOD_LABELS.get(method, method), colour))
    plain_axes(axes)
    width = axes.get_window_extent().width * 72 / axes.figure.dpi
    span = max(end - start, 1.0) + 0.3
    axes.set_xlim(start - 0.3, end + span * _ROOM / (width - _ROOM))
    axes.set_xticks(
        list(place.values()), [words.epsilon_text(epsilon) for epsilon in epsilons], size=10, color=QUIET
    )
    axes.margins(y=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    _labels(axes, labels, end)


def _line(
    axes: Axes, cases: Sequence[Mapping[str, Any]], place: Mapping[float | None, float], colour: str
) -> None:
    x = [place[case["epsilon"]] for case in cases]
    y = np.array([case["metrics"]["model"][METRIC] for case in cases])
    axes.plot(x, y, color=colour, lw=2, marker="o", ms=4.5, zorder=3)
    if cases and all(case["metrics_sd"] for case in cases):
        sd = np.array([case["metrics_sd"]["model"][METRIC] for case in cases])
        axes.fill_between(x, y - sd, y + sd, color=colour, alpha=0.15, lw=0, zorder=2)


def _labels(axes: Axes, labels: list[tuple[float, str, str]], end: float) -> None:
    """Write every line's name right of it, apart from its neighbours, with a thin pointer."""
    labels = sorted(labels)
    figure = axes.get_figure(root=True)
    assert figure is not None
    unit = 72 / figure.dpi
    bottom, top = axes.transAxes.transform([(0, 0), (0, 1)])[:, 1] * unit
    heights = [float(axes.transData.transform((end, value))[1]) * unit for value, _, _ in labels]
    moved = spread(heights, _LABEL, bottom + 4, top - 4)
    for (value, label, colour), height, new in zip(labels, heights, moved, strict=True):
        axes.annotate(
            label,
            xy=(end, value),
            xytext=(16, new - height),
            textcoords="offset points",
            size=9,
            weight="bold" if label not in LINES else "normal",
            va="center",
            color=colour,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            arrowprops={"arrowstyle": "-", "color": FAINT, "lw": 0.8, "shrinkA": 0, "shrinkB": 5},
        )
