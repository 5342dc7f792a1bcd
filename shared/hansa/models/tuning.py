"""Choosing a setting on interactions held back from training, never on test items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hansa.metrics import Values
from hansa.rng import Generator
from hansa.schema import Histories

T = TypeVar("T")


@dataclass(frozen=True)
class HoldBack:
    """Training interactions in two disjoint parts, same customers in the same order.

    Attributes:
        kept: What trial models are fitted on.
        held: What they are judged by.
        whole: Both.
    """

    kept: Histories
    held: Histories
    whole: Histories

    def sample(self, customers: int) -> HoldBack:
        """At most about that many customers, evenly spaced over the rows."""
        step = max(1, len(self.kept) // max(1, customers))
        chosen = np.arange(0, len(self.kept), step)
        return HoldBack(self.kept.select(chosen), self.held.select(chosen), self.whole.select(chosen))


def hold_back(histories: Histories, rng: Generator | None = None) -> HoldBack:
    """Hold back max(1, floor(n / 5)) of each customer's n interactions, none where n < 2.

    Args:
        histories: Rows oldest first.
        rng: Draws the held-back interactions; None takes the newest.
    """
    lengths = histories.lengths
    counts = np.where(lengths < 2, 0, np.maximum(1, lengths // 5))
    rows = histories.rows_index
    age = histories.offsets[1:][rows] - 1 - np.arange(len(rows))
    if rng is not None:
        order = np.lexsort((rng.random(len(rows)), rows))
        age[order] = age.copy()
    held = age < counts[rows]
    return HoldBack(histories.where(~held), histories.where(held), histories)


def convincing(challenger: Values, champion: Values, errors: float | None = None) -> bool:
    """Whether a paired mean gain exceeds ``errors`` of its standard errors.

    A setting is left for another only then, so that small shops stay near the public default
    instead of following noise, and large ones are free.

    Args:
        challenger: [customers] values of a metric; NaN is left out.
        champion: [customers] values of the setting in place.
        errors: How many standard errors are asked for; None takes min(2, 20 / sqrt(n)), as a
            prior belief of fixed strength in the default would.
    """
    gain = challenger - champion
    gain = gain[~np.isnan(gain)]
    n = len(gain)
    if n < 2:
        return False
    asked = min(2.0, 20 / np.sqrt(n)) if errors is None else errors
    return bool(gain.mean() > asked * gain.std(ddof=1) / np.sqrt(n))


def climb(
    trial: Callable[[float], tuple[T, Values]], start: float, factor: float, steps: int
) -> tuple[T, Values]:
    """Walk a geometric grid uphill from ``start``; go there only if the peak convinces.

    Args:
        trial: A fitted model and its values [customers] at a point.
        start: First point, positive: a public default.
        factor: Ratio of neighbours.
        steps: Most steps in either direction.

    Returns:
        The model and the values of the peak, or of ``start``.
    """
    first = best = trial(start)
    for ratio in (1 / factor, factor):
        for step in range(1, steps + 1):
            found = trial(start * ratio**step)
            if not convincing(found[1], best[1], errors=0):
                break
            best = found
        if best is not first:
            break
    return best if convincing(best[1], first[1]) else first
