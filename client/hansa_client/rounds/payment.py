"""Which reservation pays for a release: its plan's, or for a lost round one that is made for it.

**Guarantee:** every release is charged by itself. A round whose plan's charge is used up, by a reply that was
lost on its way, is a plan of its own to the ledger: reserved under the same ceiling by the same rule, or
refused. Its noise is fresh. A shop pays for at most ``repeats`` of them a run, however often it is asked, and
only as long as the plan with all of them stays within ``most``, what the shop allows one plan. A run that
was accepted before the ledger was reconciled is over: what is known of it may be older than what was done.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain

from hansa.dp.accounting import DpEvent, compose, epsilon
from hansa.dp.ledger.account import About
from hansa.errors import RefusalError
from hansa.plan import Plan
from hansa_client.shop import LocalShop

_TOLERANCE = 1e-6


def check_payable(shop: LocalShop, plan: Plan, round_: int) -> None:
    """See that a round can be paid, without paying.

    Raises:
        RefusalError: It was paid before, and paying again is not allowed, does not fit the budget or goes
            beyond what one plan may cost; or the ledger was reconciled since the plan was accepted.
    """
    name = _payer(shop, plan, round_)
    if name == plan.run:
        return
    why = shop.ledger.why_not(name, _events(plan, round_))
    if why is not None:
        raise RefusalError(why, reason=f"round {round_} is lost and does not fit the shop's budget again")
    whole = _with_repeats(shop, plan, name, round_)
    if whole > shop.most + _TOLERANCE:
        raise RefusalError(
            f"run {plan.run}: with round {round_} paid again it would cost epsilon {whole:.4g}; the shop "
            f"allows {shop.most:g} for one plan",
            reason=f"round {round_} is lost and would cost more than the shop allows one plan",
        )


def dearest(plan: Plan, repeats: int, delta: float) -> float:
    """Most epsilon that a plan may come to with so many rounds paid again, for a customer of one shop.

    Args:
        plan: The plan.
        repeats: How many lost rounds are paid again.
        delta: The ledger's.
    """
    rounds = {(release.event, release.steps) for release in plan.releases}
    return max(price((*plan.steps, *(event,) * (steps * repeats)), delta) for event, steps in rounds)


@lru_cache(maxsize=64)
def price(events: tuple[DpEvent, ...], delta: float) -> float:
    """Epsilon of these events together by privacy-loss distributions; infinite if no accountant knows one."""
    try:
        return float(epsilon(compose(events), delta))
    except ValueError:
        return float("inf")


def reserve(shop: LocalShop, plan: Plan, round_: int, shown: About) -> str:
    """The name of the reservation that pays for a round of an accepted plan, made if need be.

    Args:
        shop: Who pays.
        plan: The plan.
        round_: The round.
        shown: What else to record of a reservation that is made.

    Raises:
        RefusalError: As ``check_payable``.
    """
    check_payable(shop, plan, round_)
    name = _payer(shop, plan, round_)
    if name != plan.run:
        about = {"asked_by": shop.coordinator, "plan": plan.digest, "again": plan.run, "round": round_}
        shop.ledger.reserve(name, _events(plan, round_), {**about, **shown})
    return name


def _with_repeats(shop: LocalShop, plan: Plan, name: str, round_: int) -> float:
    """Epsilon of a plan with the rounds that were paid again, and with the one of this name."""
    if shop.most == float("inf"):
        return 0.0
    paid = {run: known.releases for run, known in shop.ledger.reservations.items() if is_again(plan, run)}
    paid[name] = _events(plan, round_)
    return price(plan.steps + tuple(chain(*paid.values())), shop.ledger.ceiling.delta)


def _payer(shop: LocalShop, plan: Plan, round_: int) -> str:
    known = shop.ledger.reservations
    before = sum(release.steps for release in plan.releases[: round_ - 1])
    if plan.run in known:
        known[plan.run].refuse_if_ended()
    if plan.run not in known or known[plan.run].charged <= before:
        return plan.run
    used = [name for name in known if is_again(plan, name)]
    for name in used:  # reserved, and stopped before the charge
        if known[name].charged == 0 and name.split()[-1] == str(round_):
            return name
    if len(used) >= shop.repeats:
        raise RefusalError(
            f"run {plan.run}: round {round_} was paid for, and {len(used)} lost rounds were paid again; the "
            f"shop allows {shop.repeats}",
            reason=f"round {round_} was paid for and is not paid again",
        )
    return f"{plan.run} again {len(used) + 1}: round {round_}"


def is_again(plan: Plan, name: str) -> bool:
    """Whether the reservation of this name is of a round of this plan that is paid again."""
    return name.startswith(f"{plan.run} again ")


def _events(plan: Plan, round_: int) -> tuple[DpEvent, ...]:
    release = plan.releases[round_ - 1]
    return (release.event,) * release.steps
