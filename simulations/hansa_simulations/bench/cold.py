"""``hansa bench cold``: items without any training interaction, and what the public catalogue does for them.

A public draw makes items cold: they lose every training interaction at every shop. What is to be found are
the held-out interactions with them, among the cold items and among all items.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from hansa.errors import UsageError
from hansa.metrics import METRICS, Scorer, Scores, Values, evaluate_scores
from hansa.models.base import State
from hansa.models.content import Content, Mask
from hansa.models.cooccurrence import Cooccurrence
from hansa.models.own import FittedOwn
from hansa.recommend import fit_blend
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa_simulations import words
from hansa_simulations.bench import timing
from hansa_simulations.bench.frontier import DELTA, budget_of, options_of, scenario_of
from hansa_simulations.evaluation import Evaluation
from hansa_simulations.experiment import Prepared, plan_for, prepare, simulate_on
from hansa_simulations.federation import Federation, without_test_items
from hansa_simulations.parallel import cores, over_shops
from hansa_simulations.references import fit_references
from hansa_simulations.settings import SimulationSettings, make_settings
from hansa_simulations.words import METRIC

SCENARIOS = ("journey", "ml-1m", "ml-100k")
EPSILONS = ("1", "4", "none")
FEWEST = 10
"""Training interactions of an item that may be made cold, over all shops."""
VALIDATION_SEED = 100
"""First seed of draws within the training data, so that no draw of cold items serves both purposes."""
RANKINGS = {"cold": "cold items among cold", "all": "cold items among all", "known": "known items among all"}
CHUNK_CELLS = 1 << 22

Figures = dict[str, dict[str, Values]]
"""Per ranking and metric the values of customers with something to be found."""


@dataclass(frozen=True)
class ColdStart:
    """A federation some of whose items are new.

    Attributes:
        federation: Its training histories without the cold items.
        cold: bool [items].
        had: Per shop the full training histories, whose items are ranked for nobody who had them.
    """

    federation: Federation
    cold: Mask
    had: tuple[Histories, ...]


def make_cold(federation: Federation, share: float, seed: int) -> ColdStart:
    """Take a random ``share`` of the items that have ``FEWEST`` interactions out of all training histories.

    Raises:
        UsageError: No item has that many.
    """
    train = [shop.train for shop in federation.shops]
    counts = np.sum([np.bincount(rows.items, minlength=federation.items) for rows in train], axis=0)
    able = np.flatnonzero(counts >= FEWEST)
    if not len(able):
        raise UsageError(f"{federation.name}: no item has {FEWEST} training interactions; give more data")
    drawn = seeded_generator(seed, "cold items").choice(able, max(1, round(share * len(able))), replace=False)
    cold = np.zeros(federation.items, dtype=np.bool_)
    cold[drawn] = True
    shops = tuple(replace(shop, train=_without(shop.train, cold)) for shop in federation.shops)
    return ColdStart(replace(federation, shops=shops), cold, tuple(train))


def figures_of(start: ColdStart, position: int, scorer: Scorer) -> Figures:
    """What a scorer reaches at the shop at ``position``, in each of ``RANKINGS``."""
    shop, had = start.federation.shops[position], start.had[position]
    sought = {"cold": _without(shop.held_out, ~start.cold), "known": _without(shop.held_out, start.cold)}
    sought["all"] = sought["cold"]
    parts: dict[str, list[dict[str, Values]]] = {name: [] for name in RANKINGS}
    size = max(1, CHUNK_CELLS // start.federation.items)
    for first in range(0, len(had), size):
        rows = np.arange(first, min(first + size, len(had)))
        scores, seen = scorer(shop.train.select(rows)), had.select(rows)
        for ranking in RANKINGS:
            ranked = np.where(start.cold, scores, np.float32(-np.inf)) if ranking == "cold" else scores
            parts[ranking].append(evaluate_scores(ranked, seen, sought[ranking].select(rows)))
    return {
        ranking: {metric: np.concatenate([part[metric] for part in parts[ranking]]) for metric in METRICS}
        for ranking in RANKINGS
    }


def measure(
    scenarios: Sequence[str],
    epsilons: Sequence[str],
    seeds: int,
    share: float = 0.1,
    *,
    validation: bool = False,
) -> timing.Document:
    """All rivals on all scenarios, means over seeds.

    Args:
        scenarios: ``NAME[:PROTOCOL[:SECTION.KEY=VALUE]...]`` each.
        epsilons: Numbers as text, or ``none``.
        seeds: Draws of cold items, splits and noise, from seed 0 on.
        share: Of the items with ``FEWEST`` interactions, those made cold.
        validation: Whether to stay within the training data, with draws of its own.

    Raises:
        UsageError: Something is unknown, or a scenario's catalogue has no details.
    """
    budgets = [budget_of(text) for text in epsilons]
    cases: list[dict[str, Any]] = []
    for given in scenarios:
        runs: dict[str, list[dict[str, dict[str, float]]]] = {}
        facts: dict[str, Any] = {}
        started = time.perf_counter()
        for seed in range(seeds):
            name, facts, found = _one_seed(given, budgets, seed, share, validation)
            for rival, reached in found.items():
                runs.setdefault(rival, []).append(reached)
            timing.say(f"{name} seed {seed}: {time.perf_counter() - started:.0f} s")
        seconds = (time.perf_counter() - started) / len(runs)
        cases += [_case(name, facts, rival, reached, seconds) for rival, reached in runs.items()]
    for case in cases:
        by_name = {other["rival"]: other for other in cases if other["scenario"] == case["scenario"]}
        case["ratio"] = case["metrics"]["cold"][METRIC] / by_name["content alone"]["metrics"]["cold"][METRIC]
    return timing.document(
        "cold", cases, threads=cores(), seeds=seeds, share=share, fewest=FEWEST, validation=validation
    )


def _one_seed(
    given: str, budgets: Sequence[float | None], seed: int, share: float, validation: bool
) -> tuple[str, dict[str, Any], dict[str, dict[str, dict[str, float]]]]:
    name, data, assignments = scenario_of(given)
    budget_settings = [
        make_settings(options_of("cooccurrence", budget, seed, "central", DELTA) | data, assignments)
        for budget in budgets
    ]
    federation = prepare(budget_settings[0], seed).federation
    content = Content.of(federation.catalogue)
    if content is None:
        raise UsageError(f"--scenario {given}: its catalogue has no details; use journey, ml-1m or ml-100k")
    inner = without_test_items(federation, seed) if validation else federation
    start = make_cold(inner, share, seed + VALIDATION_SEED * validation)
    facts = {
        "items": federation.items,
        "cold_items": int(start.cold.sum()),
        "sought": sum(int(start.cold[shop.held_out.items].sum()) for shop in start.federation.shops),
    }
    found = {
        rival: _reached(start, of) for rival, of in rivals(start, budget_settings, content, seed).items()
    }
    return name, facts, found


def rivals(
    start: ColdStart, settings: Sequence[SimulationSettings], content: Content, seed: int
) -> dict[str, Callable[[int], Scorer]]:
    """Every rival by name: what gives the scorer of the shop at a position."""
    shops, protocol = start.federation.shops, start.federation.protocol
    references = fit_references(shops, protocol, seed)
    bare = references.alone
    placed = [_with(own, content) for own in bare]
    pooled = replace(references.pooled, content=content)

    def chance(position: int) -> Scorer:
        rng = seeded_generator(seed, "random ranking", position)
        return lambda rows: rng.random((len(rows), rows.n_items), dtype=np.float32)

    found: dict[str, Callable[[int], Scorer]] = {
        "random": chance,
        "content alone": lambda position: content.resembling,
        "alone": lambda position: bare[position].model.score,
        "alone + content": lambda position: placed[position].model.score,
        "pooled + content": lambda position: pooled.score,
    }
    for each in settings:
        told = f"epsilon {words.epsilon_text(each.epsilon)}" if each.epsilon else "no privacy"
        learner, state = _released(start, each, seed)
        shared = partial(learner.score, state)
        found[f"released, {told}"] = _always(shared)
        found[f"released + content, {told}"] = _always(_placing(shared, content, learner.known(state)))
        found[f"served, {told}"] = _served(learner, state, bare)
        found[f"served + content, {told}"] = _served(learner, state, placed)
    return found


def _released(start: ColdStart, settings: SimulationSettings, seed: int) -> tuple[Cooccurrence, State]:
    alone = settings.model_copy(update={"references": "none"})
    prepared = Prepared(start.federation, Evaluation(start.federation, 1), seed, 0.0)
    _, state = simulate_on(prepared, alone)
    learner = plan_for(alone, start.federation, seed).learner
    if not isinstance(learner, Cooccurrence):
        raise UsageError(f"{start.federation.name}: too many items for cooccurrence; set data.vocabulary")
    return learner, state


def _placing(scorer: Scorer, content: Content, known: Mask) -> Scorer:
    placement = content.placement(known)

    def placed(rows: Histories) -> Scores:
        return placement.apply(scorer(rows), rows)

    return placed


def _served(learner: Cooccurrence, state: State, owns: Sequence[FittedOwn]) -> Callable[[int], Scorer]:
    blends = over_shops(lambda own: fit_blend(learner, state, own), owns)
    return lambda position: blends[position].score


def _always(scorer: Scorer) -> Callable[[int], Scorer]:
    return lambda position: scorer


def _with(own: FittedOwn, content: Content) -> FittedOwn:
    return replace(own, model=replace(own.model, content=content), trial=replace(own.trial, content=content))


def _without(histories: Histories, items: Mask) -> Histories:
    return histories.where(~items[histories.items])


def _reached(start: ColdStart, scorer_of: Callable[[int], Scorer]) -> dict[str, dict[str, float]]:
    """Means over all customers of all shops."""
    shops = range(len(start.federation.shops))
    parts = over_shops(lambda position: figures_of(start, position, scorer_of(position)), shops)
    return {
        ranking: {
            metric: float(np.nanmean(np.concatenate([part[ranking][metric] for part in parts])))
            for metric in METRICS
        }
        for ranking in RANKINGS
    }


def _case(
    scenario: str, facts: Mapping[str, Any], rival: str, runs: Sequence[Any], seconds: float
) -> dict[str, Any]:
    def over_seeds(statistic: Callable[[list[float]], Any]) -> dict[str, dict[str, float]]:
        return {
            ranking: {metric: float(statistic([run[ranking][metric] for run in runs])) for metric in METRICS}
            for ranking in RANKINGS
        }

    return {
        "name": f"{scenario}: {rival}",
        **facts,
        "seconds": seconds,
        "ratio": 1.0,
        "baseline": f"{scenario}: content alone",
        "scenario": scenario,
        "rival": rival,
        "metrics": over_seeds(np.mean),
        "metrics_sd": over_seeds(lambda values: np.std(values, ddof=1)) if len(runs) > 1 else None,
        "runs": runs,
    }


def text(found: timing.Document) -> list[str]:
    """The document as Markdown."""
    where = "slices of the training data" if found["validation"] else "test items"
    lines = [
        "# Cold items: what nobody has had yet",
        "",
        f"`hansa bench cold`: {found['share']:.0%} of the items with at least {found['fewest']} training "
        "interactions, drawn by the seed, lose all of these at every shop. Sought are the held-out "
        "interactions with them, ranked among all cold items that a customer has not had, and among all; "
        f"at the right, whether known items suffer. Means of {found['seeds']} seeds over customers with "
        f"something to be found, {where}; ± is the deviation over seeds, mostly that of the draw. "
        f"cooccurrence, central DP, user level, delta {words.delta_text(DELTA)}.",
    ]
    for scenario in dict.fromkeys(case["scenario"] for case in found["cases"]):
        cases = [case for case in found["cases"] if case["scenario"] == scenario]
        facts = cases[0]
        lines += [
            "",
            f"## {scenario}",
            "",
            f"{facts['items']:,} items, {facts['cold_items']:,} of them cold; about {facts['sought']:,} "
            "interactions sought.",
            "",
            *timing.table(
                (
                    "",
                    "cold among cold: NDCG@10",
                    "recall@20",
                    "HR@10",
                    "cold among all: NDCG@10",
                    "recall@20",
                    "known among all: NDCG@10",
                ),
                [[case["rival"], *(_cell(case, *place) for place in _COLUMNS)] for case in cases],
            ),
        ]
    return [*lines, "", timing.machine_line(found)]


_COLUMNS = (
    ("cold", METRIC),
    ("cold", "recall@20"),
    ("cold", "hr@10"),
    ("all", METRIC),
    ("all", "recall@20"),
    ("known", METRIC),
)


def _cell(case: Mapping[str, Any], ranking: str, metric: str) -> str:
    value = f"{case['metrics'][ranking][metric]:.4f}"
    if case["metrics_sd"] is None or metric != METRIC or ranking != "cold":
        return value
    return f"{value} ± {case['metrics_sd'][ranking][metric]:.4f}"
