"""What a result says about privacy: the claim, what it rests on, and what it does not cover."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hansa.dp.accounting import ACCOUNTANT, SKELLAM_ACCOUNTANT, cross_check, epsilon, with_overlap
from hansa.errors import UsageError
from hansa.plan import Plan, noise_growth
from hansa_client.shop import LocalShop
from hansa_simulations.federation import Federation
from hansa_simulations.ledgers import ledger_sums
from hansa_simulations.settings import SimulationSettings

NOT_COVERED = (
    "noise and sampling are drawn from the configured seed, so that runs repeat; a deployment draws them "
    "from the operating system",
    "the declared number of customers is rounded up from the exact one",
    "what a shop serves to its own customers: recommendations, reasons and the blend weight use the shop's "
    "exact data",
    "metrics and references are exact; a deployment releases none of them",
)


SHARED_NOISE = (
    "under distributed noise epsilon holds if at most the stated number of shops tell others their shares of "
    "the noise; nobody can check that",
    "under masks nobody can check what a shop puts into a sum: one dishonest shop can set it to anything",
)
UNMASKED = "the parts of the sums were not masked, which only a simulation does; --secagg full masks them"


def privacy_of(
    settings: SimulationSettings,
    federation: Federation,
    plan: Plan,
    shops: Sequence[LocalShop],
    history: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The section ``privacy`` of a result.

    Raises:
        UsageError: Somebody is a customer of more shops than is declared.
    """
    overlap = settings.privacy.max_overlap or federation.max_overlap
    if overlap < federation.max_overlap:
        raise UsageError(
            f"--set privacy.max_overlap={overlap}: somebody is a customer of {federation.max_overlap} shops; "
            f"declare at least that"
        )
    event = plan.event()
    shared = with_overlap(event, overlap, summed=plan.dp != "local")
    return {
        "unit": "user",
        "epsilon": settings.epsilon,
        "delta": plan.delta,
        "epsilon_spent": finite(epsilon(event, plan.delta)),
        "epsilon_spent_max_overlap": finite(epsilon(shared, plan.delta)),
        "max_overlap": overlap,
        "accountant": SKELLAM_ACCOUNTANT if plan.dp == "distributed" else ACCOUNTANT,
        # Nobody else here knows Skellam noise: the tests add up its divergences instead.
        "cross_check": None if plan.dp == "distributed" else finite(cross_check(event, plan.delta)),
        "ledger": None if plan.dp == "none" else ledger_sums(shops),
        "distributed": _distributed(plan, history) if plan.dp == "distributed" else None,
        "not_covered": [
            *federation.not_covered,
            *NOT_COVERED,
            *(SHARED_NOISE if plan.dp == "distributed" else ()),
            *(() if plan.masked else (UNMASKED,)),
        ],
    }


def _distributed(plan: Plan, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the claim rests on, and what noise there really was: more, as more than h shops were honest."""
    fewest = min((row["answered"] for row in history), default=plan.shops)
    realised = math.sqrt((fewest - plan.colluders) / plan.honest)
    noisier = plan.with_noise(plan.noise_scale * realised)
    return {
        "threshold": plan.threshold,
        "colluders": plan.colluders,
        "honest": plan.honest,
        "masked": plan.masked,
        "fewest_shops_in_a_sum": fewest,
        "noise_of_sum": noise_growth(plan.dp, fewest, plan.threshold, plan.colluders),
        "realised_noise": realised,
        "epsilon_realised": finite(epsilon(noisier.event(), plan.delta)),
    }


def finite(value: float) -> float | None:
    """The number, or None for one that JSON does not have."""
    return value if math.isfinite(value) else None
