"""Public figures: what a number of customers is declared as, and the delta that follows from it."""

from __future__ import annotations

import math


def default_delta(customers: int) -> float:
    """min(1e-5, N^-1.1) for a declared upper bound N on the federation's customers."""
    return float(min(1e-5, customers**-1.1))


def declared(customers: int) -> int:
    """A public round figure that bounds a number of customers: the next of 1, 1.5, 2, 3, 5, 7 times 10^k."""
    power: int = 10 ** max(0, len(str(max(1, customers))) - 1)
    for factor in (1, 1.5, 2, 3, 5, 7, 10):
        if customers <= factor * power:
            return math.ceil(factor * power)
    raise AssertionError("unreachable: 10 times the power exceeds any number of as many digits")
