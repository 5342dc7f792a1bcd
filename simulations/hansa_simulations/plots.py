"""The picture of a run: accuracy by round against the references, and what each shop gains.

Lines carry their labels beside them instead of a legend; colours are those of Okabe and Ito, which
colour-blind readers can tell apart. Nothing here touches pyplot or its global state.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy.optimize import isotonic_regression

from hansa_simulations import words
from hansa_simulations.words import METRIC

WIDTH, HEIGHT = 12.0, 6.0  # inches
INK, QUIET, FAINT = "#1a1a1a", "#595959", "#d0d0d0"
BETTER, WORSE = "#0072B2", "#C85200"
COLOURS = {
    "model": BETTER,
    "shared": "#8E3A80",
    "popularity": "#8A6A00",
    "alone": "#595959",
    "pooled": "#00795A",
}
STYLES = {"model": "-", "shared": ":", "popularity": (0, (1, 1.5)), "alone": "-", "pooled": (0, (6, 2))}
_BOTTOM, _TOP = 0.115, 0.70  # of both panels, as shares of the figure's height
_LABEL_HEIGHT = 29.0  # points, a label of two lines
_MARGIN = 0.18  # share of the left panel's width right of the last round: room for the bracket
_TICKS = 6


def render(result: Mapping[str, Any], kind: str) -> bytes:
    """The accuracy plot of a result as the bytes of a file.

    Args:
        result: The contract of result.json, without NaN.
        kind: ``png`` (1,920 pixels wide) or ``svg``; equal results give equal bytes.
    """
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    with matplotlib.rc_context({"svg.hashsalt": "hansa"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        accuracy_figure(result).savefig(buffer, format=kind, dpi=160, metadata=metadata)
    return buffer.getvalue()


def accuracy_figure(result: Mapping[str, Any]) -> Figure:
    """Left: ndcg@10 by round and the references; right, where known: each shop's gain over alone."""
    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor="white")
    FigureCanvasAgg(figure)
    gains = result["per_shop"]["gains"]
    width = 0.393 if gains else 0.693
    _headline(figure, result)
    left = figure.add_axes((0.072, _BOTTOM, width, _TOP - _BOTTOM))
    _panel_title(left, _left_title(result))
    _accuracy(left, result)
    if gains:
        right = figure.add_axes((0.702, _BOTTOM, 0.283, _TOP - _BOTTOM))
        _gains(right, np.sort(np.asarray(gains, dtype=np.float64))[::-1], result)
    return figure


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels as little as possible (least squares) until neighbours are ``gap`` apart.

    Args:
        positions: Wanted positions, ascending.
        gap: Least distance of neighbours; shrinks if the labels would not fit between the bounds.
        low: Lower bound of the first position.
        high: Upper bound of the last position.
    """
    if not positions:
        return []
    gap = min(gap, (high - low) / max(len(positions) - 1, 1))
    steps = gap * np.arange(len(positions))
    moved = isotonic_regression(np.asarray(positions) - steps).x
    return [float(p) for p in np.clip(moved, low, high - steps[-1]) + steps]


def _headline(figure: Figure, result: Mapping[str, Any]) -> None:
    title = f"{textwrap.shorten(result['scenario'], 40, placeholder='…')}: {words.data_line(result)}"
    if result["interrupted"]:
        title += " (interrupted)"
    if len(result["seeds"]) > 1:
        title += f" (means of {len(result['seeds'])} seeds)"
    privacy = words.privacy_line(result)
    for height, text, size, fitting in ((0.935, title, 15.0, 92), (0.885, privacy, 10.5, 142)):
        weight, colour = ("bold", INK) if text is title else ("normal", QUIET)
        size *= min(1.0, fitting / len(text))  # `fitting` characters of this size fill the width
        figure.text(0.02, height, text, size=size, weight=weight, color=colour, parse_math=False)


def _panel_title(axes: Axes, title: str, subtitle: str = "") -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    left = axes.get_position().x0 - 0.052
    figure.text(left, 0.815, title, size=11.5, weight="bold", color=INK, va="center")
    figure.text(left, 0.765, subtitle, size=10, color=QUIET, va="center")


def _left_title(result: Mapping[str, Any]) -> str:
    kept, rows = result["gain_kept"], result["metrics"]
    if kept is None:
        alone, pooled = ((rows.get(name) or {}).get(METRIC) for name in ("alone", "pooled"))
        if alone is None or pooled is None or pooled > alone:
            return "Accuracy by round"
        return "Pooling all data does not beat training alone here"
    if kept < 0:
        return f"Loses {words.percent(-kept)} of what pooling would add over training alone"
    return f"Keeps {words.percent(kept)} of what pooling would add over training alone"


def _accuracy(axes: Axes, result: Mapping[str, Any]) -> None:
    lines = {name: row[METRIC] for name, row in result["metrics"].items() if row and row[METRIC] is not None}
    history = [step for step in result["history"] if step[METRIC] is not None]
    rounds, curve = [step["round"] for step in history], [step[METRIC] for step in history]
    first, last = (min(rounds), max(rounds)) if rounds else (0, 1)
    span = max(last - first, 1)
    start = first - (0.04 if last > first else 0.5) * span
    edge = last + 0.06 * span
    axes.set_xlim(start, edge + _MARGIN * (edge - start))
    axes.set_ylim(*_limits(list(lines.values()), curve))

    _bands(axes, lines, result["gain_kept"], edge)
    for name, level in lines.items():
        if name != "shared" or not curve:
            axes.axhline(
                level, color=COLOURS[name], linestyle=STYLES[name], lw=2.4 if name == "model" else 1.6
            )
    if curve:
        axes.plot(rounds, curve, color=COLOURS["shared"], lw=2.2, marker="o", ms=5 if len(curve) < 40 else 0)
        if "shared" in lines:
            ends = [curve[-1], lines["shared"]]
            axes.plot([last, axes.get_xlim()[1]], ends, color=COLOURS["shared"], lw=1.2, ls=":")
    _labels(axes, lines)
    _epsilon_axis(axes, history)

    axes.set_xlabel("round" if rounds else "no round was evaluated", size=11, color=QUIET)
    axes.set_xticks([rounds[i] for i in _ticks(len(rounds))])
    plain_axes(axes)
    axes.set_ylabel("ndcg@10", size=11, color=QUIET)
    bottom, top = axes.get_ylim()
    digits = 3 if top - bottom > 0.01 else 4
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.{digits}f}"))


def _limits(lines: Sequence[float], curve: Sequence[float]) -> tuple[float, float]:
    """Room for every line and the end of the curve; a steep start may be cut, to set the lines apart."""
    levels = [*lines, *curve] or [0.0, 1.0]
    low, high = min(levels), max(levels)
    if len(lines) > 2:
        needed = min([*lines, *curve[-1:]])
        low = max(low, needed - 1.2 * (high - needed))
    pad = 0.07 * (high - low) or 0.1 * abs(high) or 0.1
    return low - pad, high + pad


def _bands(axes: Axes, lines: Mapping[str, float], kept: float | None, edge: float) -> None:
    """Shade what pooling would add over training alone, and mark how much of it is served."""
    if "alone" not in lines or "pooled" not in lines:
        return
    alone, pooled = lines["alone"], lines["pooled"]
    axes.axhspan(alone, pooled, color=COLOURS["pooled"], alpha=0.10, lw=0)
    if kept is None or "model" not in lines:
        return
    model, colour = lines["model"], BETTER if kept >= 0 else WORSE
    axes.axhspan(alone, model, color=colour, alpha=0.13, lw=0)
    x = edge + 0.5 * (axes.get_xlim()[1] - edge)
    arrow = {
        "arrowstyle": "-|>",
        "color": colour,
        "lw": 2.2,
        "shrinkA": 0,
        "shrinkB": 0,
        "mutation_scale": 13,
    }
    bottom, top = axes.get_ylim()
    points = HEIGHT * 72 * (_TOP - _BOTTOM) / (top - bottom)
    if abs(model - alone) * points < 8:
        return  # too short for an arrow; the panel's title says it
    axes.annotate("", xy=(x, model), xytext=(x, alone), arrowprops=arrow, zorder=5)
    if abs(model - alone) * points > 24:
        text = axes.text(x, (alone + model) / 2, words.percent(kept), size=12, weight="bold", color=colour)
        text.set(ha="center", va="center", zorder=6)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "boxstyle": "round,pad=0.15", "alpha": 0.9})


def _labels(axes: Axes, lines: Mapping[str, float]) -> None:
    """Name every line right of the panel, at its height unless its neighbours need the room."""
    bottom, top = axes.get_ylim()
    points = HEIGHT * 72 * (_TOP - _BOTTOM)  # the panel's height
    names = sorted(lines, key=lambda name: lines[name])
    wanted = [points * (lines[name] - bottom) / (top - bottom) for name in names]
    half = _LABEL_HEIGHT / 2
    for name, at, height in zip(
        names, wanted, spread(wanted, _LABEL_HEIGHT, half - 6, points - half + 6), strict=True
    ):
        colour = COLOURS[name]
        anchor = (axes.get_xlim()[1], lines[name])
        line = {"arrowstyle": "-", "color": colour, "lw": 1.0, "shrinkA": 0, "shrinkB": 0}
        value = f"{name}  {words.figure(lines[name])}"
        for text, x, y, size, weight, arrow in (
            ("", 16.0, 0.0, 11.0, "normal", line),
            (value, 20.0, 1.0, 11.0, "bold", None),
            (words.MEANING[name], 20.0, -11.5, 9.5, "normal", None),
        ):
            axes.annotate(
                text,
                xy=anchor,
                xytext=(x, height - at + y),
                textcoords="offset points",
                arrowprops=arrow,
                annotation_clip=False,
                size=size,
                weight=weight,
                color=colour,
            )


def _ticks(rounds: int) -> list[int]:
    """Positions of evenly spread rounds, the first and the last included."""
    return [round(at) for at in np.linspace(0, rounds - 1, min(rounds, _TICKS))]


def _epsilon_axis(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    charged = [step for step in history if step["epsilon"] is not None]
    if not charged:
        return
    picked = _ticks(len(charged))
    top = axes.secondary_xaxis("top")
    ticks = [charged[i]["round"] for i in picked]
    top.set_xticks(ticks, [f"{charged[i]['epsilon']:.2f}" for i in picked])
    top.set_xlabel("epsilon so far, one customer of one shop", size=10, color=QUIET, labelpad=5)
    top.tick_params(colors=QUIET, labelsize=10, length=3)
    top.spines["top"].set_color(FAINT)


def _gains(axes: Axes, gains: np.ndarray[Any, np.dtype[np.float64]], result: Mapping[str, Any]) -> None:
    shops, better, worse = len(gains), int((gains > 0).sum()), int((gains < 0).sum())
    colours = np.where(gains > 0, BETTER, np.where(gains < 0, WORSE, FAINT))
    axes.bar(np.arange(1, shops + 1), gains, width=0.8 if shops <= 60 else 1.0, color=list(colours), lw=0)
    axes.axhline(0, color=INK, lw=1)
    high, low = max(float(gains.max()), 0.0), min(float(gains.min()), 0.0)
    room = 0.22 * (high - low) or 0.01  # above and below the bars, for the two texts
    axes.set_ylim(low - room, high + room)
    axes.set_xlim(0.3, shops + 0.7)

    title = f"{better:,} of {shops:,} shops gain over training alone"
    _panel_title(axes, title, "ndcg@10 of model minus alone, one bar a shop, sorted")
    median = f"median shop {words.signed(float(np.median(gains)))}"
    if better + worse < shops:
        median += f"\n{shops - better - worse:,} unchanged"
    place = axes.transAxes
    axes.text(0.98, 0.98, median, ha="right", va="top", size=11, color=INK, transform=place)
    if worse:
        proven = result["per_shop"]["worse_than_alone"]
        text = f"{worse:,} worse" + ("" if proven is None else f", {proven:,} beyond chance")
        axes.text(0.02, 0.02, text, ha="left", va="bottom", size=11, color=WORSE, transform=place)
    axes.set_xlabel("shops", size=11, color=QUIET)
    axes.set_xticks([1, shops] if shops > 1 else [1])
    plain_axes(axes)
    axes.spines["bottom"].set_visible(False)
    digits = 3 if high - low < 0.1 else 2
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: "0" if abs(v) < 1e-12 else f"{v:+.{digits}f}"))


def plain_axes(axes: Axes) -> None:
    """A quiet frame: two spines, small ticks, faint horizontal lines."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=QUIET, labelsize=10, length=3)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#ededed", lw=0.8)
