"""``hansa bench frontier``: accuracy against epsilon, by scenario and method, between alone and pooled.

Every cell is a run of ``hansa simulate`` with the same settings, so that its figures are those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hansa.errors import UsageError, one_of
from hansa.plan import METHODS
from hansa_simulations import words
from hansa_simulations.bench import timing
from hansa_simulations.bench.cells import Cell, Folder
from hansa_simulations.evaluation import summarise
from hansa_simulations.experiment import Prepared, Result, prepare
from hansa_simulations.parallel import cores
from hansa_simulations.settings import make_settings
from hansa_simulations.words import METRIC

SCENARIOS = (
    "journey:last20",
    "ml-1m:random20",
    "ml-1m:last20",
    "games:last20",
    "xmarket:last20",
    "ml-100k:last1:data.min_rating=4",
)
EPSILONS = ("0.5", "1", "2", "4", "8", "none")
DELTA = 1e-5
LINES = ("popularity", "alone", "pooled")
SERVED = {"model": "served", "shared": "released model"}


def cells_of(
    scenarios: Sequence[str],
    methods: Sequence[str],
    epsilons: Sequence[str],
    seeds: Sequence[int],
    *,
    dp: str,
    delta: float = DELTA,
) -> list[Cell]:
    """The cells asked for, group by group; all scenarios of one seed before the next seed.

    Args:
        scenarios: ``NAME[:PROTOCOL[:SECTION.KEY=VALUE]...]`` each.
        methods: Names of methods.
        epsilons: Numbers as text, or ``none`` for no privacy.
        seeds: Seeds of split and noise.
        dp: DP model of the private ones.
        delta: Of all.

    Raises:
        UsageError: Something is unknown or out of range.
    """
    for method in methods:
        if method not in METHODS:
            raise one_of("--method", method, list(METHODS))
    budgets = [budget_of(text) for text in epsilons]
    return [
        Cell(name, make_settings(options_of(method, budget, seed, dp, delta) | data, assignments))
        for seed in seeds
        for name, data, assignments in map(scenario_of, scenarios)
        for method in methods
        for budget in budgets
    ]


def scenario_of(given: str) -> tuple[str, dict[str, str], list[str]]:
    """A scenario's full name, and what it says of the settings."""
    name, protocol, *assignments = [*given.split(":"), "last20"] if ":" not in given else given.split(":")
    full = ":".join([name, protocol, *assignments])
    return full, {"scenario": name, "protocol": protocol}, assignments


def options_of(method: str, budget: float | None, seed: int, dp: str, delta: float) -> dict[str, Any]:
    """The settings of a cell that are no scenario's."""
    model = "none" if budget is None else dp
    return {"method": method, "dp": model, "epsilon": budget, "delta": delta, "seed": seed}


def budget_of(text: str) -> float | None:
    """An epsilon as it is typed; None for ``none``.

    Raises:
        UsageError: It is no budget.
    """
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"--epsilon {text}: use a number above 0, or none for no privacy")
    return value


def load(cell: Cell) -> Prepared:
    """The data of a cell's group."""
    return prepare(cell.settings, cell.settings.seed)


def collect(cells: Sequence[Cell], folder: Folder) -> timing.Document:
    """The document of all cells that exist; what is missing or stale is named in it.

    Raises:
        UsageError: There is none.
    """
    status = {cell.name: folder.status(cell) for cell in cells}
    stored = {cell.name: result for cell in cells if (result := folder.read(cell)) is not None}
    found = [(cell.scenario, stored[cell.name]) for cell in cells if cell.name in stored]
    if not found:
        raise UsageError(f"--cells {folder.path}: holds no cell asked for; run without --draw-only")
    cases, scenarios = [], []
    for scenario in dict.fromkeys(name for name, _ in found):
        here = [result for name, result in found if name == scenario]
        fresh = [
            stored[cell.name]
            for cell in cells
            if cell.scenario == scenario and status[cell.name] == "finished"
        ]
        scenarios.append(_scenario(scenario, [*here, *fresh]))
        for method, budget in dict.fromkeys((run["method"], run["privacy"]["epsilon"]) for run in here):
            runs = [r for r in here if (r["method"], r["privacy"]["epsilon"]) == (method, budget)]
            cases.append(_case(scenario, runs))
    return timing.document(
        "frontier",
        cases,
        threads=cores(),
        scenarios=scenarios,
        dp=next((run["dp"] for _, run in found if run["dp"] != "none"), "none"),
        seconds=sum(case["seconds"] * len(case["seeds"]) for case in cases),
        missing=[name for name, state in status.items() if state == "missing"],
        stale=[name for name, state in status.items() if state == "stale"],
    )


def _scenario(name: str, runs: Sequence[Result]) -> dict[str, Any]:
    """What a scenario's cells have in common: data and references, of the last run of each seed."""
    by_seed = {run["seed"]: run for run in runs}
    summary = summarise(list(by_seed.values()))
    return {
        "name": name,
        "data": summary["data"],
        "seeds": summary["seeds"],
        "delta": summary["privacy"]["delta"],
        "references": {line: summary["metrics"][line] for line in LINES},
        "references_sd": {line: sd[line] for line in LINES} if (sd := summary.get("metrics_sd")) else None,
        "reference_models": summary["references"],
        "not_covered": summary["privacy"]["not_covered"],
    }


def _case(scenario: str, runs: Sequence[Result]) -> dict[str, Any]:
    summary = summarise(runs)
    metrics, sd = summary["metrics"], summary.get("metrics_sd")
    budget = summary["privacy"]["epsilon"]
    return {
        "name": f"{scenario}: {summary['method']}, epsilon {words.epsilon_text(budget)}",
        "items": summary["data"]["items"],
        "seconds": sum(run["timing"]["total_seconds"] for run in runs) / len(runs),
        "ratio": metrics["model"][METRIC] / metrics["alone"][METRIC],
        "baseline": "alone",
        "scenario": scenario,
        "method": summary["method"],
        "epsilon": budget,
        "epsilon_spent": summary["privacy"]["epsilon_spent"],
        "seeds": summary["seeds"],
        "metrics": {model: metrics[model] for model in SERVED},
        "metrics_sd": {model: sd[model] for model in SERVED} if sd else None,
        "gain_kept": summary["gain_kept"],
        "worse_than_alone": summary["per_shop"]["worse_than_alone"],
        "worse_than_alone_raw": summary["per_shop"]["worse_than_alone_raw"],
        "notes": summary["notes"],
        "hyperparameters": summary["plan"]["settings"],
        "noise_scale": summary["plan"]["noise_scale"],
        "runs": [
            {
                "seed": run["seed"],
                "metrics": {model: run["metrics"][model] for model in SERVED},
                "gain_kept": run["gain_kept"],
                "seconds": run["timing"]["total_seconds"],
            }
            for run in runs
        ],
    }


def text(found: timing.Document) -> list[str]:
    """The document as Markdown."""
    seeds = max(len(scenario["seeds"]) for scenario in found["scenarios"])
    lines = [
        "# The frontier: accuracy against epsilon",
        "",
        f"NDCG@10 of what shops serve (their own exact model blended with the released one) and of the "
        f"released model alone, {found['dp']} DP, user level, means over seeds ({seeds} at most; ± is their "
        "standard deviation). *alone* and *pooled* are what each shop, and all data in one place, reach "
        "without noise; *gain kept* is how far what is served gets from the one to the other. *Worse* counts "
        "shops that are worse off than alone beyond chance (Holm, 1 %), in brackets those whose mean is "
        "lower at all; of the worst seed.",
        "",
        "![Accuracy against epsilon by scenario and method](frontier.svg)",
    ]
    for scenario in found["scenarios"]:
        lines += ["", *_section(scenario, [c for c in found["cases"] if c["scenario"] == scenario["name"]])]
    lines += ["", "## Settings", "", *_settings_lines(found)]
    lines += ["", "## Not covered by epsilon", "", *_not_covered(found)]
    for title, names in (("Missing", found["missing"]), ("Stale", found["stale"])):
        if names:
            meaning = " (run with other code or settings than the present ones)" if title == "Stale" else ""
            lines += ["", f"{title}{meaning}: {'; '.join(names)}."]
    hours = f"{found['seconds'] / 3600:.1f} hours" if found["seconds"] > 3600 else f"{found['seconds']:.0f} s"
    return [*lines, "", f"{hours} of runs, without references. {timing.machine_line(found)}"]


def _section(scenario: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> list[str]:
    epsilons = ordered(case["epsilon"] for case in cases)
    by_place = {(case["method"], case["epsilon"]): case for case in cases}
    sd = scenario["references_sd"]
    told = [
        f"{line} {figure(scenario['references'][line], sd and sd[line])}"
        for line in LINES
        if scenario["references"][line] is not None
    ]
    rows = []
    for method in dict.fromkeys(case["method"] for case in cases):
        across = [by_place.get((method, epsilon)) for epsilon in epsilons]
        for label, cell in _ROWS.items():
            rows.append([f"{method}, {label}", *("" if case is None else cell(case) for case in across)])
    heads = ("", *(f"epsilon {words.epsilon_text(e)}" if e else "no privacy" for e in epsilons))
    return [
        f"## {scenario['name']}",
        "",
        f"{words.data_line(scenario)}; delta {words.delta_text(scenario['delta'])}. "
        f"Without noise: {', '.join(told)}.",
        "",
        *timing.table(heads, rows),
    ]


def _metric(model: str) -> Any:
    return lambda case: figure(case["metrics"][model], case["metrics_sd"] and case["metrics_sd"][model])


_ROWS = {
    **{label: _metric(model) for model, label in SERVED.items()},
    "gain kept": lambda case: (
        "pooling does not help" if case["gain_kept"] is None else f"{case['gain_kept']:.0%}"
    ),
    "worse": lambda case: f"{case['worse_than_alone']} ({case['worse_than_alone_raw']})",
}


def figure(metrics: Mapping[str, float], deviations: Mapping[str, float] | None) -> str:
    """NDCG@10 in four decimals, with its standard deviation where there is one."""
    value = f"{metrics[METRIC]:.4f}"
    return value if deviations is None else f"{value} ± {deviations[METRIC]:.4f}"


def ordered(epsilons: Any) -> list[float | None]:
    """Distinct epsilons, ascending, None (no privacy) last."""
    return sorted(dict.fromkeys(epsilons), key=lambda epsilon: math.inf if epsilon is None else epsilon)


def _settings_lines(found: timing.Document) -> list[str]:
    """Hyperparameters by method and scenario; the same ones of several epsilons told once."""
    lines: dict[str, list[str]] = {}
    for method, scenario in dict.fromkeys((case["method"], case["scenario"]) for case in found["cases"]):
        chosen: dict[str, list[str]] = {}
        for case in found["cases"]:
            if (case["method"], case["scenario"]) == (method, scenario):
                told = ", ".join(f"{key} {value}" for key, value in case["hyperparameters"].items())
                budget = words.epsilon_text(case["epsilon"])
                chosen.setdefault(told or "defaults", []).append(budget)
        told = "; ".join(f"{', '.join(budgets)}: {settings}" for settings, budgets in chosen.items())
        lines.setdefault(f"- {method}, epsilon {told}", []).append(scenario)
    return [
        "Chosen from public figures (items, declared customers, epsilon) by rules; their constants, and "
        "which data those have seen, are in [Results](../docs/results.md#how-the-settings-were-chosen). "
        "What differs from the methods' defaults:",
        "",
        *(f"{told} ({', '.join(scenarios)})" for told, scenarios in lines.items()),
    ]


def _not_covered(found: timing.Document) -> list[str]:
    places: dict[str, list[str]] = {}
    for scenario in found["scenarios"]:
        for line in scenario["not_covered"]:
            places.setdefault(line, []).append(scenario["name"])
    everywhere = len(found["scenarios"])
    return [
        f"- {line}" + ("" if len(names) == everywhere else f" ({', '.join(names)})")
        for line, names in places.items()
    ]
