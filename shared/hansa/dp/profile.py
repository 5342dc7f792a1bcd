"""What a claim says beyond one epsilon: the curve delta(epsilon), and Gaussian DP where it is proven."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from dp_accounting.rdp.rdp_privacy_accountant import compute_delta
from scipy.special import erfcx, log_ndtr, ndtr

from hansa.dp.accounting import (
    ORDERS,
    DpEvent,
    Others,
    composed_losses,
    grid_for,
    merged,
    rdp_epsilon,
    renyi_curve,
)
from hansa.dp.events import NON_PRIVATE, leaves

_ROUNDING = 1e-13
_GRID_DELTA = 1e-5  # the spacing is that of an epsilon at this delta; those of reports are not above it


def privacy_profile(event: DpEvent, epsilons: Sequence[float]) -> list[float]:
    """The smallest known delta for each of ``epsilons``, by the accountants of ``hansa.dp.accounting``.

    **Guarantee:** the event is (epsilon, delta)-DP at every point returned, and at all of them at once;
    adjacency add or remove one customer. Every point is pessimistic: the closed form for Gaussians without
    sampling (Balle and Wang 2018, arXiv 1805.06530, equation 6) with its rounding on top; else the
    lesser of the loss distribution's, whose losses are rounded up to the grid, and Renyi DP's at the best
    of ``ORDERS`` (Canonne, Kamath and Steinke 2020, arXiv 2004.00010, Proposition 12), alone where a
    part has no distribution. It holds for a plan that is fixed in advance.

    Args:
        event: Everything that was released.
        epsilons: Not below 0.

    Returns:
        Deltas in [0, 1], of a larger epsilon never more: 1 without noise.

    Raises:
        ValueError: No accountant knows a part of the event, or an epsilon is below 0.
    """
    if any(not value >= 0 for value in epsilons):
        raise ValueError("a privacy profile is asked for epsilons from 0 on")
    counts = leaves(event)
    if NON_PRIVATE in counts:
        return [1.0] * len(epsilons)
    precision, others = merged(counts)
    if not others:
        return [gaussian_delta(math.sqrt(precision), value) for value in epsilons]
    curve = renyi_curve(event)
    deltas = [float(compute_delta(ORDERS, curve, value)[0]) for value in epsilons]
    grid = grid_for(others, rdp_epsilon(event, _GRID_DELTA))
    if grid is not None:
        by_losses = _pld_deltas(precision, others, grid, tuple(map(float, epsilons)))
        deltas = [min(pair) for pair in zip(deltas, by_losses, strict=True)]
    return deltas


@lru_cache(maxsize=256)  # a report is made, and verified, from the same events
def _pld_deltas(
    precision: float, others: Others, grid: float, epsilons: tuple[float, ...]
) -> tuple[float, ...]:
    losses = composed_losses(precision, others, grid)
    return tuple(min(1.0, max(0.0, float(losses.get_delta_for_epsilon(value)))) for value in epsilons)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Delta of mu-GDP: Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu), rounded up.

    Dong, Roth and Su 2022 (arXiv 1905.02383), Corollary 2.13. With x = epsilon/mu - mu/2 and Mills' ratio M
    it is phi(x) (M(x) - M(x + mu)), which neither underflows nor cancels in the tail.

    Args:
        mu: Not below 0.
        epsilon: Not below 0.
    """
    if mu == 0:
        return 0.0
    if math.isinf(epsilon):
        return 0.0
    x = epsilon / mu - mu / 2
    if x <= 0:
        first = float(ndtr(-x))
        return min(1.0, first - math.exp(epsilon + float(log_ndtr(-x - mu))) + _ROUNDING)
    first, second = _mills(x), _mills(x + mu)
    density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return min(1.0, density * (first - second + _ROUNDING * first) * (1 + _ROUNDING * x * x))


def _mills(x: float) -> float:
    """Phi(-x) / phi(x), for x of at least 0."""
    return float(erfcx(x / math.sqrt(2))) * math.sqrt(math.pi / 2)


def dominating_mu(event: DpEvent) -> float | None:
    """The smallest mu such that mu-GDP says all about ``event``: sqrt(sum 1 / sigma^2) of plain Gaussians.

    Dong, Roth and Su 2022 (arXiv 1905.02383), Theorem 2.7 and Corollary 3.3; exact, since a composition of
    Gaussians is a Gaussian. None, "missing", where no such number is of use:

    - Poisson-sampled Gaussians. A profile that was computed at some epsilons cannot prove domination, which
      is a claim about all of them. And proof goes the other way: far out the privacy loss of a sampled
      step is that of the unsampled one plus log q, hence of the same Gaussian tail, and no mu below the
      unsampled sqrt(sum 1 / sigma^2) dominates it for every epsilon. That one does, and says nothing of
      the sampling. An approximating mu (their central limit theorem) is no bound, and never given.
    - Skellam noise and other mechanisms that are known by their Renyi curve alone: no curve at some
      orders, whatever it is, bounds the trade-off between both errors by a Gaussian's.
    - A part without noise.

    Raises:
        ValueError: No accountant knows a part of the event.
    """
    counts = leaves(event)
    if NON_PRIVATE in counts:
        return None
    precision, others = merged(counts)
    return None if others else math.sqrt(precision)
