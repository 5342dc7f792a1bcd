"""``hansa bench poisoning``: what dishonest shops do to plain and to trimmed sums.

In ``local`` and without noise the coordinator sees each shop's own sum, so that it can cut what stands out. A
few shops lie, in several ways; the league's released model and what shops serve with it are judged at the
honest shops, as is how many of their customers get the promoted item among their ten.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hansa.errors import UsageError
from hansa.metrics import Scores, Values, evaluate_scores, top_k
from hansa.models.base import Method, State
from hansa.models.own import FittedOwn
from hansa.recommend import fit_blend
from hansa.schema import Histories, Shop
from hansa_simulations import words
from hansa_simulations.bench import timing
from hansa_simulations.bench.frontier import DELTA, budget_of, options_of, scenario_of
from hansa_simulations.dishonest import ATTACKS, Aim, Attack
from hansa_simulations.engine import forging, run_in_process
from hansa_simulations.evaluation import Evaluation
from hansa_simulations.experiment import Prepared, plan_for, prepare, simulated_shops
from hansa_simulations.federation import Federation
from hansa_simulations.parallel import cores, over_shops
from hansa_simulations.settings import SimulationSettings, make_settings
from hansa_simulations.words import METRIC

SCENARIO = "ml-100k"
EPSILONS = ("16", "none")
TRIM = 0.1
K = 10
PLACE = 0.1
"""Share of the items that sell better than the promoted one."""

MODELS = ("shared", "model")

Figures = dict[str, float]
_FIGURES = (*MODELS, *(f"{name} promoted" for name in MODELS))


def measure(
    scenario: str = SCENARIO,
    epsilons: Sequence[str] = EPSILONS,
    shops: int = 10,
    dishonest: int = 1,
    trim: float = TRIM,
    seeds: int = 3,
    attacks: Sequence[Attack] = ATTACKS,
) -> timing.Document:
    """Every attack against the plain and the trimmed sum, means over seeds.

    Args:
        scenario: ``NAME[:PROTOCOL[:SECTION.KEY=VALUE]...]``.
        epsilons: Numbers as text for ``local``, or ``none``.
        shops: Shops that the customers are dealt to.
        dishonest: How many of them lie, the first ones.
        trim: Share of shops that the robust sum cuts at each end.
        seeds: Dealings, splits and noises, from seed 0 on.
        attacks: What is tried; the first is none.

    Raises:
        UsageError: Something is unknown, or nobody would be honest.
    """
    if not dishonest < shops:
        raise UsageError(f"--dishonest {dishonest}: use fewer than the {shops} shops")
    name, data, assignments = scenario_of(scenario)
    budgets = [budget_of(text) for text in epsilons]
    runs: dict[tuple[float | None, str, float], list[Figures]] = {}
    facts: dict[str, Any] = {}
    for seed in range(seeds):
        prepared: Prepared | None = None
        for budget in budgets:
            for share in (0.0, trim):
                options = options_of("cooccurrence", budget, seed, "local", DELTA) | data | {"shops": shops}
                settings = make_settings(options, [*assignments, f"robust.trim={share}"])
                prepared = prepared or _honest(prepare(settings, seed), dishonest)
                for attack in attacks:
                    started = time.perf_counter()
                    reached, facts = _one(prepared, settings, attack, dishonest)
                    reached["seconds"] = time.perf_counter() - started
                    runs.setdefault((budget, attack.name, share), []).append(reached)
            timing.say(f"{name} seed {seed}, {_told(budget)}: {len(attacks)} attacks")
    cases = [_case(name, facts, *key, found) for key, found in runs.items()]
    peaceful = {case["epsilon"]: case for case in cases if (case["attack"], case["trim"]) == ("none", 0.0)}
    for case in cases:
        case["baseline"] = peaceful[case["epsilon"]]["name"]
        case["ratio"] = case["metrics"]["shared"] / peaceful[case["epsilon"]]["metrics"]["shared"]
    return timing.document(
        "poisoning",
        cases,
        threads=cores(),
        seeds=seeds,
        shops=shops,
        dishonest=dishonest,
        trim=trim,
        attacks={attack.name: attack.what for attack in attacks},
    )


def promoted(federation: Federation) -> int:
    """The item to promote: one that few customers have, always at the same place of the counts."""
    counts = np.sum(
        [np.bincount(shop.train.items, minlength=federation.items) for shop in federation.shops], axis=0
    )
    return int(np.argsort(-counts, kind="stable")[int(PLACE * federation.items)])


def _honest(prepared: Prepared, dishonest: int) -> Prepared:
    """The same with the honest shops as those that are judged."""
    federation = prepared.federation
    judged = replace(federation, shops=federation.shops[dishonest:])
    return replace(prepared, evaluation=Evaluation(judged))


def _one(
    prepared: Prepared, settings: SimulationSettings, attack: Attack, dishonest: int
) -> tuple[Figures, dict[str, Any]]:
    federation, seed = prepared.federation, prepared.seed
    plan = plan_for(settings, federation, seed)
    aim = Aim(plan, promoted(federation), seed)
    shops = simulated_shops(settings, federation, plan, seed)
    forges = {}
    for position, shop in enumerate(shops[:dishonest]):
        shop.histories = attack.histories(aim, shop.histories)
        forge = attack.forge(aim, position)
        if forge is not None:
            forges[position] = forge
    state = run_in_process(plan, shops, seed=seed, app=forging(forges))
    references, judged = prepared.references, prepared.evaluation.federation.shops
    owns = references.references.alone
    figures = _judge(judged, owns, plan.learner, state, aim.target)
    facts = {
        "items": federation.items,
        "customers": sum(len(shop.train) for shop in judged),
        "references": {
            name: _mean([part[METRIC] for part in parts]) for name, parts in references.figures.items()
        },
    }
    return figures, facts


def _judge(
    judged: Sequence[Shop], owns: Sequence[FittedOwn], learner: Method, state: State, target: int
) -> Figures:
    """Accuracy, and the share of customers without the target who get it among ``K``; over all shops."""

    def shared(rows: Histories) -> Scores:
        return learner.score(state, rows)

    def of(pair: tuple[Shop, FittedOwn]) -> dict[str, tuple[Values, Values]]:
        shop, own = pair
        scorers = {"shared": shared, "model": fit_blend(learner, state, own).score}
        return {name: _at(shop, scorer(shop.train), target) for name, scorer in scorers.items()}

    parts = over_shops(of, list(zip(judged, owns, strict=True)))
    figures = {name: _mean([part[name][0] for part in parts]) for name in MODELS}
    return figures | {f"{name} promoted": _mean([part[name][1] for part in parts]) for name in MODELS}


def _at(shop: Shop, scores: Scores, target: int) -> tuple[Values, Values]:
    """Of each customer: the metric, and whether the target is among ``K``; NaN for who has it already."""
    got = (top_k(scores, shop.train, K) == target).any(axis=1).astype(np.float64)
    got[shop.train.rows_index[shop.train.items == target]] = np.nan
    return evaluate_scores(scores, shop.train, shop.held_out)[METRIC], got


def _mean(parts: Sequence[Values]) -> float:
    return float(np.nanmean(np.concatenate(parts)))


def _case(
    scenario: str,
    facts: Mapping[str, Any],
    budget: float | None,
    attack: str,
    trim: float,
    runs: Sequence[Figures],
) -> dict[str, Any]:
    figures = [name for name in runs[0] if name != "seconds"]
    sds = None
    if len(runs) > 1:
        sds = {name: float(np.std([run[name] for run in runs], ddof=1)) for name in figures}
    return {
        "name": f"{scenario}, {_told(budget)}: {attack}, {'trimmed' if trim else 'plain'} sum",
        **facts,
        "seconds": float(np.median([run["seconds"] for run in runs])),
        "scenario": scenario,
        "epsilon": budget,
        "attack": attack,
        "trim": trim,
        "metrics": {name: float(np.mean([run[name] for run in runs])) for name in figures},
        "metrics_sd": sds,
    }


def _told(budget: float | None) -> str:
    return "no noise" if budget is None else f"local, epsilon {words.epsilon_text(budget)}"


def text(found: timing.Document) -> list[str]:
    """The document as Markdown."""
    cases, (shops, dishonest) = found["cases"], (found["shops"], found["dishonest"])
    facts = cases[0]
    lines = [
        "# Poisoning: what dishonest shops do to a league",
        "",
        f"`hansa bench poisoning`: {facts['scenario']} dealt to {shops} shops, the first {dishonest} of them "
        f"dishonest; cooccurrence, user level, delta {words.delta_text(DELTA)}. The plain sum of what shops "
        f"send, and the trimmed one of `--set robust.trim={found['trim']:g}`. Judged are the "
        f"{facts['customers']:,} customers of the honest shops, means of {found['seeds']} seeds: {METRIC} of "
        f"the released model (shared) and of what shops serve (model), all {facts['items']:,} items ranked; "
        "and the share of customers without the promoted item who get it among their ten. A tenth of all "
        "items sell better than that.",
    ]
    for budget in dict.fromkeys(case["epsilon"] for case in cases):
        by_key = {(case["attack"], bool(case["trim"])): case for case in cases if case["epsilon"] == budget}
        references = facts["references"]
        lines += [
            "",
            f"## {_told(budget)[0].upper()}{_told(budget)[1:]}",
            "",
            ", ".join(f"{name} {value:.4f}" for name, value in references.items()) + ".",
            "",
            *timing.table(
                ("attack", *(f"{name}, {sum_}" for name in _FIGURES for sum_ in ("plain", "trimmed"))),
                [
                    [
                        attack,
                        *(_cell(by_key[attack, sum_], name) for name in _FIGURES for sum_ in (False, True)),
                    ]
                    for attack in found["attacks"]
                ],
            ),
        ]
    lines += ["", *(f"- **{name}**: {what}." for name, what in found["attacks"].items())]
    return [*lines, "", timing.machine_line(found)]


def _cell(case: Mapping[str, Any], figure: str) -> str:
    value = case["metrics"][figure]
    if figure.endswith("promoted"):
        return f"{value:.1%}"
    deviation = case["metrics_sd"]
    return f"{value:.4f}" if deviation is None else f"{value:.4f} ± {deviation[figure]:.4f}"
