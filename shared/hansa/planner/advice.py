"""Whether joining can pay, why, and which single change would make it pay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from hansa.figures import declared
from hansa.plan import build_method
from hansa.planner.payoff import KINDS, WORTH_JOINING, Kind, gain_kept, most_items, pays, share_kept
from hansa.planner.question import Question, league_of, statistic_items
from hansa.recommended import recommended_settings
from hansa.secagg.parameters import LEAST_SHOPS, MOST_SHOPS

Verdict = Literal["can pay", "unlikely", "hopeless"]
_MOST_SHOPS = 1_000_000
_MOST_CUSTOMERS = 100_000_000
_MOST_EPSILON = 16.0
_FEWEST_ITEMS = 90
HALF_AT = (1.0, 2.0, 4.0)
"""Epsilons at which the customers for half of pooling's gain are told."""
_DECLARED_ABOVE = 1.67  # a declared figure is at most this far above the true one


@dataclass(frozen=True)
class Needs:
    """What would be enough on one kind of data, everything else as asked; None: nothing within reason.

    Attributes:
        shops: Fewest shops of that size, 2 at least.
        customers: Fewest customers a shop.
        epsilon: Smallest epsilon, in tenths.
        items: Most items in the statistic.
    """

    shops: int | None
    customers: int | None
    epsilon: float | None
    items: int | None


def needs(question: Question, kind: Kind) -> Needs:
    """The smallest federation in which joining can pay, along each axis; hyperparameters follow."""
    # The law asks for the vocabulary alone; other settings may be none of a larger federation's method.
    settings = tuple((name, value) for name, value in question.settings if name == "vocabulary")
    question = replace(question, settings=settings)

    def enough(changed: Question) -> bool:
        # For the largest figure that may be declared for so many: its vocabulary only grows with them.
        return pays(league_of(changed, round(_DECLARED_ABOVE * changed.everyone)), kind)

    already = pays(league_of(question), kind)
    shops = _smallest(lambda n: enough(replace(question, shops=n)), 2, _MOST_SHOPS)
    customers = _smallest(lambda n: enough(replace(question, customers=n)), 1, _MOST_CUSTOMERS)
    tenths = None
    if question.budget is not None:
        most = round(10 * _MOST_EPSILON)
        tenths = _smallest(lambda n: enough(replace(question, epsilon=n / 10)), 1, most)
    items = min(most_items(league_of(question), kind), question.items)
    return Needs(
        _no_more_than(shops, question.shops if already else None),
        _no_more_than(customers, question.customers if already else None),
        _no_more_than(None if tenths is None else tenths / 10, question.budget if already else None),
        items if items >= min(_FEWEST_ITEMS, question.items) else None,
    )


def customers_for(
    share: float, epsilon: float, method: str, items: int, law: Mapping[str, float]
) -> int | None:
    """Fewest customers of all shops together with whom a share of pooling's gain is kept; None: too many.

    Noise is once in the sum (``distributed``), and hyperparameters are the recommended ones.

    Args:
        share: Of pooling's gain over shops alone.
        epsilon: Budget of one training.
        method: Name of the method.
        items: Size of the catalogue.
        law: half, power and most, see ``payoff.share_kept``.
    """

    def keeps(customers: int) -> bool:
        settings = recommended_settings(method, epsilon, declared(customers))
        statistic = statistic_items(build_method(method, items, settings), items)
        return share_kept(customers * epsilon, statistic, **law) >= share

    found = _smallest(keeps, 1, _MOST_CUSTOMERS)
    return None if found is None else _rounded(found)


def _no_more_than(found: Any, known: Any) -> Any:
    """What was found, or what is known to be enough if that is less."""
    return known if found is None else found if known is None else min(found, known)


def _smallest(works: Callable[[int], bool], least: int, most: int) -> int | None:
    """The smallest number from ``least`` to ``most`` that works, for what works from some number on."""
    high = least
    while not works(high):
        if high >= most:
            return None
        high = min(2 * high, most)
    low = max(least - 1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle, high)
    return high


def judge(question: Question) -> tuple[Verdict, str]:
    """The verdict with its reason in a few sentences."""
    if question.shops < 2:
        return "hopeless", "One shop is no federation: it learns as much alone, without noise."
    if question.method == "popularity":
        return "unlikely", (
            "Counts need little budget, but even exact popularity was below what shops know alone on films "
            "and video games, and hardly above it on grocery baskets."
        )
    if question.budget is None:
        return "can pay", "Nothing is hidden: exact sums leave the shops."
    league = league_of(question)
    everyone = f"{question.everyone:,} customers"
    reason = f"The noise of epsilon {question.epsilon:g} is in the sum over all {everyone} once."
    if question.dp == "distributed":
        threshold, colluders = question.thresholds
        honest = threshold - colluders
        reason = (
            f"The noise of epsilon {question.epsilon:g} is shared: {honest} of {question.shops} "
            f"shops make it up, so that the sum over all {everyone} has {question.growth:.2f} times as much."
        )
    if question.dp == "local":
        reason = (
            f"Every shop adds its own noise, so that the sum over all {everyone} is as noisy as a single sum "
            f"at epsilon {league.epsilon_of_sum:.2g}."
        )
    expected = {kind.name: gain_kept(league, kind) for kind in KINDS}
    told = ", ".join(f"{_percent(share)} on {name}" for name, share in expected.items())
    reason += f" Of what pooling all data would gain over shops alone, about {told} would be kept"
    worth = f"{WORTH_JOINING:.0%}"
    if not any(pays(league, kind) for kind in KINDS):
        return "hopeless", f"{reason}; below {worth} joining is not worth it."
    return "can pay", f"{reason}; from {worth} joining is worth it."


def remedies(question: Question) -> list[str]:
    """Single changes that would each be enough, the best one first."""
    if question.method == "popularity":
        return ["--method cooccurrence, which learns what goes with what"]
    found = []
    if question.dp == "local" and LEAST_SHOPS <= question.shops <= MOST_SHOPS:
        together = league_of(replace(question, dp="distributed"))
        paying = [
            f"{_percent(gain_kept(together, kind))} on {kind.name}" for kind in KINDS if pays(together, kind)
        ]
        if paying:
            found.append(
                "--dp distributed: the noise once for the league instead of once a shop, which would keep "
                f"about {', '.join(paying)}"
            )
    each = {kind.name: needs(question, kind) for kind in KINDS}
    found += _amounts("more customers a shop", {name: need.customers for name, need in each.items()})
    found += _amounts("more such shops", {name: need.shops for name, need in each.items()})
    kindest = each[KINDS[0].name]
    if kindest.epsilon is not None:
        found.append(f"--epsilon {kindest.epsilon:g} on {KINDS[0].name}, which protects less")
    if question.method not in ("cooccurrence", "hybrid", "subspace", "dpals"):
        found.append("--method cooccurrence, whose statistic is over the best sellers only")
    elif kindest.items is not None:
        found.append(f"--set method.vocabulary={kindest.items} on {KINDS[0].name}")
    return found


def _amounts(what: str, needed: dict[str, int | None]) -> list[str]:
    parts = [f"{_rounded(number):,} on {name}" for name, number in needed.items() if number is not None]
    return [f"{what}: at least {', '.join(parts)}"] if parts else []


def _rounded(number: int) -> int:
    """Two significant digits, upwards: the law knows no more."""
    unit: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // unit) * unit


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1%"
