"""One simulated federation from data to result: load, plan, run, evaluate, compare."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from hansa import __version__
from hansa.dp.accounting import epsilon
from hansa.dp.private_sum import PerformanceSettings
from hansa.errors import RefusalError, UsageError
from hansa.figures import declared, default_delta
from hansa.models.base import State
from hansa.models.content import Content
from hansa.plan import DP_MODELS, Plan, Setting, make_plan, setting_types
from hansa.recommended import epsilon_of_sum, recommended_settings, rounds_setting, variant
from hansa.rng import Source, seeded_generator
from hansa.secagg.parameters import default_threshold
from hansa.secagg.roster import Member
from hansa_client.shop import LocalShop
from hansa_server.strategy import RoundReport
from hansa_simulations.auditing import Witnessed
from hansa_simulations.engine import Dropouts, run_in_process
from hansa_simulations.evaluation import Evaluation, Measured, summarise
from hansa_simulations.federation import DataSettings, Federation, load_federation, without_test_items
from hansa_simulations.ledgers import explained, open_ledger, run_name
from hansa_simulations.members import masked, simulated_members, simulated_roster
from hansa_simulations.memory import peak_memory
from hansa_simulations.privacy import finite, privacy_of
from hansa_simulations.ray_engine import run_on_ray
from hansa_simulations.references import fit_references
from hansa_simulations.settings import SimulationSettings

Result = dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """Where a run is: after a round, or when a new stage begins."""

    stage: str
    round: int = 0
    planned: int = 0
    accuracy: float | None = None
    epsilon: float | None = None


Observer = Callable[[Progress], None]
Witness = Callable[[Witnessed], None]


@dataclass
class _Recorder:
    """Follows a run: accuracy and epsilon of every round, and the last state for an early end."""

    plan: Plan
    evaluation: Evaluation
    observer: Observer
    state: State
    history: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, report: RoundReport) -> None:
        self.state = report.state
        accuracy = self.evaluation.quick(self.plan.learner, report.state)
        spent = finite(epsilon(self.plan.event(report.round), self.plan.delta))
        self.history.append(
            {
                "round": report.round,
                "release": report.release.name,
                "ndcg@10": accuracy,
                "epsilon": spent,
                "seconds": report.seconds,
                "answered": report.answered,
                "missing": len(report.missing),
            }
        )
        self.observer(Progress("round", report.round, report.planned, accuracy, spent))


def simulate(
    settings: SimulationSettings,
    observer: Observer = lambda progress: None,
    witness: Witness = lambda witnessed: None,
) -> tuple[Result, State]:
    """Run a simulated federation once a seed, and compare it with what shops can do without it.

    Args:
        settings: What to run.
        observer: Told about stages and rounds.
        witness: Given the plan and the ledgers of each seed, for an audit report.

    Returns:
        The result (see docs/results.md), and the released model; with several seeds every model, its
        arrays' names preceded by the seed.

    Raises:
        UsageError: The settings or the data cannot be used.
        RefusalError: All shops refused.
    """
    results, models = [], {}
    several = settings.seeds > 1
    for seed in range(settings.seed, settings.seed + settings.seeds):
        result, state = simulate_on(prepare(settings, seed, observer), settings, observer, witness)
        results.append(result)
        models.update({f"seed{seed}.{name}" if several else name: table for name, table in state.items()})
        if result["interrupted"]:
            break
    return summarise(results), models


@dataclass(frozen=True)
class Prepared:
    """The data of one seed, and what runs on it are compared with: the same for every method and budget.

    Attributes:
        federation: The shops.
        evaluation: Of held-out items, at all of these shops or at some.
        seed: What they were dealt and split with; a run on them takes it as its own.
        seconds: Taken to load them.
    """

    federation: Federation
    evaluation: Evaluation
    seed: int
    seconds: float

    @cached_property
    def references(self) -> Measured:
        """The references with their figures, fitted when first asked for."""
        everybody, judged = self.federation, self.evaluation.federation.shops
        content = Content.of(everybody.catalogue)
        fitted = fit_references(everybody.shops, everybody.protocol, self.seed, judged, content)
        return self.evaluation.measure(fitted)


def prepare(settings: SimulationSettings, seed: int, observer: Observer = lambda progress: None) -> Prepared:
    """Load the data of ``settings``, dealt and split by ``seed``.

    Raises:
        UsageError: The data cannot be used.
    """
    started = time.perf_counter()
    observer(Progress("loading data"))
    federation = load_federation(
        settings.folder or settings.scenario,
        shops=settings.shops,
        protocol=settings.protocol,
        seed=seed,
        settings=DataSettings(
            overlap=settings.preparation.overlap,
            synthetic=settings.preparation,
            **settings.data.model_dump(),
        ),
    )
    if settings.evaluation.tuning:
        federation = without_test_items(federation, seed)
    evaluation = Evaluation(federation, settings.evaluation.customers)
    return Prepared(federation, evaluation, seed, time.perf_counter() - started)


def simulate_on(
    prepared: Prepared,
    settings: SimulationSettings,
    observer: Observer = lambda progress: None,
    witness: Witness = lambda witnessed: None,
) -> tuple[Result, State]:
    """One run on data that ``prepare`` has loaded for the same data settings; see ``simulate``.

    Of ``settings``, seed and seeds are not looked at: the seed is that of the data.
    """
    started = time.perf_counter() - prepared.seconds
    federation, evaluation, seed = prepared.federation, prepared.evaluation, prepared.seed
    plan = plan_for(settings, federation, seed)
    state = plan.learner.initial_state(seeded_generator(seed, "initial state"))
    recorder = _Recorder(plan, evaluation, observer, state)
    interrupted = False
    observer(Progress("training", planned=len(plan.releases)))
    shops = simulated_shops(settings, federation, plan, seed)
    trained = time.perf_counter()
    try:
        _engine(settings)(
            plan,
            shops,
            seed=seed,
            round_timeout=settings.execution.round_timeout,
            listeners=[recorder],
            **_league(settings, plan, seed),
        )
    except KeyboardInterrupt:
        interrupted = True
    except RefusalError as refusal:
        raise explained(refusal, shops, plan) from refusal
    trained = time.perf_counter() - trained
    measured: Measured | None = None
    if settings.references == "all" and not interrupted:
        observer(Progress("fitting what shops could do alone, and with all data pooled"))
        measured = prepared.references
        observer(Progress("evaluating"))
    comparison = evaluation.compare(plan.learner, recorder.state, measured)
    result: Result = {
        "hansa": __version__,
        "scenario": federation.name,
        "method": plan.method,
        "dp": plan.dp,
        "engine": settings.engine,
        "seed": seed,
        "protocol": settings.protocol,
        "interrupted": interrupted,
        "data": {
            "shops": len(federation.shops),
            "users": federation.users,
            "customers": federation.customers,
            "items": federation.items,
            "interactions": federation.interactions,
            "overlapping_users": federation.overlapping_users,
        },
        "privacy": privacy_of(settings, federation, plan, shops, recorder.history),
        **comparison,
        "timing": {
            "rounds": len(recorder.history),
            "seconds_per_round": sum(row["seconds"] for row in recorder.history)
            / max(1, len(recorder.history)),
            "training_seconds": trained,
            "total_seconds": time.perf_counter() - started,
            "peak_rss_mb": peak_memory(),
        },
        "history": recorder.history,
        "plan": plan.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
    }
    ledgers = {shop.name: shop.ledger for shop in shops}
    witness(Witnessed(plan, ledgers, seed, result["privacy"]["max_overlap"]))
    _, why = _variant(settings, federation)
    result["notes"] = [*federation.notes, *([why] if why else []), *comparison["notes"]]
    return result, recorder.state


def _league(settings: SimulationSettings, plan: Plan, seed: int) -> dict[str, Any]:
    league: dict[str, Any] = {"roster": simulated_roster(plan.shops, seed) if plan.roster else None}
    if settings.engine != "ray":
        league["dropouts"] = Dropouts(settings.secagg.drop, seed)
    return league


def _engine(settings: SimulationSettings) -> Callable[..., State]:
    if settings.engine == "ray":
        return partial(run_on_ray, actors=settings.execution.actors, cpus=settings.execution.cpus)
    return partial(run_in_process, workers=settings.execution.workers)


def plan_for(settings: SimulationSettings, federation: Federation, seed: int) -> Plan:
    """The plan of a run, from public figures and the settings alone."""
    customers = settings.privacy.customers or declared(federation.customers)
    method, _ = _variant(settings, federation)
    threshold, colluders = _threshold(settings, len(federation.shops))
    if settings.dp == "distributed" and settings.execution.clipping != "sparse":
        raise UsageError(
            f"--set engine.clipping={settings.execution.clipping}: distributed rounds each customer "
            "by itself, which Opacus does not; use sparse, or --dp central"
        )
    if settings.engine == "ray" and settings.secagg.drop:
        raise UsageError("--set secagg.drop: only --engine inprocess drops shops; leave one of them out")
    plan = make_plan(
        run=run_name(settings, f"{federation.name}-{settings.protocol}-{seed}"),
        method=method,
        settings=_hyperparameters(method, settings, _epsilon_of_sum(settings, federation), customers),
        n_items=federation.items,
        dp=settings.dp,
        epsilon=settings.epsilon,
        delta=settings.delta or default_delta(customers),
        shops=len(federation.shops),
        customers=customers,
        threshold=threshold,
        colluders=colluders,
        masked=masked(settings),
        roster=simulated_roster(len(federation.shops), seed).digest if masked(settings) else "",
        trim=settings.robust.trim,
    )
    if settings.rounds not in (None, len(plan.releases)):
        raise UsageError(
            f"--rounds {settings.rounds}: with what --set method says {method} takes {len(plan.releases)}; "
            "leave one of them out"
        )
    return plan


def simulated_shops(
    settings: SimulationSettings, federation: Federation, plan: Plan, seed: int
) -> list[LocalShop]:
    """One client a shop, with its ledger and repeatable randomness."""
    ledgers = [open_ledger(settings, shop.name, plan.delta) for shop in federation.shops]
    members: list[Member | None] = [None] * len(ledgers)
    if plan.roster:
        members = [*simulated_members(plan, seed)]
        for ledger in ledgers:
            ledger.approve(plan.roster, simulated_roster(plan.shops, seed).keys)
    return [
        LocalShop(
            name=shop.name,
            histories=shop.train,
            ledger=ledgers[position],
            member=members[position],
            customers=declared(len(shop.train)),
            allowed=DP_MODELS,
            unmasked=True,
            noise=Source(seed, ("noise", position)),
            coins=Source(seed, ("coins", position)),
            performance=PerformanceSettings(settings.execution.chunk, settings.execution.clipping),
            coordinator="hansa simulate",
        )
        for position, shop in enumerate(federation.shops)
    ]


def _variant(settings: SimulationSettings, federation: Federation) -> tuple[str, str | None]:
    customers = settings.privacy.customers or declared(federation.customers)
    epsilon = _epsilon_of_sum(settings, federation)
    return variant(settings.method, settings.hyperparameters, federation.items, epsilon, customers)


def _threshold(settings: SimulationSettings, shops: int) -> tuple[int, int]:
    fitting, colluders = default_threshold(shops, settings.secagg.colluders)
    return settings.secagg.threshold or fitting, colluders


def _epsilon_of_sum(settings: SimulationSettings, federation: Federation) -> float | None:
    shops = len(federation.shops)
    return epsilon_of_sum(settings.epsilon, settings.dp, shops, *_threshold(settings, shops))


def _hyperparameters(
    method: str, settings: SimulationSettings, epsilon: float | None, customers: int
) -> dict[str, Setting]:
    chosen = recommended_settings(method, epsilon, customers)
    if settings.protocol == "random20":
        # Gaps are to be filled, not the future foretold: the newest items say no more than others, and next
        # items are no target. What was had close together still goes together, so nearness stays.
        ordered = {"recency": 0.0, "refinement_share": 0.0}
        chosen |= {name: value for name, value in ordered.items() if name in setting_types(method)}
    if settings.rounds is not None:
        share = {**chosen, **settings.hyperparameters}.get("refinement_share", 0.0)
        chosen |= rounds_setting(method, settings.rounds, share)
    return {**chosen, **settings.hyperparameters}
