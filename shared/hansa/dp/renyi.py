"""Mechanisms that are known by their Renyi curve, for noise that has no loss distribution here."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from dp_accounting import DpEvent


class RenyiEvent(DpEvent, ABC):  # type: ignore[misc]
    """A mechanism that is known by its own Renyi curve.

    Subclasses are frozen dataclasses of public numbers, so that equal mechanisms are counted together.
    """

    @abstractmethod
    def renyi(self, order: float) -> float:
        """Upper bound on the Renyi divergence of ``order`` (above 1) between adjacent data, either way."""


@dataclass(frozen=True)
class SkellamEvent(RenyiEvent):
    """A sum of integer vectors with Skellam noise in each entry.

    Guarantee: the curve is that of Agarwal, Kairouz and Liu 2021 (arXiv 2110.04995, Theorem 3.5) at whole
    orders a; between them (a - 1) times the divergence lies on the chord, since its logarithm of moments is
    convex (Hoelder). There is no amplification by sampling. Adjacency add or remove one customer, whose
    vector is of whole numbers within both norms.

    Attributes:
        variance: mu, of the noise in one entry.
        squared: Square of the largest L2 norm of a customer's vector, a whole number.
        absolute: Its largest L1 norm.
    """

    variance: float
    squared: int
    absolute: int

    def __post_init__(self) -> None:
        if not (0 < self.variance < math.inf and self.squared > 0 and self.absolute > 0):
            raise ValueError("variance and norms must be finite and above 0")

    def renyi(self, order: float) -> float:
        """See ``RenyiEvent``."""
        below = math.floor(order)
        part = order - below
        moment = (below - 1) * self._at_whole(below) if below > 1 else 0.0
        if part:
            moment += part * (below * self._at_whole(below + 1) - moment)
        return moment / (order - 1)

    def _at_whole(self, order: int) -> float:
        mu = self.variance
        excess = ((2 * order - 1) * self.squared + 6 * self.absolute) / (4 * mu * mu)
        return order * self.squared / (2 * mu) + min(excess, 3 * self.absolute / (2 * mu))

    def at_shops(self, shops: int) -> SkellamEvent:
        """The same sum as seen by a customer of up to ``shops`` shops, who moves it once in each."""
        return SkellamEvent(self.variance, self.squared * shops**2, self.absolute * shops)
