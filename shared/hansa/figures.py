"""Public figures: a declared number of customers, its delta, and how epsilon and delta are written."""

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


def epsilon_text(epsilon: float | None) -> str:
    """Three decimals, rounded up: a stated epsilon is never below the true one."""
    if epsilon is None:
        return "none"
    return f"{math.ceil(round(epsilon * 1000, 6)) / 1000:.10g}"


def delta_text(delta: float | None) -> str:
    """Three significant digits, as in 1e-5."""
    return "none" if delta is None else f"{delta:.3g}".replace("e-0", "e-")
