"""From events to epsilon: privacy-loss distributions, with Renyi DP beside them as a check."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache

import dp_accounting
import numpy as np
import numpy.typing as npt
from dp_accounting.dp_event import MixtureOfGaussiansDpEvent
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.rdp import RdpAccountant, compute_epsilon
from scipy.optimize import brentq

from hansa.dp.events import (
    NON_PRIVATE,
    DpEvent,
    Part,
    compose,
    covering,
    from_parts,
    gaussian,
    leaves,
    multiplier_and_rate,
    skellam,
    to_parts,
    with_overlap,
)
from hansa.dp.renyi import RenyiEvent, SkellamEvent

__all__ = [
    "ACCOUNTANT",
    "CROSS_CHECK",
    "ORDERS",
    "SKELLAM_ACCOUNTANT",
    "DpEvent",
    "Part",
    "RenyiEvent",
    "SkellamEvent",
    "calibrate",
    "compose",
    "cross_check",
    "epsilon",
    "from_parts",
    "gaussian",
    "rdp_epsilon",
    "renyi_curve",
    "skellam",
    "to_parts",
    "with_overlap",
]

ACCOUNTANT = "closed form for plain Gaussians, else PLD (dp-accounting, pessimistic)"
SKELLAM_ACCOUNTANT = "RDP of Skellam noise (Agarwal et al. 2021), q = 1"
CROSS_CHECK = "RDP (Opacus)"
ORDERS: tuple[float, ...] = tuple(float(order) for order in RdpAccountant().orders if order >= 2)
"""The Renyi orders of every figure: dp-accounting's own from 2 on, below which series fail to converge."""

_GRID = 1e-4
_COARSE_GRID = 1e-3
_GRID_MARGIN = 1e-6
_LARGEST_SCALE = 1e6
_LARGEST_AT_GRID = 20.0
_LARGEST_PLD_EPSILON = 2000.0
_MOST_PLD_LEAVES = 20

Curve = npt.NDArray[np.float64]
Others = tuple[tuple[DpEvent, int], ...]


def epsilon(event: DpEvent, delta: float) -> float:
    """The epsilon of ``event`` at ``delta`` by privacy-loss distributions; infinite without noise.

    Gaussians without sampling merge exactly, k sums of multiplier s into one of s / sqrt(k), and alone
    they have a closed form (Balle and Wang 2018, arXiv 1805.06530, equation 6), which is returned with
    10^-6 on top, no less than the distribution on its grid gives for epsilons of 0.01 and more. For
    mixtures, and where Renyi DP exceeds 20, the grid is wider, since the time and memory of a fine one
    would grow with the losses; never is the answer above ``rdp_epsilon``, and it is that where a part
    has no distribution (``RenyiEvent``).

    Raises:
        ValueError: No accountant knows a part of the event.
    """
    return _epsilon(event, delta, _GRID)


def _epsilon(event: DpEvent, delta: float, grid: float) -> float:
    counts = leaves(event)
    if NON_PRIVATE in counts:
        return math.inf
    precision, others = merged(counts)
    if not others:
        return _gaussian_epsilon(precision, delta)
    rough = rdp_epsilon(event, delta)
    spacing = grid_for(others, rough, grid)
    return rough if spacing is None else min(rough, _pld_epsilon(precision, others, delta, spacing))


def merged(counts: Mapping[DpEvent, int]) -> tuple[float, Others]:
    """Plain Gaussians as the sum of their 1 / sigma^2, and all other mechanisms with their counts."""
    plain = [leaf for leaf in counts if isinstance(leaf, dp_accounting.GaussianDpEvent)]
    precision = math.fsum(counts[leaf] / leaf.noise_multiplier**2 for leaf in plain)
    others = ((leaf, count) for leaf, count in counts.items() if leaf not in plain)
    return precision, tuple(sorted(others, key=repr))


def grid_for(others: Others, rough: float, grid: float = _GRID) -> float | None:
    """Spacing of the loss distribution of an epsilon near ``rough``; None where there is none to be had."""
    if (
        len(others) > _MOST_PLD_LEAVES
        or rough > _LARGEST_PLD_EPSILON
        or any(isinstance(leaf, RenyiEvent) for leaf, _ in others)
    ):
        return None
    if any(isinstance(leaf, MixtureOfGaussiansDpEvent) for leaf, _ in others):
        grid = max(grid, _COARSE_GRID)
    while rough > grid / _GRID * _LARGEST_AT_GRID:
        grid *= 10
    return grid


@lru_cache(maxsize=4096)  # thousands of shops ask for the same plan's
def _gaussian_epsilon(precision: float, delta: float) -> float:
    if precision == 0:
        return 0.0
    with np.errstate(divide="ignore"):  # a delta of 0 on the way is fine
        exact = float(dp_accounting.get_epsilon_gaussian(precision**-0.5, delta))
    return exact + _GRID_MARGIN if exact else 0.0


@lru_cache(maxsize=4096)
def _pld_epsilon(precision: float, others: Others, delta: float, grid: float) -> float:
    return float(composed_losses(precision, others, grid).get_epsilon_for_delta(delta))


def composed_losses(precision: float, others: Others, grid: float) -> pld.PrivacyLossDistribution:
    """The pessimistic privacy-loss distribution of what ``merged`` gave."""
    total = pld.identity(value_discretization_interval=grid)
    if precision:
        total = total.compose(_losses(dp_accounting.GaussianDpEvent(precision**-0.5), grid))
    for leaf, count in others:
        total = total.compose(_losses(leaf, grid).self_compose(count))
    return total


@lru_cache(maxsize=16)  # a few megabytes each
def _losses(leaf: DpEvent, grid: float) -> pld.PrivacyLossDistribution:
    """The pessimistic privacy-loss distribution of one mechanism."""
    if isinstance(leaf, MixtureOfGaussiansDpEvent):
        return pld.from_mixture_gaussian_mechanism(
            standard_deviation=leaf.standard_deviation,
            sensitivities=leaf.sensitivities,
            sampling_probs=leaf.sampling_probs,
            value_discretization_interval=grid,
        )
    sampled = isinstance(leaf, dp_accounting.PoissonSampledDpEvent)
    return pld.from_gaussian_mechanism(
        standard_deviation=leaf.event.noise_multiplier if sampled else leaf.noise_multiplier,
        sampling_prob=leaf.sampling_probability if sampled else 1.0,
        value_discretization_interval=grid,
    )


class _CurveAccountant(RdpAccountant):  # type: ignore[misc]
    """dp-accounting's accountant with its curve to be read."""

    @property
    def curve(self) -> Curve:
        return np.asarray(self._rdp, dtype=np.float64)


def renyi_curve(event: DpEvent, orders: tuple[float, ...] = ORDERS) -> Curve:
    """Upper bounds on the Renyi divergence of ``event`` at each of ``orders``: float64 [orders].

    They add up over events, also over those chosen one after the other. Of a mixture (see
    ``with_overlap``) the bound is that of the sampled Gaussian that covers it.

    Raises:
        ValueError: No accountant knows a part of the event.
    """
    total = np.zeros(len(orders))
    for leaf, count in leaves(event).items():
        total += count * _leaf_curve(leaf, orders)
    return total


@lru_cache(maxsize=4096)
def _leaf_curve(leaf: DpEvent, orders: tuple[float, ...]) -> Curve:
    if isinstance(leaf, RenyiEvent):
        return np.array([leaf.renyi(order) for order in orders])
    accountant = _CurveAccountant(orders)
    accountant.compose(covering(leaf) if isinstance(leaf, MixtureOfGaussiansDpEvent) else leaf)
    return accountant.curve


def rdp_epsilon(event: DpEvent, delta: float) -> float:
    """The epsilon by Renyi DP at the best of ``ORDERS``: looser than ``epsilon``, and cheap.

    It adds curves that are kept for each mechanism, so that a long list costs no more than its
    different members. It holds for a plan fixed in advance. The best order depends on the events: for
    plans chosen one after the other, ask ``hansa.dp.filter``, which fixes the order beforehand.

    Raises:
        ValueError: No accountant knows a part of the event.
    """
    curve = renyi_curve(event)
    if not np.isfinite(curve).any():
        return math.inf
    return float(compute_epsilon(ORDERS, curve, delta)[0])


def cross_check(event: DpEvent, delta: float) -> float:
    """The epsilon of ``event`` by Opacus's own Renyi analysis: an independent upper bound.

    Opacus's accountant stops at order 63, too few for small epsilons, so the orders are ``ORDERS``.
    Where Opacus does not know a mechanism, its own curve or covering Gaussian is used.

    Raises:
        ValueError: No accountant knows a part of the event.
    """
    from opacus.accountants.analysis import rdp as opacus_rdp  # takes seconds, and few need it

    counts = leaves(event)
    if NON_PRIVATE in counts:
        return math.inf
    curve = np.zeros(len(ORDERS))
    for leaf, count in counts.items():
        if isinstance(leaf, RenyiEvent):
            curve += count * _leaf_curve(leaf, ORDERS)
            continue
        multiplier, rate = multiplier_and_rate(
            covering(leaf) if isinstance(leaf, MixtureOfGaussiansDpEvent) else leaf
        )
        if not multiplier:
            return math.inf
        curve += opacus_rdp.compute_rdp(q=rate, noise_multiplier=multiplier, steps=count, orders=ORDERS)
    with warnings.catch_warnings():  # an epsilon at the largest order is loose, not wrong
        warnings.simplefilter("ignore", UserWarning)
        return max(0.0, float(opacus_rdp.get_privacy_spent(orders=ORDERS, rdp=curve, delta=delta)[0]))


def calibrate(event_at: Callable[[float], DpEvent], target: float, delta: float) -> float:
    """The smallest scale of the noise whose epsilon is at most ``target``.

    Args:
        event_at: The event when all noise multipliers are multiplied by the scale.
        target: The epsilon to reach, above 0.
        delta: In (0, 1).

    Returns:
        A scale, within 0.01 % of the smallest and never below it.

    Raises:
        ValueError: No noise reaches the target.
    """

    def excess(log_scale: float, grid: float) -> float:
        """Between -1 and 1, falling with the noise; bounded, so that root finding never meets infinity."""
        return min(_epsilon(event_at(math.exp(log_scale)), delta, grid) / target, 2.0) - 1.0

    high = 0.0
    while excess(high, _COARSE_GRID) > 0:
        high += math.log(2)
        if high > math.log(_LARGEST_SCALE):
            raise ValueError(f"no noise reaches epsilon {target:g} at delta {delta:g}")
    low = high - math.log(2)
    while excess(low, _COARSE_GRID) <= 0:  # halving keeps privacy losses, and their grids, small
        low, high = low - math.log(2), low
    high = brentq(excess, low, high, args=(_COARSE_GRID,), xtol=2e-5)
    # The fine grid is less pessimistic, by a little: one step of Newton's, and the answer is checked.
    slope = (excess(high - 0.01, _COARSE_GRID) - excess(high, _COARSE_GRID)) / 0.01
    high += min(0.0, excess(high, _GRID)) / max(slope, 0.1) + 1e-5
    while excess(high, _GRID) > 0:
        high += 2e-5
    return math.exp(high)
