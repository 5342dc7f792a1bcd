"""Skellam noise: whole numbers whose sums are Skellam again, so that shops can share the noise of one sum.

Drawn exactly, but for what is said below, by inverting the cumulative distribution with cryptographic bits.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ive

from hansa.rng import Generator, Keystream

Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]

_BLOCK = 1 << 16  # numbers at a time: few enough for the cache
_BITS = 63  # of a word that say how large a number is; the last one says its sign
_GUIDE = 18  # bits of a word that the guide table is asked with
_FINER = 32  # further bits that the cumulative distribution is kept to
_SERIES = 1e4  # variance from which the asymptotic series is exact to the last bit
_TAIL = 2.0**-100
LARGEST_VARIANCE = 1e13


class Skellam:
    """The difference of two Poisson numbers of the same mean: Skellam (1946).

    Guarantee: every number is independent, and its distribution is that of ``masses``, rounded to 2^-95,
    which are the exact ones up to a relative 10^-13, cut where less than 2^-80 is left; so that d numbers
    together differ from exact ones by a factor of at most exp(10^-13 d) but for an event of probability
    2^-70 d. It assumes that AES in counter mode cannot be told from true bits, and a secret generator.

    Args:
        variance: Of each number, above 0 and at most 10^13.

    Raises:
        ValueError: The variance is out of range.
    """

    def __init__(self, variance: float) -> None:
        if not 0 < variance <= LARGEST_VARIANCE:
            raise ValueError(
                f"the variance of Skellam noise must be above 0 and below 1e13, not {variance:g}"
            )
        self.variance = variance
        self._thresholds, self._finer, self._guide = _table(variance)

    def add_to(self, total: npt.NDArray[np.int64], generator: Generator) -> None:
        """Add a fresh number to every entry of ``total`` int64 [entries], in place."""
        keystream, buffer = Keystream(generator), np.empty(8 * _BLOCK, dtype=np.uint8)
        more = Keystream(generator)
        for block, low in enumerate(range(0, len(total), _BLOCK)):
            some = total[low : low + _BLOCK]
            keystream.fill(block, buffer)
            words = buffer.view(np.uint64)[: len(some)]
            sizes = self.sizes(words >> np.uint64(1), more, block)
            some += np.where(words & np.uint64(1), -sizes, sizes)

    def sizes(self, words: Words, more: Keystream, block: int) -> npt.NDArray[np.int32]:
        """Absolute values for words of 63 bits, by a guide table (Chen and Asau 1974).

        Args:
            words: uint64 [n], below 2^63.
            more: Further bits, asked for only where a word alone does not decide.
            block: The part of ``more`` to take.
        """
        sizes: npt.NDArray[np.int32] = self._guide[(words >> np.uint64(_BITS - _GUIDE)).view(np.int64)]
        open_ = np.flatnonzero(sizes < 0)
        searched = words[open_]
        found = np.searchsorted(self._thresholds, searched, side="left")
        # A threshold is a whole word and some finer bits; those below the word are passed for certain.
        equal = self._thresholds[np.minimum(found, len(self._thresholds) - 1)] == searched
        if equal.any():
            self._decide(found, searched, np.flatnonzero(equal), more, block)
        sizes[open_] = found
        return sizes

    def _decide(
        self, found: npt.NDArray[np.intp], words: Words, ties: Integers, more: Keystream, block: int
    ) -> None:
        bits = np.empty(8 * len(found), dtype=np.uint8)
        more.fill(block, bits)
        finer = bits.view(np.uint64) >> np.uint64(64 - _FINER)
        for place in ties:
            while (
                found[place] < len(self._thresholds)
                and self._thresholds[found[place]] == words[place]
                and self._finer[found[place]] <= finer[place]
            ):
                found[place] += 1


def masses(variance: float) -> npt.NDArray[np.float64]:
    """Probabilities of 0, 1, 2, ... until they vanish: exp(-variance) I_k(variance), relative error 10^-13.

    By scipy for small variances, by Debye's uniform expansion for large ones (DLMF 10.41.3, in powers of
    1 / sqrt(k^2 + variance^2)), of which four terms leave 10^-16 at a variance of 10^4.
    """
    deviation = math.sqrt(variance)
    last = math.ceil(12 * deviation + 60)
    k = np.arange(last + 1, dtype=np.float64)
    if variance < _SERIES:
        probabilities = ive(k, variance)
    else:
        root = np.hypot(k, variance)
        square = (k / root) ** 2  # p^2 of the expansion
        exponent = k * k / (root + variance) - k * np.arcsinh(k / variance)
        first = (3 - 5 * square) / 24
        second = (81 - 462 * square + 385 * square**2) / 1152
        third = (30375 - 369603 * square + 765765 * square**2 - 425425 * square**3) / 414720
        series = 1 + (first + (second + third / root) / root) / root
        probabilities = np.exp(exponent) / np.sqrt(2 * math.pi * root) * series
    return np.asarray(probabilities[probabilities > _TAIL])


@lru_cache(maxsize=8)  # a release's variance is that of its round at every shop
def _table(variance: float) -> tuple[Words, Words, npt.NDArray[np.int32]]:
    """Where absolute values end, in words of 63 bits and finer bits, and the guide to them.

    Value k is that of the words from threshold k - 1 on and below threshold k. The guide has, for the
    leading bits of a word, its value if these decide it, else -1.
    """
    probabilities = masses(variance)
    probabilities[1:] *= 2
    scaled = np.ldexp(probabilities, _BITS)
    whole = np.floor(scaled)
    parts = np.floor(np.ldexp(scaled - whole, _FINER)).astype(np.uint64)
    rounded = np.cumsum(parts)  # below 2^63 for 2^31 of them
    words = np.cumsum(whole.astype(np.uint64)) + (rounded >> np.uint64(_FINER))
    # What rounding has lost, or won, is shared by all: given to 0 alone it would show at large variances.
    lost = (1 << (_BITS + _FINER)) - ((int(words[-1]) << _FINER) + int(rounded[-1]) % (1 << _FINER))
    by = np.rint(lost * (words / float(words[-1]))).astype(np.int64)
    words, finer = _moved(words, rounded & np.uint64((1 << _FINER) - 1), by)
    words, finer = words[:-1], finer[:-1]  # the last value has no end
    starts = np.arange(1 << _GUIDE, dtype=np.uint64) << np.uint64(_BITS - _GUIDE)
    first = np.searchsorted(words, starts, side="left")
    last = np.append(first[1:], len(words))
    return words, finer, np.where(first == last, first, -1).astype(np.int32)


def _moved(words: Words, finer: Words, by: Integers) -> tuple[Words, Words]:
    """The fixed-point numbers, each moved by ``by`` units in the last place."""
    sums = finer + (by & ((1 << _FINER) - 1)).view(np.uint64)
    carried = words + (sums >> np.uint64(_FINER)) + (by >> _FINER).view(np.uint64)
    return carried, sums & np.uint64((1 << _FINER) - 1)
