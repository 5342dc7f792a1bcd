"""A sum over shops that a few dishonest ones cannot set: the trimmed mean times the number of shops.

Yin, Chen, Ramchandran and Bartlett 2018, arXiv 1803.01498, definition 2: in every coordinate the largest and
the smallest few values are cut, and the mean of the others stands for all. What a dishonest shop can do is
move a coordinate to where the honest shops' extremes are: by about one and a half deviations of one shop's
noise where noise dominates, however much it sends. What stays within that range nobody can tell from noise.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from hansa.dp.private_sum import Table
from hansa.rng import seeded_generator

_DRAWS = 4_000
_BLOCK = 1 << 16


class TrimmedSum:
    """Adds tables one by one; holds 2 ``cut`` + 1 of them, and their sum, however many there are.

    Once there are 2 ``cut`` + 1 values of a coordinate, the one in their middle has ``cut`` on either side,
    and whatever comes later only adds to these: it can be summed and forgotten. No value that is cut is ever
    added, so that not even a huge one leaves a trace of rounding.

    Args:
        rows: Rows of the tables.
        width: Their columns.
        cut: How many values are cut at each end of every coordinate; 0 for the plain sum.
    """

    def __init__(self, rows: int, width: int, cut: int = 0) -> None:
        self.shape, self.cut, self.added = (rows, width), cut, 0
        # Float64, so that the order in which tables come does not matter beyond the last bit of float32.
        self._middle = np.zeros(self.shape, dtype=np.float64)
        values = 2 * cut + 1 if cut else 0
        self._extremes: npt.NDArray[np.float32] = np.empty((rows * width, values), dtype=np.float32)

    def add(self, table: Table) -> None:
        """Add a table.

        Args:
            table: float32 [rows, width], finite.
        """
        self.added += 1
        if not self.cut:
            self._middle += table
            return
        ends = 2 * self.cut
        if self.added <= ends:  # the columns but the one at ``cut``, which whatever comes after goes through
            self._extremes[:, (self.cut + self.added) % (ends + 1)] = table.ravel()
            return
        flat, middle = table.ravel(), self._middle.ravel()
        for start in range(0, len(flat), _BLOCK):  # so that each is still in the cache when it is summed
            block = slice(start, start + _BLOCK)
            values = self._extremes[block]
            values[:, self.cut] = flat[block]
            values.partition(self.cut, axis=1)
            middle[block] += values[:, self.cut]

    def total(self) -> Table:
        """The sum, float32 [rows, width].

        Raises:
            ValueError: No more tables than are cut.
        """
        if not self.enough:
            raise ValueError(f"{self.added} tables, and {self.cut} are cut at each end")
        scale = self.added / max(1, self.added - 2 * self.cut)
        return (self._middle * scale).astype(np.float32)

    @property
    def enough(self) -> bool:
        """Whether anything would be left between the ends."""
        return self.cut == 0 or self.added > 2 * self.cut


@lru_cache(maxsize=256)
def noise_excess(shops: int, cut: int) -> float:
    """How many times the noise of the plain sum the trimmed one has, as a standard deviation.

    For independent normal noise of one size, mean M and residuals are independent (Basu), hence so are M and
    T - M for the trimmed mean T, and Var T = Var M + Var(T - M). The second is a small part, so that a few
    thousand draws, always the same, give the whole to half a percent. It holds in coordinates where the noise
    dominates; where the shops' own sums lie further apart than the noise, it is at most
    sqrt(shops / (shops - 2 cut)).

    Args:
        shops: Shops in the sum.
        cut: Values cut at each end, fewer than half of them.
    """
    if cut == 0:
        return 1.0
    noise = seeded_generator(0, "trimmed mean of noise").standard_normal((_DRAWS, shops))
    noise.sort(axis=1)
    apart = noise[:, cut : shops - cut].mean(axis=1) - noise.mean(axis=1)
    return math.sqrt(1 + shops * float(np.mean(apart**2)))
