"""The Skellam mechanism: sums of whole numbers modulo a power of two, whose noise many shops share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from dp_accounting import DpEvent

from hansa.dp.events import NON_PRIVATE, skellam
from hansa.dp.skellam import LARGEST_VARIANCE, Skellam
from hansa.rng import Generator
from hansa.secagg.masks import Residues, residue_type

Integers = npt.NDArray[np.int64]

_LEAST_SCALE, _LARGEST_SCALE = 12, 16
_SPREAD = 8
_ROOM = 10.0
_LARGEST_BITS = 64


@dataclass(frozen=True)
class IntegerSkellam:
    """The Skellam mechanism of Agarwal, Kairouz and Liu 2021 (arXiv 2110.04995, Algorithm 1), unrotated.

    A customer's contribution of L2 norm at most ``bound`` becomes whole multiples of ``quantum`` by
    stochastic rounding (``hansa.dp.rounding``), of squared norm at most ``squared`` whatever the coins. Each
    shop adds a share of the noise to its sum; the shares of ``honest`` shops make up the whole noise.

    Guarantee: the sum over all shops of what customers contribute and of at least ``honest`` shares has
    ``event``, for adding or removing one customer of one shop, against everyone who does not know these
    shares; also modulo 2^bits, which is post-processing. That the sum is all that is seen is for masking to
    ensure, and the number of honest shops an assumption.

    Attributes:
        bound: Largest L2 norm C of a contribution.
        multiplier: Noise multiplier z of the whole noise; 0 is no privacy.
        entries: Numbers released together.
    """

    bound: float
    multiplier: float
    entries: int

    @property
    def scale(self) -> int:
        """The bound in quanta: a power of two, 8 roots of the entries if possible, so that rounding is small.

        Each rounding adds a quarter to an entry's square at most, on average: at 8 roots of the entries, a
        256th of the squared bound in all.
        """
        fitting = math.ceil(math.log2(_SPREAD * math.sqrt(max(1, self.entries))))
        return int(2 ** min(max(fitting, _LEAST_SCALE), _LARGEST_SCALE))

    @property
    def quantum(self) -> float:
        """What a whole number stands for."""
        return self.bound / self.scale

    @property
    def squared(self) -> int:
        """Largest squared L2 norm of a customer's whole numbers.

        The bound itself, what rounding adds on average at most, and four standard deviations of that; the
        rare contribution above it is rounded towards zero instead.
        """
        return self.scale**2 + math.ceil(self.entries / 4) + 4 * self.scale

    @property
    def absolute(self) -> int:
        """Largest L1 norm: of whole numbers it is at most the squared L2 norm, and by Cauchy and Schwarz."""
        return min(math.isqrt(self.entries * self.squared) + 1, self.squared)

    @property
    def variance(self) -> float:
        """Of the whole noise in an entry, in squared quanta."""
        return self.multiplier * self.multiplier * self.squared

    @property
    def deviation(self) -> float:
        """Standard deviation of the whole noise, in the units of the contributions."""
        return math.sqrt(self.variance) * self.quantum

    @property
    def event(self) -> DpEvent:
        """What the sum costs a customer of one shop."""
        return skellam(self.variance, self.squared, self.absolute) if self.multiplier else NON_PRIVATE

    def bits(self, customers: int, shares: float) -> int:
        """Width of the modulus, in whole bytes, at which nothing wraps around.

        Wrapping would cost accuracy, never privacy.

        Args:
            customers: Declared upper bound on the customers of all shops.
            shares: Shares of the noise in the sum over ``honest``.

        Raises:
            ValueError: More than 64 bits would be needed.
        """
        reach = customers * math.sqrt(self.squared) + _ROOM * math.sqrt(self.variance * shares)
        bits = 8 * math.ceil((math.log2(reach) + 1) / 8)
        if bits > _LARGEST_BITS:
            raise ValueError(f"sums would need {bits} bits; declare fewer customers")
        return max(16, bits)

    def share(self, honest: int) -> float:
        """Variance of one shop's share of the noise, in squared quanta.

        Raises:
            ValueError: No noise so large can be drawn.
        """
        variance = self.variance / honest
        if variance > LARGEST_VARIANCE:
            raise ValueError(f"a shop's share of the noise would have variance {variance:.3g}, above 1e13")
        return variance

    def add_share(self, total: Integers, honest: int, generator: Generator) -> None:
        """Add one shop's share of the noise to int64 [entries], in place; ``generator`` is secret."""
        if self.variance:
            Skellam(self.share(honest)).add_to(total, generator)


def residues(total: Integers, bits: int) -> Residues:
    """Whole numbers modulo 2^bits, as uint32 up to 32 bits, else uint64."""
    words: Residues = total.view(np.uint64).astype(residue_type(bits), copy=False)
    if bits % 32:
        words = words & words.dtype.type((1 << bits) - 1)
    return words
