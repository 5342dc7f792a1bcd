"""What holds for a customer, from the plans' events: epsilon, its profile, overlaps, in quotable words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hansa.audit.document import Accounting, Check, Guarantee, Overlap, Point
from hansa.audit.wording import VARIANT
from hansa.dp.accounting import (
    ACCOUNTANT,
    CROSS_CHECK,
    SKELLAM_ACCOUNTANT,
    DpEvent,
    SkellamEvent,
    cross_check,
    epsilon,
    with_overlap,
)
from hansa.dp.events import leaves, multiplier_and_rate
from hansa.dp.filter import RenyiFilter
from hansa.dp.profile import dominating_mu, privacy_profile
from hansa.figures import delta_text, epsilon_text

PROFILE = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
"""Epsilons at which a report states delta."""
_OVERLAPS = (1, 2, 3)
FILTER = (
    "a Renyi filter of an order that was fixed when the ledger was opened (Feldman and Zrnic 2021); a single "
    "plan that is fixed in advance goes by its own accountant"
)
SUMS = "epsilons and deltas of the runs add up (basic composition), which holds for runs chosen one by one"


@dataclass(frozen=True)
class Plans:
    """Plans that a customer of one shop was exposed to.

    Attributes:
        events: Of each plan, everything it releases.
        names: Of the runs.
        summed: Whether a plan's noise is in one sum over shops, of each; None: unknown, so the worse counts.
        filter: Of the ledger; None: there is no single ledger.
        delta: The report's.
    """

    events: Sequence[DpEvent]
    names: Sequence[str]
    summed: Sequence[bool | None]
    filter: RenyiFilter | None
    delta: float

    def overlaps(self) -> list[Overlap]:
        """Epsilon for customers of one, two and three shops."""
        return [Overlap(shops=shops, epsilon=self._at(shops)) for shops in _OVERLAPS]

    def _at(self, shops: int) -> float | None:
        shared = [
            self._shared(event, shops, summed) for event, summed in zip(self.events, self.summed, strict=True)
        ]
        if not shared:
            return 0.0
        if len(shared) == 1:
            return finite(epsilon(shared[0], self.delta))
        if self.filter is not None:
            return finite(self.filter.epsilon(self.filter.cost(shared)))
        return finite(math.fsum(epsilon(event, self.delta / len(shared)) for event in shared))

    def _shared(self, event: DpEvent, shops: int, summed: bool | None) -> DpEvent:
        """What a customer of so many shops undergoes; shares of noise are always in one sum."""
        skellam = any(isinstance(leaf, SkellamEvent) for leaf in leaves(event))
        if skellam or summed is not None:
            return with_overlap(event, shops, summed=skellam or bool(summed))
        both = [with_overlap(event, shops, summed=each) for each in (False, True)]
        return max(both, key=lambda each: epsilon(each, self.delta))

    def profile(self) -> list[Point]:
        """Delta at each of ``PROFILE``: of one plan by its accountant, of more by the filter."""
        if not self.events:
            return []
        if len(self.events) == 1:
            deltas = [float(delta) for delta in privacy_profile(self.events[0], PROFILE)]
        elif self.filter is not None:
            cost = self.filter.cost(self.events)
            if not math.isfinite(cost):
                return []
            deltas = [self.filter.delta_at(cost, at) for at in PROFILE]
        else:
            return []
        points = zip(PROFILE, deltas, strict=True)
        return [Point(epsilon=at, delta=delta) for at, delta in points if delta < 1]

    def mu(self) -> float | None:
        """See ``dominating_mu``; of several plans nothing is claimed."""
        return dominating_mu(self.events[0]) if len(self.events) == 1 else None


def guarantee(plans: Plans, spent: float, about: str, provided: str, overlap: int | None) -> Guarantee:
    """The section of a report.

    Args:
        plans: All plans.
        spent: Epsilon of them, infinite without noise.
        about: Of whom and until when.
        provided: What it rests on; see ``claimed``.
        overlap: Largest number of shops that was declared for one person.
    """
    return Guarantee(
        variant=VARIANT,
        epsilon=finite(spent),
        delta=plans.delta,
        claim=claimed(about, spent, plans.delta, provided),
        profile=plans.profile(),
        mu=plans.mu(),
        overlaps=plans.overlaps(),
        overlap=overlap,
    )


def claimed(about: str, spent: float, delta: float, provided: str) -> str:
    """A guarantee in words that can be quoted."""
    if not math.isfinite(spent):
        return f"Nothing is guaranteed for {about}."
    if spent == 0:
        return f"Nothing was released of {about}."
    condition = f", {provided}" if provided else ""
    return (
        f"Everything that was released of {about}, is together ({epsilon_text(spent)}, {delta_text(delta)})-"
        f"differentially private for each customer of a shop (add or remove one customer with all "
        f"interactions){condition}."
    )


def accounting(plans: Plans, composition: str) -> Accounting:
    """How the figures follow."""
    kinds = [leaf for event in plans.events for leaf in leaves(event)]
    shared = any(isinstance(leaf, SkellamEvent) for leaf in kinds)
    gaussian = [leaf for leaf in kinds if not isinstance(leaf, SkellamEvent)]
    sampled = any(multiplier_and_rate(leaf)[1] < 1 for leaf in gaussian)
    plain = bool(gaussian) or not kinds
    return Accounting(
        accountant="; ".join([ACCOUNTANT] * plain + [SKELLAM_ACCOUNTANT] * shared),
        composition=composition,
        order=None if plans.filter is None else float(plans.filter.order),
        amplification="by Poisson sampling, as listed" if sampled else "none",
        cross_check=_cross_check(plans),
    )


def _cross_check(plans: Plans) -> Check | None:
    """Of the dearest plan whose noise another accountant knows."""
    known = [
        (epsilon(event, plans.delta), name, event)
        for event, name in zip(plans.events, plans.names, strict=True)
        if not any(isinstance(leaf, SkellamEvent) for leaf in leaves(event))
    ]
    if not known:
        return None
    claimed_, name, event = max(known, key=lambda each: each[:2])
    return Check(
        accountant=CROSS_CHECK,
        run=name,
        epsilon=finite(cross_check(event, plans.delta)),
        claimed=finite(claimed_),
    )


def finite(value: float) -> float | None:
    """The number, or None for one that JSON does not have."""
    return value if math.isfinite(value) else None
