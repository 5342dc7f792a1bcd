"""A Renyi filter of one fixed order: how much budget is left when later plans depend on earlier results."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from hansa.dp.accounting import DpEvent, renyi_curve

# Whole numbers: at others the divergence of a sampled Gaussian is a series that may not converge.
_ORDERS = (*range(2, 64), *range(64, 256, 16), *range(256, 1025, 128))


@dataclass(frozen=True)
class RenyiFilter:
    """Adds up Renyi divergences of one order, chosen before any data is seen.

    Guarantee: mechanisms chosen adaptively, each with knowledge of all earlier outputs, are together
    (epsilon, delta)-DP as long as the sum of their Renyi costs stays within ``budget(epsilon)``: Feldman
    and Zrnic 2021, arXiv 2008.11193, Theorem 3.1, and the conversion of Canonne, Kamath and Steinke 2020,
    arXiv 2004.00010, Proposition 12. The order must be fixed: the best of several orders, picked
    when the costs are known, has no such proof.

    Attributes:
        order: Renyi order alpha, above 1.
        delta: In (0, 1).
    """

    order: float
    delta: float

    @classmethod
    def for_ceiling(cls, epsilon: float, delta: float) -> RenyiFilter:
        """The filter of the order that admits most Gaussian noise events, whose cost is linear in it."""
        if not math.isfinite(epsilon):
            return cls(2.0, delta)  # of no consequence
        return max(
            (cls(float(order), delta) for order in _ORDERS),
            key=lambda candidate: candidate.budget(epsilon) / candidate.order,
        )

    def budget(self, epsilon: float) -> float:
        """The largest sum of costs that is (epsilon, delta)-DP; negative where even none is too many."""
        return epsilon - self._conversion

    def epsilon(self, cost: float) -> float:
        """Epsilon of events of this total cost; 0 where there were none."""
        return max(0.0, cost + self._conversion) if cost > 0 else 0.0

    def delta_at(self, cost: float, epsilon: float) -> float:
        """The delta at which events of this total cost are (epsilon, delta)-DP: ``epsilon`` solved for it."""
        if cost <= 0:
            return 0.0
        return math.exp((self.order - 1) * (cost + math.log1p(-1 / self.order) - epsilon)) / self.order

    def cost(self, events: Iterable[DpEvent]) -> float:
        """Sum of the Renyi divergences of the events; infinite where one has no noise."""
        return math.fsum(float(renyi_curve(event, (self.order,))[0]) for event in events)

    @property
    def _conversion(self) -> float:
        return math.log1p(-1 / self.order) - math.log(self.delta * self.order) / (self.order - 1)
