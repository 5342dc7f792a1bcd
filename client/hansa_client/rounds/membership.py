"""Whether a shop's own side of a roster allows a plan's masked rounds."""

from __future__ import annotations

from hansa.errors import RefusalError
from hansa.plan import Plan
from hansa.secagg.roster import Member
from hansa_client.shop import LocalShop


def check_membership(shop: LocalShop, plan: Plan) -> Member:
    """The shop's own side of a roster, if it allows the masked rounds of ``plan``.

    Raises:
        RefusalError: It does not, or its operator has approved no roster, or another one.
    """
    member = shop.member
    if member is None or shop.ledger.roster != member.roster.digest:
        raise RefusalError(
            "the ledger has no approval of this roster; approve it after comparing fingerprints",
            reason="the shop has not approved the roster",
        )
    if not member.vouched <= {member.name, *shop.ledger.vouched}:
        raise RefusalError(
            "the shop's file vouches for shops that the ledger has no approval of; approve the roster again",
            reason="the shop has not approved the roster",
        )
    if plan.shops != len(member.roster):
        raise RefusalError(
            f"the plan is for {plan.shops} shops, the roster has {len(member.roster)}",
            reason="the plan is not for the roster's shops",
        )
    for round_ in range(1, len(plan.releases) + 1):
        member.check(plan.parameters(round_, {}))
    return member
