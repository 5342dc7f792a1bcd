"""Which reservation pays for a release: its plan's, or for a lost round one that is made for it.

**Guarantee:** every release is charged by itself. A round whose plan's charge is used up, by a reply that was
lost on its way, is a plan of its own to the ledger: reserved under the same ceiling by the same rule, or
refused. Its noise is fresh. A shop pays for at most ``repeats`` of them a run, however often it is asked. A
run that was accepted before the ledger was reconciled is over: what is known of it may be older than what
was done.
"""

from __future__ import annotations

from hansa.dp.accounting import DpEvent
from hansa.errors import RefusalError
from hansa.plan import Plan
from hansa_client.shop import LocalShop


def check_payable(shop: LocalShop, plan: Plan, round_: int) -> None:
    """See that a round can be paid, without paying.

    Raises:
        RefusalError: It was paid before, and paying again is not allowed or does not fit the budget; or the
            ledger was reconciled since the plan was accepted.
    """
    name = _payer(shop, plan, round_)
    if name == plan.run:
        return
    why = shop.ledger.why_not(name, _events(plan, round_))
    if why is not None:
        raise RefusalError(why, reason=f"round {round_} is lost and does not fit the shop's budget again")


def reserve(shop: LocalShop, plan: Plan, round_: int) -> str:
    """The name of the reservation that pays for a round of an accepted plan, made if need be.

    Raises:
        RefusalError: As ``check_payable``.
    """
    check_payable(shop, plan, round_)
    name = _payer(shop, plan, round_)
    if name != plan.run:
        about = {"asked_by": shop.coordinator, "plan": plan.digest, "again": plan.run, "round": round_}
        shop.ledger.reserve(name, _events(plan, round_), about)
    return name


def _payer(shop: LocalShop, plan: Plan, round_: int) -> str:
    known = shop.ledger.reservations
    before = sum(release.steps for release in plan.releases[: round_ - 1])
    if plan.run in known:
        known[plan.run].refuse_if_ended()
    if plan.run not in known or known[plan.run].charged <= before:
        return plan.run
    prefix = f"{plan.run} again "
    used = [name for name in known if name.startswith(prefix)]
    for name in used:  # reserved, and stopped before the charge
        if known[name].charged == 0 and name.split()[-1] == str(round_):
            return name
    if len(used) >= shop.repeats:
        raise RefusalError(
            f"run {plan.run}: round {round_} was paid for, and {len(used)} lost rounds were paid again; the "
            f"shop allows {shop.repeats}",
            reason=f"round {round_} was paid for and is not paid again",
        )
    return f"{prefix}{len(used) + 1}: round {round_}"


def _events(plan: Plan, round_: int) -> tuple[DpEvent, ...]:
    release = plan.releases[round_ - 1]
    return (release.event,) * release.steps
