"""The planner's whole answer: privacy, noise, signal, lifetime, payoff, verdict and what would work."""

from __future__ import annotations

import math
from dataclasses import asdict
from itertools import groupby
from typing import Any

from hansa.dp.accounting import (
    ACCOUNTANT,
    CROSS_CHECK,
    SKELLAM_ACCOUNTANT,
    DpEvent,
    cross_check,
    epsilon,
    with_overlap,
)
from hansa.dp.filter import RenyiFilter
from hansa.dp.private_sum import Release
from hansa.figures import declared
from hansa.models.hybrid import Hybrid
from hansa.plan import Plan
from hansa.planner.advice import HALF_AT, customers_for, judge, needs, remedies
from hansa.planner.payoff import KINDS, WORTH_JOINING, gain_kept, pays
from hansa.planner.question import Question, league_of, plan_of
from hansa.planner.signal import Signal, expect
from hansa.recommended import refinement_settings


def answer(question: Question) -> dict[str, Any]:
    """What to expect of a federation, ready for JSON; infinite figures are None.

    Raises:
        UsageError: A figure is out of range.
    """
    plan = plan_of(question)
    verdict, reason = judge(question)
    private = question.budget is not None
    return {
        "shops": question.shops,
        "customers_per_shop": question.customers,
        "customers": question.everyone,
        "items": question.items,
        "dp": question.dp,
        "method": plan.method,
        "settings": plan.settings,
        "verdict": verdict,
        "reason": reason,
        "what_would_work": [] if verdict == "can pay" else remedies(question),
        "privacy": _privacy(question, plan) if private else None,
        "releases": _releases(question, plan),
        "split": _split(question, plan),
        "lifetime": _lifetime(question, plan) if private else None,
        "payoff": _payoff(question),
        "assumptions": _assumptions(question),
    }


def _privacy(question: Question, plan: Plan) -> dict[str, Any]:
    event = plan.event()
    shared = with_overlap(event, question.overlap, summed=question.dp != "local")
    return {
        "unit": "user",
        "epsilon": question.epsilon,
        "epsilon_spent": epsilon(event, plan.delta),
        "epsilon_spent_max_overlap": _finite(epsilon(shared, plan.delta)),
        "max_overlap": question.overlap,
        "delta": plan.delta,
        "accountant": SKELLAM_ACCOUNTANT if question.dp == "distributed" else ACCOUNTANT,
        "cross_check": {"accountant": CROSS_CHECK, "epsilon": cross_check(event, plan.delta)},
    }


def _releases(question: Question, plan: Plan) -> list[dict[str, Any]]:
    return [_release(question, release, len(list(same))) for release, same in groupby(plan.releases)]


def _split(question: Question, plan: Plan) -> dict[str, Any] | None:
    """What each kind of release of ``hybrid`` gets of the budget (of 1 / sigma^2), and why."""
    method = plan.learner
    if not isinstance(method, Hybrid):
        return None
    refinement = method.refinement_share
    left = 1 - refinement
    asked_at = f"at {plan.customers:,} declared customers and this epsilon"
    recommended = float(refinement_settings(question.budget, plan.customers)["refinement_share"])
    if question.budget is None:
        why = "without noise shares do not matter"
    elif "refinement_share" in dict(question.settings):
        why = f"as set by method.refinement_share; recommended is {recommended:.0%} {asked_at}"
    else:
        why = f"on the data measured gradients {'pay' if recommended else 'do not pay'} {asked_at}"
    return {
        "counts": left * method.count_share,
        "pairs": left * (1 - method.count_share),
        "refinement": refinement,
        "why": why,
    }


def _release(question: Question, release: Release, rounds: int) -> dict[str, Any]:
    local = question.dp == "local"
    league = expect(release, question.items, question.history, question.everyone, question.growth**2)
    shop = None  # otherwise one shop's sum is not released by itself
    if local or question.budget is None:
        shop = _signal(expect(release, question.items, question.history, question.customers))
    return {
        "name": release.name,
        "rounds": rounds,
        "sums_a_round": release.steps,
        "sampling_rate": release.sampling_rate,
        "noise_multiplier": release.noise_multiplier,
        "rows": release.rows,
        "width": release.width,
        "measured_by": league.what,
        "league": _signal(league),
        "shop": shop,
    }


def _signal(found: Signal) -> dict[str, Any]:
    return {
        "signal": found.signal,
        "noise": found.noise,
        "ratio": _finite(found.ratio),
        "items_above_noise": found.visible,
    }


def _lifetime(question: Question, plan: Plan) -> dict[str, Any]:
    event = plan.event()
    return {
        "trainings": question.lifetime,
        "epsilon_each": epsilon(event, plan.delta),
        "ceiling": smallest_ceiling(event, question.lifetime, plan.delta),
        "delta": plan.delta,
    }


def smallest_ceiling(event: DpEvent, runs: int, delta: float) -> float:
    """The smallest lifetime ceiling under which a shop's ledger accepts so many runs of the same plan.

    A single plan is fixed in advance and measured by its loss distribution. Of several the later are chosen
    after results were seen, so that the filter decides.
    """
    return epsilon(event, delta) if runs == 1 else filter_ceiling(event, runs, delta)


def filter_ceiling(event: DpEvent, runs: int, delta: float) -> float:
    """The smallest ceiling whose Renyi filter admits so many runs of the same plan.

    The filter's order is the best one for Gaussian sums: plans with Poisson sampling may need more than their
    ``rdp_epsilon``.

    Returns:
        A ceiling, within 0.01 % of the smallest and never below it; infinite without noise.
    """

    def admits(ceiling: float) -> bool:
        chosen = RenyiFilter.for_ceiling(ceiling, delta)
        return runs * chosen.cost([event]) <= chosen.budget(ceiling)

    low = high = epsilon(event, delta)
    while not admits(high):
        low, high = high, 2 * high
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if admits(middle) else (middle, high)
    return high


def _payoff(question: Question) -> dict[str, Any]:
    league = league_of(question)
    return {
        "epsilon_of_sum": _finite(league.epsilon_of_sum),
        "customers_times_epsilon": _finite(league.strength),
        "items_in_statistic": league.items,
        "worth_joining": WORTH_JOINING,
        "kinds": {
            kind.name: {
                "gain_kept": gain_kept(league, kind),
                "pays": pays(league, kind),
                "enough": asdict(needs(question, kind)),
                "customers_for_half": {
                    f"{budget:g}": customers_for(0.5, budget, question.method, question.items, kind.law)
                    for budget in HALF_AT
                },
            }
            for kind in KINDS
        },
    }


def _assumptions(question: Question) -> list[str]:
    found = [
        f"{question.history} different items a customer, bought independently with popularity 1 / rank",
        "gains by a law in customers x epsilon, fitted to co-occurrence on three kinds of data and off by a "
        "factor of 2 or more (docs/planning.md); where pooling itself gains nothing, nothing is kept",
    ]
    _, why = question.variant(declared(question.everyone))
    if why:
        found.append(why)
    if question.method == "dpsgd":
        found.append(
            "dpsgd kept less than co-occurrence at every epsilon measured: expect less than that law"
        )
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
