"""The plan of a league's run, from its settings and public figures alone."""

from __future__ import annotations

from hansa.errors import UsageError
from hansa.figures import default_delta
from hansa.plan import Plan, Setting, make_plan
from hansa.recommended import epsilon_of_sum, recommended_settings, rounds_setting, variant
from hansa.secagg.parameters import default_threshold
from hansa.secagg.roster import Roster
from hansa_server.settings import Training


def plan_run(training: Training, run: str, shops: int, items: int, roster: Roster | None) -> tuple[Plan, str]:
    """The plan of a run.

    Args:
        training: What is wanted.
        run: The run's name.
        shops: Number of admitted shops.
        items: Size of the catalogue.
        roster: Of these shops, if they mask their sums.

    Returns:
        The plan, and why its method is another than the one asked for; else empty.

    Raises:
        UsageError: What is wanted cannot be had.
    """
    if not training.customers:
        raise UsageError(
            "training.customers: not declared; set a public round figure that bounds the number of all "
            "shops' customers in server.toml, or give --customers"
        )
    masked = training.dp == "distributed"
    threshold, colluders = default_threshold(shops, training.colluders or None) if masked else (0, 0)
    threshold = training.threshold or threshold if masked else 0
    spent = epsilon_of_sum(training.epsilon, training.dp, shops, threshold, colluders)
    method, why = variant(training.method, training.settings, items, spent, training.customers)
    settings = _hyperparameters(method, training, spent)
    plan = make_plan(
        run=run,
        method=method,
        settings=settings,
        n_items=items,
        dp=training.dp,
        epsilon=training.epsilon,
        delta=training.delta or default_delta(training.customers),
        shops=shops,
        customers=training.customers,
        threshold=threshold or None,
        colluders=colluders or None,
        roster=roster.digest if roster is not None else "",
        trim=training.trim,
    )
    if training.rounds not in (0, len(plan.releases)):
        raise UsageError(
            f"--rounds {training.rounds}: with training.settings as they are {method} takes "
            f"{len(plan.releases)}; leave one of them out"
        )
    return plan, why or ""


def _hyperparameters(method: str, training: Training, epsilon: float | None) -> dict[str, Setting]:
    chosen = recommended_settings(method, epsilon, training.customers)
    if training.rounds:
        share = {**chosen, **training.settings}.get("refinement_share", 0.0)
        chosen |= rounds_setting(method, training.rounds, share)
    return {**chosen, **training.settings}
