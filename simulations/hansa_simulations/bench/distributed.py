"""``hansa bench distributed``: what shared noise costs and what it saves, against central and local noise.

Central noise is compared twice: at the epsilon that is claimed, and with as much noise as the sum of all
shops really holds, which is more than claimed because k shops are not counted on and some may be lost.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hansa.dp.accounting import epsilon
from hansa.dp.private_sum import Release
from hansa.plan import Plan, noise_growth
from hansa_simulations import words
from hansa_simulations.bench import timing
from hansa_simulations.experiment import Prepared, Result, plan_for, prepare, simulate_on
from hansa_simulations.parallel import cores
from hansa_simulations.settings import SimulationSettings, make_settings
from hansa_simulations.words import METRIC

CLAIM, SAME, SHARED, LOCAL = (
    "central, at the claim",
    "central, at the realised noise",
    "distributed",
    "local",
)
BASELINE = SAME
MODELS = ("model", "shared")
LINES = ("popularity", "alone", "pooled")


@dataclass(frozen=True)
class Noise:
    """How much noise the sum over all shops holds.

    Attributes:
        release: The largest release of the run.
        sigma: Standard deviation in that sum, over a customer's bound.
        worth: The epsilon of the whole run for somebody who sees sums alone and knows no share of the noise.
    """

    release: str
    sigma: float
    worth: float


def measure(scenario: str, budget: float, delta: float, seeds: int, method: str) -> timing.Document:
    """Run all four on every seed; data are loaded and references fitted once a seed.

    Args:
        scenario: On which shops.
        budget: The epsilon that is claimed.
        delta: Of all.
        seeds: Runs, from seed 0 on.
        method: What is learnt.

    Raises:
        UsageError: Something is unknown or out of range.
    """
    runs: dict[str, list[Result]] = {}
    for seed in range(seeds):
        prepared = prepare(_settings(scenario, budget, delta, "central", method), seed)
        _ = prepared.references
        for name, settings in settings_of(prepared, scenario, budget, delta, method).items():
            started = time.perf_counter()
            result, _ = simulate_on(prepared, settings)
            result["timing"]["total_seconds"] = time.perf_counter() - started
            if result["interrupted"]:
                raise KeyboardInterrupt
            runs.setdefault(name, []).append(result)
            timing.say(f"seed {seed}, {name}: {METRIC} {result['metrics']['model'][METRIC]:.4f}")
    cases = [_case(name, found, runs[BASELINE]) for name, found in runs.items()]
    shared = Plan.model_validate(runs[SHARED][0]["plan"])
    first = runs[SHARED][0]
    return timing.document(
        "distributed",
        cases,
        threads=cores(),
        scenario=scenario,
        method=first["method"],
        epsilon=budget,
        delta=shared.delta,
        seeds=list(range(seeds)),
        data=first["data"],
        shares=first["privacy"]["distributed"],
        references={name: _figures(runs[SHARED], name) for name in LINES},
        not_covered=first["privacy"]["not_covered"],
    )


def settings_of(
    prepared: Prepared, scenario: str, budget: float, delta: float, method: str
) -> dict[str, SimulationSettings]:
    """The four runs. The second has the hyperparameters of the third, and as much noise."""

    def at(dp: str) -> SimulationSettings:
        return _settings(scenario, budget, delta, dp, method)

    shared = plan_for(at("distributed"), prepared.federation, prepared.seed)
    same = at("central").model_copy(
        update={
            "method": shared.method,
            "epsilon": central_epsilon(shared),
            "hyperparameters": dict(shared.settings),
        }
    )
    return {CLAIM: at("central"), SAME: same, SHARED: at("distributed"), LOCAL: at("local")}


def central_epsilon(shared: Plan) -> float:
    """The epsilon of central noise as large as that in the sum of all shops under ``distributed`` noise."""
    main, sigma = _largest(shared), noise(shared).sigma
    scale = shared.noise_scale * sigma / main.noise_multiplier
    central = Plan(
        **{
            **shared.model_dump(),
            "dp": "central",
            "threshold": 0,
            "colluders": 0,
            "masked": True,
            "roster": "",
            "noise_scale": scale,
        }
    )
    return epsilon(central.event(), shared.delta)


def noise(plan: Plan) -> Noise:
    """What the sum of all shops holds, none of them lost."""
    growth = noise_growth(plan.dp, plan.shops, plan.threshold, plan.colluders)
    main = _largest(plan)
    mechanism = main.shared_mechanism if plan.dp == "distributed" else main.mechanism
    worth = epsilon(plan.with_noise(plan.noise_scale * growth).event(), plan.delta)
    return Noise(main.name, mechanism.deviation * growth / main.bound, worth)


def _largest(plan: Plan) -> Release:
    return max(plan.releases, key=lambda release: release.rows * release.width)


def _settings(scenario: str, budget: float, delta: float, dp: str, method: str) -> SimulationSettings:
    options = {"scenario": scenario, "epsilon": budget, "delta": delta, "dp": dp, "method": method}
    return make_settings(options)


def _case(name: str, runs: Sequence[Result], baseline: Sequence[Result]) -> dict[str, Any]:
    plan = Plan.model_validate(runs[0]["plan"])
    held = noise(plan)
    pairs = zip(runs, baseline, strict=True)
    return {
        "name": name,
        "items": runs[0]["data"]["items"],
        "seconds": statistics.mean(run["timing"]["total_seconds"] for run in runs),
        "ratio": _mean(runs) / _mean(baseline),
        "baseline": BASELINE,
        "ratios": [_accuracy(run) / _accuracy(other) for run, other in pairs],
        "dp": plan.dp,
        "figures": {model: _figures(runs, model) for model in MODELS},
        "gain_kept": _spread([run["gain_kept"] for run in runs if run["gain_kept"] is not None]),
        "worse_than_alone": [run["per_shop"]["worse_than_alone"] for run in runs],
        "epsilon": runs[0]["privacy"]["epsilon"],
        "epsilon_spent": runs[0]["privacy"]["epsilon_spent"],
        "epsilon_of_realised_noise": held.worth,
        "sigma": held.sigma,
        "release": held.release,
        "hyperparameters": plan.settings,
        "noise_scale": plan.noise_scale,
    }


def _accuracy(run: Result) -> float:
    return float(run["metrics"]["model"][METRIC])


def _mean(runs: Sequence[Result]) -> float:
    return statistics.mean(map(_accuracy, runs))


def _figures(runs: Sequence[Result], model: str) -> dict[str, Any]:
    return _spread([run["metrics"][model][METRIC] for run in runs])


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation, null where there is none."""
    return {
        "mean": statistics.mean(values) if values else None,
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "values": list(values),
    }


def text(found: timing.Document) -> list[str]:
    """The document as Markdown."""
    shares, data, delta = found["shares"], found["data"], words.delta_text(found["delta"])
    rows = {case["name"]: case for case in found["cases"]}
    ratio, ratios = rows[SHARED]["ratio"], rows[SHARED]["ratios"]
    seeds = found["seeds"]
    beside = ", ".join(f"{name} {_text(found['references'][name])}" for name in LINES)
    worst = max(abs(math.log(each)) for each in ratios)
    return [
        "# Distributed noise",
        "",
        f"`hansa bench distributed --scenario {found['scenario']} --epsilon {found['epsilon']:g} "
        f"--delta {delta} --method {found['method']} --seeds {len(seeds)}`: "
        f"{words.count(data['shops'], 'shop')}, {words.count(data['customers'], 'customer')}, "
        f"{words.count(data['items'], 'item')}; protocol last20, seeds {', '.join(map(str, seeds))}. A sum "
        f"is over at least t = {shares['threshold']} of {data['shops']} shops, of which "
        f"k = {shares['colluders']} are not counted on; the noise shares of h = {shares['honest']} make up "
        "the noise that is claimed, and all shops add theirs. NDCG@10, mean ± standard deviation over seeds. "
        f"Unit of privacy: {words.UNIT}; delta {delta}.",
        "",
        *timing.table(
            (
                "noise",
                "epsilon claimed",
                "sigma in the sum",
                "epsilon of that noise",
                "NDCG@10, served",
                "released model",
                "gain kept",
                "/ central, same noise",
            ),
            (_row(case) for case in found["cases"]),
        ),
        "",
        f"Distributed over central with the same noise: **{ratio:.4f}** ({100 * (ratio - 1):+.2f} %); seed "
        f"by seed {', '.join(f'{each:.4f}' for each in ratios)}, at most {100 * math.expm1(worst):.2f} % "
        f"apart. Beside them: {beside}.",
        "",
        "Sigma is the standard deviation of the noise in the sum over all shops of the release "
        f"`{rows[SHARED]['release']}`, over the most that one customer may change in it. The epsilon of that "
        "noise holds for somebody who sees the sum alone and knows no shop's share; the epsilon claimed "
        "holds also against k shops, with only t in the sum (with all in it, against k: "
        f"{words.epsilon_text(shares['epsilon_realised'])}), and under local against everybody, for each "
        "shop by itself. Central at the realised noise has the hyperparameters of the distributed run, and "
        "the epsilon that its noise is then worth: less than under distributed, since Gaussian noise has a "
        "closed form where Skellam's epsilon comes from Renyi DP. Gain kept: (served - alone) / (pooled - "
        "alone).",
        "",
        "Hyperparameters, by rules from public figures "
        "([Results](../docs/results.md#how-the-settings-were-chosen)); what differs from the method's "
        "defaults:",
        "",
        *(f"- {case['name']}: {_told(case['hyperparameters'])}" for case in found["cases"]),
        "",
        "Not covered by epsilon:",
        "",
        *(f"- {line}" for line in found["not_covered"]),
        "",
        timing.machine_line(found),
    ]


def _row(case: Mapping[str, Any]) -> list[str]:
    return [
        case["name"],
        words.epsilon_text(case["epsilon"]),
        f"{case['sigma']:.3f}",
        words.epsilon_text(case["epsilon_of_realised_noise"]),
        *(_text(case["figures"][model]) for model in MODELS),
        _text(case["gain_kept"], 2),
        f"{case['ratio']:.4f}",
    ]


def _text(spread: Mapping[str, Any], digits: int = 4) -> str:
    if spread["mean"] is None:
        return "-"
    told = f"{spread['mean']:.{digits}f}"
    return told if spread["sd"] is None else f"{told} ± {spread['sd']:.{digits}f}"


def _told(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items()) or "none"
