"""What is asked of the planner, and the plan and the league that the figures stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast, get_args

from hansa.dp.private_sum import DpModel
from hansa.errors import UsageError, one_of
from hansa.figures import declared, default_delta
from hansa.models.base import Method
from hansa.models.cooccurrence import Cooccurrence
from hansa.models.dpals import Dpals
from hansa.models.subspace import Subspace
from hansa.plan import Plan, Setting, build_method, make_plan, noise_growth
from hansa.planner.payoff import League
from hansa.recommended import epsilon_of_sum, recommended_settings, variant
from hansa.secagg.parameters import LEAST_SHOPS, MOST_SHOPS, default_threshold

DP_CHOICES: tuple[DpModel, ...] = get_args(DpModel)
_LARGEST = {"shops": 10**6, "customers": 10**9, "items": 10**7, "lifetime": 10**4, "history": 10**5}


@dataclass(frozen=True)
class Question:
    """A federation that somebody thinks of; every figure is public and declared.

    Attributes:
        shops: Number of shops.
        customers: Customers of each, a round figure.
        items: Size of the catalogue.
        epsilon: Budget of one training for a customer of one shop; ignored with ``none``.
        delta: None: ``default_delta`` of the declared customers.
        dp: One of ``DP_CHOICES``.
        method: Name of the method.
        settings: Those of its hyperparameters that differ from the recommended ones.
        lifetime: Trainings that a shop's lifetime ceiling must pay for.
        overlap: Most shops that one person is a customer of.
        history: Different items of a customer, for the signal to expect.
    """

    shops: int
    customers: int
    items: int
    epsilon: float = 4.0
    delta: float | None = None
    dp: str = "local"
    method: str = "cooccurrence"
    settings: tuple[tuple[str, Setting], ...] = ()
    lifetime: int = 1
    overlap: int = 1
    history: int = 20

    @property
    def everyone(self) -> int:
        """Customers of all shops."""
        return self.shops * self.customers

    @property
    def thresholds(self) -> tuple[int, int]:
        """Threshold and colluders of ``distributed``, those that a league takes if it says nothing."""
        return default_threshold(self.shops)

    @property
    def growth(self) -> float:
        """How many times one complete noise the sum over all shops has, as a standard deviation."""
        return noise_growth(cast(DpModel, self.dp), self.shops, *self.thresholds)

    @property
    def budget(self) -> float | None:
        """Epsilon, or None without privacy."""
        return None if self.dp == "none" else self.epsilon

    def chosen_settings(self, customers: int) -> dict[str, Setting]:
        """Hyperparameters for a declared number of customers."""
        method, _ = self.variant(customers)
        return recommended_settings(method, self._sizing, customers) | dict(self.settings)

    def variant(self, customers: int) -> tuple[str, str | None]:
        """The method that runs for a declared number of customers, and why it is another than ``method``."""
        return variant(self.method, dict(self.settings), self.items, self._sizing, customers)

    @property
    def _sizing(self) -> float | None:
        return epsilon_of_sum(self.budget, cast(DpModel, self.dp), self.shops, *self.thresholds)

    def chosen_delta(self) -> float:
        """The delta given, or the default of the declared customers."""
        return default_delta(declared(self.everyone)) if self.delta is None else self.delta


def plan_of(question: Question) -> Plan:
    """The plan of one training.

    Raises:
        UsageError: A figure is out of range.
    """
    for name, most in _LARGEST.items():
        if not 1 <= getattr(question, name) <= most:
            raise UsageError(f"--{name} {getattr(question, name)}: use a whole number from 1 to {most:,}")
    if question.dp not in DP_CHOICES:
        raise one_of("--dp", question.dp, DP_CHOICES)
    if not 1 <= question.overlap <= question.shops:
        raise UsageError(f"--overlap {question.overlap}: use a number of shops from 1 to {question.shops}")
    if question.dp == "distributed" and not LEAST_SHOPS <= question.shops <= MOST_SHOPS:
        raise UsageError(
            f"--shops {question.shops}: distributed takes {LEAST_SHOPS} to {MOST_SHOPS}; use --dp local"
        )
    if question.budget is not None and not 0 < question.budget < math.inf:
        raise UsageError(f"--epsilon {question.epsilon:g}: use a value above 0, e.g. 4, or --dp none")
    customers = declared(question.everyone)
    return make_plan(
        run="plan",
        method=question.variant(customers)[0],
        settings=question.chosen_settings(customers),
        n_items=question.items,
        dp=question.dp,
        epsilon=question.budget,
        delta=question.chosen_delta(),
        shops=question.shops,
        customers=customers,
        masked=False,  # whom with is not known yet; the noise is the same
    )


def league_of(question: Question, customers: int | None = None) -> League:
    """The figures that the law of ``payoff`` asks for.

    Args:
        question: The question, its ranges checked.
        customers: Customers that the hyperparameters are chosen for; None: the declared ones.
    """
    sized_for = declared(question.everyone) if customers is None else customers
    name, _ = question.variant(sized_for)
    method = build_method(name, question.items, question.chosen_settings(sized_for))
    return League(
        question.shops,
        question.customers,
        math.inf if question.budget is None else question.budget,
        question.chosen_delta(),
        question.growth,
        statistic_items(method, question.items),
    )


def statistic_items(method: Method, items: int) -> int:
    """Items in the statistic that a method learns from: the vocabulary, or the whole catalogue."""
    return method.size if isinstance(method, Cooccurrence | Subspace | Dpals) else items
