"""The plots of a report, as SVG that stands inside a page: no ids that clash, no references outwards.

Nothing is told by colour alone: lines differ in dashes and markers, bars carry their values. Text is left to
the page's own font. Equal data give equal bytes. Nothing here touches pyplot or its global state.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from hansa.audit.document import Accuracy, Attack, Budget, Guarantee
from hansa.figures import delta_text, epsilon_text

INK, QUIET, FAINT, GRID = "#1a1a1a", "#4d4d4d", "#b8b8b8", "#e6e6e6"
BLUE, ORANGE, GREEN = "#0b4f8a", "#b34700", "#00694f"
_WIDTH = 7.0  # inches
_LONGEST = 34  # characters of a name
_MOST_BARS = 14
_STYLE = {
    "svg.hashsalt": "hansa",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "path.simplify": True,
}
V = TypeVar("V")
_METRIC = "ndcg@10"
_JUDGED = {
    "model": "model (what shops serve)",
    "shared": "shared (released model)",
    "alone": "alone (each shop by itself)",
    "popularity": "popularity (exact counts)",
    "pooled": "pooled (all data, no privacy)",
}


def budget_plot(budget: Budget) -> str | None:
    """Epsilon after every entry of a ledger against the ceiling; None without at least one entry."""
    history = budget.history
    if not history:
        return None
    figure, axes = _figure(3.0, below=0.72, right=0.94)
    numbers = [moment.number for moment in history]
    end = max(numbers[-1] + 1, round(numbers[-1] * 1.02))
    at = [*numbers, end]
    spent = [moment.spent for moment in history]
    charged = [moment.charged for moment in history]
    axes.step(at, [*spent, spent[-1]], where="post", color=BLUE, lw=2.2, label="set aside for plans")
    axes.step(at, [*charged, charged[-1]], where="post", color=GREEN, lw=1.8, ls="--", label="released")
    ceilings = [moment.ceiling for moment in history]
    if any(ceiling is not None for ceiling in ceilings):
        known = [float("nan") if ceiling is None else ceiling for ceiling in ceilings]
        axes.step(
            at,
            [*known, known[-1]],
            where="post",
            color=INK,
            lw=1.4,
            ls=(0, (5, 1.5, 1, 1.5)),
            label="ceiling",
        )
    top = max([*spent, *charged, *(c for c in ceilings if c is not None)], default=0.0) or 1.0
    if budget.refusals:
        refused = [refusal.number for refusal in budget.refusals]
        axes.plot(
            refused, [0.0] * len(refused), "x", ms=8, mew=2, color=ORANGE, label="refused", clip_on=False
        )
    axes.set_ylim(0, 1.12 * top)
    axes.set_xlim(numbers[0], max(end, *(r.number for r in budget.refusals), numbers[0] + 1))
    axes.set_ylabel("epsilon", color=QUIET)
    axes.set_xlabel("entry of the ledger, and its day by the shop's clock", color=QUIET)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    days = {moment.number: _day(moment.time) for moment in history}
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _with_day(value, numbers, days)))
    _legend(axes)
    return _svg(figure, "budget")


def _with_day(value: float, numbers: Sequence[int], days: Mapping[int, str]) -> str:
    past = [number for number in numbers if number <= value]
    return f"{value:.0f}\n{days[past[-1]]}" if past else f"{value:.0f}"


def _day(time: str) -> str:
    try:
        return datetime.fromisoformat(time).date().isoformat()
    except ValueError:
        return ""


def profile_plot(guarantee: Guarantee) -> str | None:
    """Delta by epsilon on a logarithmic scale, with the claim; None where no point is known."""
    points = [point for point in guarantee.profile if point.delta > 0]
    if len(points) < 2:
        return None
    figure, axes = _figure(2.8, left=0.12)
    axes.semilogy(
        [point.epsilon for point in points],
        [point.delta for point in points],
        color=BLUE,
        lw=2,
        marker="o",
        ms=4,
    )
    lowest = min(point.delta for point in points)
    if guarantee.epsilon is not None and guarantee.delta:
        axes.plot([guarantee.epsilon], [guarantee.delta], "D", ms=8, color=ORANGE, zorder=5)
        axes.annotate(
            f"the claim: epsilon {epsilon_text(guarantee.epsilon)}, delta {delta_text(guarantee.delta)}",
            (guarantee.epsilon, guarantee.delta),
            xytext=(10, 8),
            textcoords="offset points",
            color=ORANGE,
            weight="bold",
            annotation_clip=False,
        )
        lowest = min(lowest, guarantee.delta)
    axes.set_ylim(max(lowest / 10, 1e-13), 2)
    axes.set_xlim(0, None)
    axes.yaxis.set_major_locator(LogLocator(numticks=7))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: "1" if value == 1 else f"{value:.0e}".replace("e-0", "e-"))
    )
    axes.set_xlabel("epsilon", color=QUIET)
    axes.set_ylabel("delta (log scale)", color=QUIET)
    return _svg(figure, "profile")


def spend_plot(shares: Mapping[str, float]) -> str | None:
    """Bars of epsilon by name, in the order given; None without any."""
    if not shares:
        return None
    names, values = list(shares), list(shares.values())
    if len(names) > _MOST_BARS:
        rest = values[_MOST_BARS - 1 :]
        names = [*names[: _MOST_BARS - 1], f"{len(rest):,} more"]
        values = [*values[: _MOST_BARS - 1], sum(rest)]
    figure, axes = _figure(0.85 + 0.3 * len(names), left=0.36)
    _bars(axes, names, values, [BLUE] * len(names), [f"{value:.3g}" for value in values])
    axes.set_xlabel("epsilon", color=QUIET)
    return _svg(figure, "spend")


def accuracy_plot(accuracy: Accuracy) -> str | None:
    """Bars of ndcg@10: what shops serve against the references; None where it was not measured."""
    found = {
        name: metrics[_METRIC]
        for name, metrics in accuracy.metrics.items()
        if metrics.get(_METRIC) is not None
    }
    values = {name: value for name, value in found.items() if value is not None}
    if not values:
        return None
    order = [name for name, _ in in_order(values)]
    figure, axes = _figure(0.85 + 0.34 * len(order), left=0.36)
    shown = [values[name] for name in order]
    spreads = [((accuracy.deviations or {}).get(name) or {}).get(_METRIC) for name in order]
    words = [
        f"{value:.4f}" if spread is None else f"{value:.4f} ± {spread:.4f}"
        for value, spread in zip(shown, spreads, strict=True)
    ]
    colours = [BLUE if name in ("model", "shared") else FAINT for name in order]
    _bars(axes, [_JUDGED.get(name, name) for name in order], shown, colours, words)
    axes.set_xlabel(f"{_METRIC}, mean over customers", color=QUIET)
    return _svg(figure, "accuracy")


def in_order(judged: Mapping[str, V]) -> list[tuple[str, V]]:
    """By what is judged: what shops serve first, the references then, others last."""
    known = [name for name in _JUDGED if name in judged]
    return [(name, judged[name]) for name in [*known, *sorted(set(judged) - set(_JUDGED))]]


def attack_plot(attacks: Sequence[Attack]) -> str | None:
    """Proven lower bounds on epsilon as bars, with the claims as marks; None where none has a bound."""
    known = [attack for attack in attacks if attack.bound is not None][:_MOST_BARS]
    if not known:
        return None
    figure, axes = _figure(0.95 + 0.36 * len(known), left=0.36)
    bounds = [float(attack.bound or 0.0) for attack in known]
    names = [f"{attack.attack}, {attack.method}, {attack.dp}" for attack in known]
    colours = [ORANGE if attack.broken else BLUE for attack in known]
    claims = [attack.claimed for attack in known]
    words = [
        f"{bound:.3g} of {'no claim' if claim is None else f'{claim:.3g}'}"
        for bound, claim in zip(bounds, claims, strict=True)
    ]
    furthest = [max(bound, claim or 0.0) for bound, claim in zip(bounds, claims, strict=True)]
    _bars(axes, names, bounds, colours, words, furthest)
    for place, claim in enumerate(claims):
        if claim is not None:
            axes.plot([claim, claim], [place - 0.42, place + 0.42], color=INK, lw=2.4)
    axes.set_xlabel("epsilon: proven lower bound (bar), claim (upright mark)", color=QUIET)
    return _svg(figure, "attacks")


def _bars(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float],
    colours: Sequence[str],
    words: Sequence[str],
    ends: Sequence[float] | None = None,
) -> None:
    places = list(range(len(names)))
    axes.barh(places, list(values), height=0.62, color=list(colours), edgecolor=INK, lw=0.6)
    furthest = list(values) if ends is None else list(ends)
    longest = max([*furthest, 1e-12])
    for place, end, text in zip(places, furthest, words, strict=True):
        axes.text(max(end, 0) + 0.015 * longest, place, text, va="center", color=INK, parse_math=False)
    axes.set_yticks(places, [_short(name) for name in names], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(min(0.0, *values), 1.28 * longest)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))


def _short(name: str) -> str:
    plain = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1] + "…"


def _figure(
    height: float, left: float = 0.1, right: float = 0.985, below: float = 0.52
) -> tuple[Figure, Axes]:
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(_WIDTH, height), facecolor="none")
        FigureCanvasSVG(figure)
        axes = figure.add_axes((left, below / height, right - left, 1 - (below + 0.28) / height))
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=QUIET, length=3)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=GRID, lw=0.8)
    return figure, axes


def _legend(axes: Axes) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=4,
        frameon=False,
        borderaxespad=0.1,
        handlelength=2.4,
        columnspacing=1.2,
        fontsize=9,
    )


def _svg(figure: Figure, name: str) -> str:
    """The figure as an element of a page: ids and references are its own, prolog and metadata are gone."""
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text, count=2)
    text = re.sub(r'\bid="([^"<>]*)"', rf'id="{name}-\1"', text)
    text = re.sub(r'\bxlink:href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    return re.sub(
        r'^<svg width="[^"]*" height="[^"]*"', '<svg aria-hidden="true" focusable="false"', text, count=1
    )
