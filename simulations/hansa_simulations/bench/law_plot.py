"""The picture of ``hansa bench law``: gain kept against customers times epsilon, a panel a data set."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from hansa.planner.payoff import share_kept
from hansa_simulations.bench.frontier_plot import METHOD_COLOURS, TITLES
from hansa_simulations.bench.law import TOLERABLE
from hansa_simulations.plots import FAINT, INK, QUIET, WIDTH, plain_axes

HEIGHT = 5.4  # inches
MARKERS = ("o", "s", "^", "D", "v")  # by epsilon


def render(found: Mapping[str, Any], kind: str = "svg") -> bytes:
    """The plot as an SVG, or a PNG; equal documents give equal bytes."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "hansa"}):
        metadata = {"Date": None} if kind == "svg" else {}
        law_figure(found).savefig(buffer, format=kind, dpi=160, metadata=metadata)
    return buffer.getvalue()


def law_figure(found: Mapping[str, Any]) -> Figure:
    """Points are cells, hollow ones the real data; lines are the fitted law."""
    names = list(dict.fromkeys(case["scenario"] for case in found["cases"]))
    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor="white")
    FigureCanvasAgg(figure)
    title = "What a private federation keeps of the gain of pooling all data"
    note = (
        "measured on federations drawn from a model of real customers, and the law (dotted: none is followed)"
    )
    note += "; hollow: real data"
    figure.text(0.02, 0.93, title, size=15, weight="bold", color=INK)
    figure.text(0.02, 0.88, note, size=10.5, color=QUIET)
    place = {"left": 0.06, "right": 0.985, "top": 0.75, "bottom": 0.12, "wspace": 0.12}
    grid = figure.subplots(1, len(names), squeeze=False, sharey=True, gridspec_kw=place)
    for axes, name in zip(grid.flat, names, strict=True):
        cases = [c for c in found["cases"] if c["scenario"] == name and c["gain_kept"] is not None]
        _panel(axes, name, cases, [law for law in found["laws"] if law["scenario"] == name])
    grid.flat[0].set_ylabel("gain kept", size=11, color=QUIET)
    return figure


def _panel(
    axes: Axes, name: str, cases: Sequence[Mapping[str, Any]], laws: Sequence[Mapping[str, Any]]
) -> None:
    short = name.split(":")[0]
    axes.set_title(TITLES.get(short, short), size=11, weight="bold", color=INK, loc="left", pad=26)
    axes.set_xscale("log")
    plain_axes(axes)
    axes.axhline(0.5, color=FAINT, lw=1.2, zorder=1)
    epsilons = sorted({case["epsilon"] for case in cases})
    for case in cases:
        colour = METHOD_COLOURS.get(case["method"], INK)
        axes.plot(
            case["customers"] * case["epsilon"],
            case["gain_kept"],
            marker=MARKERS[epsilons.index(case["epsilon"]) % len(MARKERS)],
            mfc="white" if case["factor"] is None else colour,
            mec=colour,
            ms=6,
            ls="",
            zorder=3,
        )
    for law in laws:
        here = sorted(
            (case["customers"] * case["epsilon"], case["items_in_statistic"])
            for case in cases
            if case["method"] == law["method"]
        )
        x = np.geomspace(here[0][0], here[-1][0], 100)
        items = np.interp(np.log(x), np.log([s for s, _ in here]), [k for _, k in here])
        y = [
            share_kept(s, k, **{key: law[key] for key in ("half", "power", "most")})
            for s, k in zip(x, items, strict=True)
        ]
        style = "-" if law["error"] <= TOLERABLE else ":"
        axes.plot(x, y, color=METHOD_COLOURS.get(law["method"], INK), lw=2, ls=style, zorder=2)
    methods = list(dict.fromkeys(case["method"] for case in cases))
    shapes = ", ".join(f"{'●■▲◆▼'[i % 5]} {epsilon:g}" for i, epsilon in enumerate(epsilons))
    axes.annotate(
        f"epsilon {shapes}", (0, 1), (0, 9), "axes fraction", "offset points", size=9.5, color=QUIET
    )
    for number, method in enumerate(methods):
        axes.annotate(
            method, (1, 1), (0, 9 + 13 * number), "axes fraction", "offset points",
            size=10, weight="bold", ha="right", color=METHOD_COLOURS.get(method, INK),
        )  # fmt: skip
    axes.set_ylim(min(0.0, *(case["gain_kept"] for case in cases)) - 0.03, 1.03)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.set_xlabel("customers x epsilon", size=11, color=QUIET)
