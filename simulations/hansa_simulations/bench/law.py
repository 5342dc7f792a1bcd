"""``hansa bench law``: how much of pooling's gain is kept, against customers times epsilon.

Federations of any size are drawn from a model of real customers (``topics``), the shops as large as the real
ones and as many more of them. The curve through the figures is the law of ``hansa.planner.payoff``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from hansa.errors import UsageError
from hansa.plan import build_method
from hansa.planner.advice import HALF_AT, customers_for
from hansa.planner.payoff import share_kept
from hansa.planner.question import statistic_items
from hansa_simulations import words
from hansa_simulations.bench import timing
from hansa_simulations.bench.cells import Cell, Folder
from hansa_simulations.bench.frontier import DELTA, budget_of, options_of, ordered, scenario_of
from hansa_simulations.bench.siblings import PRIOR, TOPICS, drawn
from hansa_simulations.evaluation import summarise
from hansa_simulations.experiment import Prepared, Result, prepare
from hansa_simulations.parallel import cores
from hansa_simulations.settings import make_settings
from hansa_simulations.words import METRIC

SCENARIOS = ("journey:last20", "games:last20")
FACTORS = (1, 2, 5, 10, 40)
EPSILONS = ("1", "2", "4")
LARGEST = {"dpsgd": 10, "hybrid": 10}
"""Factors beyond which a method's cell would take far more than five minutes."""
TOLERABLE = 0.05
LINES = ("popularity", "alone", "pooled")


@dataclass(frozen=True)
class Sized(Cell):
    """A cell on real data, or on drawn customers.

    Attributes:
        factor: How many times as many customers as the real ones; None: the real ones themselves.
    """

    factor: int | None = None


def cells_of(
    scenarios: Sequence[str],
    factors: Sequence[int],
    methods: Sequence[str],
    epsilons: Sequence[str],
    seeds: Sequence[int],
    delta: float = DELTA,
) -> list[Sized]:
    """The real data and every factor at every epsilon, with central noise, smallest first.

    Raises:
        UsageError: Something is unknown or out of range.
    """
    budgets = [budget_of(text) for text in epsilons]
    if None in budgets:
        raise UsageError("--epsilon none: the law is about budgets; give numbers")
    return [
        Sized(
            f"{name} {'real' if factor is None else f'x{factor}'}",
            make_settings(options_of(method, budget, seed, "central", delta) | data, assignments),
            factor,
        )
        for seed in seeds
        for name, data, assignments in map(scenario_of, scenarios)
        for factor in (None, *sorted(set(factors)))
        for method in methods
        if (factor or 1) <= LARGEST.get(method, math.inf)
        for budget in budgets
    ]


def load(cell: Cell) -> Prepared:
    """The data of a cell's group: real, or drawn from the model of the real ones."""
    factor, settings = cell.factor if isinstance(cell, Sized) else None, cell.settings
    if factor is None:
        return prepare(settings, settings.seed)
    return drawn(settings, factor)


def collect(cells: Sequence[Sized], folder: Folder) -> timing.Document:
    """The document of all cells that exist, with a law fitted for each scenario and method.

    Raises:
        UsageError: There is none.
    """
    status = {cell.name: folder.status(cell) for cell in cells}
    groups: dict[tuple[str, int | None, str, float | None], list[Result]] = {}
    for cell in cells:
        if (result := folder.read(cell)) is not None:
            place = (cell.scenario.split(" ")[0], cell.factor, cell.settings.method, cell.settings.epsilon)
            groups.setdefault(place, []).append(result)
    if not groups:
        raise UsageError(f"--cells {folder.path}: holds no cell asked for; run without --draw-only")
    cases = [_case(name, factor, runs) for (name, factor, _, _), runs in groups.items()]
    return timing.document(
        "law",
        cases,
        threads=cores(),
        laws=fits(cases),
        missing=[name for name, state in status.items() if state == "missing"],
        stale=[name for name, state in status.items() if state == "stale"],
        topics=TOPICS,
        prior=PRIOR,
    )


def _case(scenario: str, factor: int | None, runs: Sequence[Result]) -> dict[str, Any]:
    summary = summarise(runs)
    method, budget, items = summary["method"], summary["privacy"]["epsilon"], summary["data"]["items"]
    metrics, sd = summary["metrics"], summary.get("metrics_sd")
    return {
        "name": f"{scenario} {'real' if factor is None else f'x{factor}'}: {method}, epsilon {budget:g}",
        "items": items,
        "seconds": sum(run["timing"]["total_seconds"] for run in runs) / len(runs),
        "ratio": metrics["model"][METRIC] / metrics["alone"][METRIC],
        "baseline": "alone",
        "scenario": scenario,
        "factor": factor,
        "method": method,
        "epsilon": budget,
        "customers": summary["data"]["customers"],
        "shops": summary["data"]["shops"],
        "items_in_statistic": statistic_items(
            build_method(method, items, summary["plan"]["settings"]), items
        ),
        "metrics": metrics,
        "metrics_sd": sd,
        "gain_kept": summary["gain_kept"],
        "seeds": summary["seeds"],
        "peak_rss_mb": max(run["timing"]["peak_rss_mb"] for run in runs),
    }


def fits(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The law of every scenario and method with four drawn cells at least, and what it answers.

    Least squares of gain kept, see ``hansa.planner.payoff.share_kept`` for the form.
    """
    found = []
    for scenario, method in dict.fromkeys((case["scenario"], case["method"]) for case in cases):
        here = [
            case
            for case in cases
            if (case["scenario"], case["method"]) == (scenario, method)
            and case["factor"] is not None
            and case["gain_kept"] is not None
        ]
        if len(here) < 4:
            continue
        strength = np.array([case["customers"] * case["epsilon"] for case in here])
        items = np.array([case["items_in_statistic"] for case in here])
        kept = np.array([case["gain_kept"] for case in here])
        law = fit(strength, items, kept)
        errors = [share_kept(x, k, **law) - gain for x, k, gain in zip(strength, items, kept, strict=True)]
        found.append(
            {
                "scenario": scenario,
                "method": method,
                **law,
                "error": float(np.sqrt(np.mean(np.square(errors)))),
                "cells": len(here),
                "half_of_gain": {
                    f"{budget:g}": customers_for(0.5, budget, method, here[0]["items"], law)
                    for budget in HALF_AT
                },
            }
        )
    return found


def fit(strength: Any, items: Any, kept: Any) -> dict[str, float]:
    """Half and power of the law that is nearest to the gains kept, in least squares; most is the largest."""
    most = float(np.clip(np.max(kept), 0.01, 1.0))

    def errors(parameters: Any) -> Any:
        law = {"half": math.exp(parameters[0]), "power": parameters[1], "most": most}
        return [share_kept(x, k, **law) - gain for x, k, gain in zip(strength, items, kept, strict=True)]

    bounds = (math.log(1.0), 0.3), (math.log(1e10), 3.0)
    starts = [(math.log(half), 1.0) for half in (1e2, 1e3, 1e4, 1e5, 1e6, 1e7)]
    best = min(
        (least_squares(errors, start, bounds=bounds) for start in starts), key=lambda found: found.cost
    )
    return {"half": float(np.exp(best.x[0])), "power": float(best.x[1]), "most": most}


def text(found: timing.Document) -> list[str]:
    """The document as Markdown."""
    lines = [
        "# The law: gain kept against customers times epsilon",
        "",
        "How much of what pooling all data would gain over each shop alone (ndcg@10) a federation keeps, by "
        "its number of customers and epsilon; central DP, user level, delta 1e-5. Federations are drawn from "
        f"a model of the real customers ({found['topics']} topics): *x10* has ten new customers for each "
        "real one and ten shops for each real shop, all of the real sizes, over the same items. Own models "
        "are fitted and customers evaluated at as many shops as there are real ones; everybody takes part in "
        "training, in *popularity* and in *pooled*.",
        "",
        "![Gain kept against customers times epsilon](law.svg)",
        "",
        "## The law",
        "",
        "gain = min(1 / (1 + (half sqrt(K / 3000) / (customers x epsilon))^power), most), K the items of the "
        "statistic and *most* the largest share measured; fitted by least squares to the drawn federations. "
        f"*Error* is the root mean square one; above {TOLERABLE:g} the method does not follow such a law.",
        "",
        *timing.table(
            ("data, method", "half", "power", "most", "error", *(f"half of gain at {e:g}" for e in HALF_AT)),
            (
                [
                    f"{law['scenario']}, {law['method']}",
                    f"{law['half']:,.0f}",
                    f"{law['power']:.2f}",
                    f"{law['most']:.2f}",
                    f"{law['error']:.3f}" + (" (no law)" if law["error"] > TOLERABLE else ""),
                    *("none" if n is None else f"{n:,} customers" for n in law["half_of_gain"].values()),
                ]
                for law in found["laws"]
            ),
        ),
    ]
    for scenario in dict.fromkeys(case["scenario"] for case in found["cases"]):
        lines += ["", *_section([case for case in found["cases"] if case["scenario"] == scenario])]
    for title, names in (("Missing", found["missing"]), ("Stale", found["stale"])):
        if names:
            lines += ["", f"{title}: {'; '.join(names)}."]
    return [*lines, "", timing.machine_line(found)]


def _section(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    epsilons = ordered(case["epsilon"] for case in cases)
    rows = []
    for method, factor in dict.fromkeys((case["method"], case["factor"]) for case in cases):
        here = {c["epsilon"]: c for c in cases if (c["method"], c["factor"]) == (method, factor)}
        some = next(iter(here.values()))
        rows.append(
            [
                f"{method}, {'real' if factor is None else f'x{factor}'}",
                f"{some['customers']:,}",
                *(f"{some['metrics'][line][METRIC]:.4f}" for line in LINES),
                *(_served(here.get(epsilon)) for epsilon in epsilons),
            ]
        )
    heads = ("", "customers", *LINES, *(f"served at {words.epsilon_text(e)}" for e in epsilons))
    return [
        f"## {cases[0]['scenario']}",
        "",
        "Served: ndcg@10 of what shops serve and the gain kept. *real* against *x1* says how far the model "
        "of customers is to be trusted.",
        "",
        *timing.table(heads, rows),
    ]


def _served(case: Mapping[str, Any] | None) -> str:
    if case is None:
        return ""
    kept = "" if case["gain_kept"] is None else f" ({case['gain_kept']:.0%})"
    return f"{case['metrics']['model'][METRIC]:.4f}{kept}"
