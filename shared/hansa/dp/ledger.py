"""What a shop has spent of its lifetime budget, and the only place that says whether more may go."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from dp_accounting import DpEvent

from hansa.dp.accounting import compose, epsilon, rdp_epsilon
from hansa.errors import RefusalError

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Budget:
    """A shop's lifetime ceiling, from its own configuration."""

    epsilon: float
    delta: float


@dataclass(frozen=True)
class Reservation:
    """A plan that fits: its whole event, and how many of its releases have been charged."""

    run: str
    releases: tuple[DpEvent, ...]
    charged: int = 0


@dataclass
class Ledger:
    """An in-memory ledger, for simulations.

    A run's plan is reserved as a whole before its first release; each release is charged before it is
    computed. A reservation counts in full even when the run stops early.

    Guarantee: at any time the releases charged here are (ceiling.epsilon, ceiling.delta)-DP for each
    customer of this shop. A single plan fixed in advance is measured by its privacy-loss
    distribution. From the second plan on all of them are measured by Renyi DP at the best order, which
    holds for plans fixed together; for plans chosen after results were seen the order has to be fixed
    beforehand (``hansa.dp.filter``), which this ledger does not do yet.
    """

    ceiling: Budget
    reservations: dict[str, Reservation] = field(default_factory=dict)

    def spent(self) -> float:
        """Epsilon of everything reserved so far, at the ceiling's delta."""
        return self._epsilon([event for entry in self.reservations.values() for event in entry.releases])

    def _epsilon(self, events: list[DpEvent]) -> float:
        if not events:
            return 0.0
        measure = epsilon if len(self.reservations) <= 1 else rdp_epsilon
        return measure(compose(events), self.ceiling.delta)

    def reserve(self, run: str, releases: tuple[DpEvent, ...]) -> None:
        """Set aside the budget of a whole plan.

        Args:
            run: The run's name; the same plan may be reserved again under it at no cost.
            releases: The events of all its releases, in order.

        Raises:
            RefusalError: The plan does not fit under the ceiling, or differs from the one reserved.
        """
        known = self.reservations.get(run)
        if known is not None:
            if known.releases != releases:
                raise RefusalError(f"run {run}: the plan differs from the one that was accepted")
            return
        events = [event for entry in self.reservations.values() for event in entry.releases]
        measure = rdp_epsilon if self.reservations else epsilon
        after = measure(compose([*events, *releases]), self.ceiling.delta)
        if not after <= self.ceiling.epsilon + _TOLERANCE:
            cost = "without noise" if math.isinf(after) else f"would come to epsilon {after:.4g}"
            raise RefusalError(
                f"run {run} {cost} in all; the ceiling is {self.ceiling.epsilon:g} at delta "
                f"{self.ceiling.delta:.3g}, of which {self.spent():.4g} is spent"
            )
        self.reservations[run] = Reservation(run, releases)

    def charge(self, run: str, event: DpEvent) -> None:
        """Charge a release of a reserved plan, before anything is computed for it.

        Releases of the plan that the shop has missed are passed over, and stay paid for.

        Raises:
            RefusalError: No such reservation, or no such release is left in it.
        """
        entry = self.reservations.get(run)
        if entry is None:
            raise RefusalError(f"run {run}: no plan was accepted")
        for position in range(entry.charged, len(entry.releases)):
            if entry.releases[position] == event:
                self.reservations[run] = Reservation(run, entry.releases, position + 1)
                return
        raise RefusalError(f"run {run}: the accepted plan has no such release left")
