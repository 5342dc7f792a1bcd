"""From mechanisms to epsilon: privacy-loss distributions, with Renyi DP beside them as a check.

Events are ``dp_accounting.DpEvent``s, the common vocabulary of mechanisms and accountants. Adjacency is
add or remove one customer throughout.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import dp_accounting
from dp_accounting import DpEvent as DpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from opacus.accountants import RDPAccountant as OpacusRdpAccountant

ACCOUNTANT = "PLD (dp-accounting, pessimistic, 1e-4)"
CROSS_CHECK = "RDP (Opacus)"
_GRID = 1e-4
_LARGEST_SCALE = 1e6
_NO_NOISE = 1e-3
_LARGEST_PLD_EPSILON = 20.0


def gaussian(noise_multiplier: float, sampling_rate: float = 1.0, count: int = 1) -> DpEvent:
    """The event of ``count`` Gaussian sums, each over a fresh Poisson sample of the customers.

    Args:
        noise_multiplier: Noise standard deviation over the clipping bound; 0 is no privacy at all.
        sampling_rate: Probability with which each customer takes part, secretly and independently.
        count: How many such sums.
    """
    if noise_multiplier == 0:
        return dp_accounting.NonPrivateDpEvent()
    event: DpEvent = dp_accounting.GaussianDpEvent(noise_multiplier)
    if sampling_rate < 1:
        event = dp_accounting.PoissonSampledDpEvent(sampling_rate, event)
    return dp_accounting.SelfComposedDpEvent(event, count)


def to_parts(event: DpEvent) -> list[tuple[float, float, int]]:
    """The event's Gaussian sums as (noise multiplier, sampling rate, count), to be written down."""
    return _leaves(event)


def from_parts(parts: list[tuple[float, float, int]]) -> DpEvent:
    """The event that ``to_parts`` gave; of several parts, their composition."""
    events = [gaussian(multiplier, rate, count) for multiplier, rate, count in parts]
    return events[0] if len(events) == 1 else compose(events)


def compose(events: list[DpEvent]) -> DpEvent:
    """All of the events, one after the other."""
    return dp_accounting.ComposedDpEvent(list(events))


def _leaves(event: DpEvent) -> list[tuple[float, float, int]]:
    """(noise multiplier, sampling rate, count) of each Gaussian inside; multiplier 0: not private."""
    if isinstance(event, dp_accounting.ComposedDpEvent):
        return [leaf for part in event.events for leaf in _leaves(part)]
    if isinstance(event, dp_accounting.SelfComposedDpEvent):
        return [(s, q, n * event.count) for s, q, n in _leaves(event.event)]
    if isinstance(event, dp_accounting.PoissonSampledDpEvent) and isinstance(
        event.event, dp_accounting.GaussianDpEvent
    ):  # one sample for several sums, or a sample of a sample, would need another accountant
        return [(s, event.sampling_probability, n) for s, _, n in _leaves(event.event)]
    if isinstance(event, dp_accounting.GaussianDpEvent):
        multiplier = event.noise_multiplier
        return [(multiplier if multiplier >= _NO_NOISE else 0.0, 1.0, 1)]
    if isinstance(event, dp_accounting.NonPrivateDpEvent):
        return [(0.0, 1.0, 1)]
    raise ValueError(f"no accountant for the event {type(event).__name__}")


def _merged(event: DpEvent) -> list[tuple[float, float, int]]:
    """The leaves with equal ones counted together."""
    counts: Counter[tuple[float, float]] = Counter()
    for multiplier, rate, count in _leaves(event):
        counts[multiplier, rate] += count
    return [(multiplier, rate, count) for (multiplier, rate), count in sorted(counts.items())]


def epsilon(event: DpEvent, delta: float) -> float:
    """The epsilon of ``event`` at ``delta`` by privacy-loss distributions; infinite without noise.

    Gaussians without sampling are first merged exactly: k sums with multiplier s are one with s / sqrt(k).
    Where Renyi DP exceeds 20, its bound is returned: the grid of such losses takes minutes and gigabytes.
    """
    rough = rdp_epsilon(event, delta)
    if rough > _LARGEST_PLD_EPSILON:
        return rough
    leaves = _merged(event)
    precision = sum(count / multiplier**2 for multiplier, rate, count in leaves if rate == 1)
    return _pld_epsilon(precision, tuple(leaf for leaf in leaves if leaf[1] < 1), delta)


@lru_cache(maxsize=4096)
def _pld_epsilon(precision: float, sampled: tuple[tuple[float, float, int], ...], delta: float) -> float:
    accountant = PLDAccountant(value_discretization_interval=_GRID)
    if precision:
        accountant.compose(dp_accounting.GaussianDpEvent(precision**-0.5))
    for multiplier, rate, count in sampled:
        accountant.compose(gaussian(multiplier, rate, count))
    return float(accountant.get_epsilon(delta))


def rdp_epsilon(event: DpEvent, delta: float) -> float:
    """The epsilon by Renyi DP at dp-accounting's fixed orders: looser, and additive over plans."""
    leaves = _merged(event)
    if any(multiplier == 0 for multiplier, _, _ in leaves):
        return math.inf
    accountant = RdpAccountant()
    for multiplier, rate, count in leaves:
        accountant.compose(gaussian(multiplier, rate, count))
    return float(accountant.get_epsilon(delta))


def cross_check(event: DpEvent, delta: float) -> float:
    """The epsilon of ``event`` by Opacus's own Renyi accountant: an independent upper bound."""
    leaves = _merged(event)
    if any(multiplier == 0 for multiplier, _, _ in leaves):
        return math.inf
    accountant = OpacusRdpAccountant()
    accountant.history = leaves
    # Opacus's own orders stop at 63, too few for small epsilons.
    orders = [float(order) for order in RdpAccountant().orders]
    with warnings.catch_warnings():  # an epsilon at the largest order is loose, not wrong
        warnings.simplefilter("ignore", UserWarning)
        return float(accountant.get_epsilon(delta, alphas=orders))


def with_overlap(event: DpEvent, shops: int, *, summed: bool) -> DpEvent:
    """The event seen by a person who is a customer of up to ``shops`` shops.

    In one sum over all shops that person moves the sum by up to ``shops`` bounds (group privacy of
    the Gaussian), and takes part with probability 1 - (1 - q)^shops; releases with each shop's own
    noise compose instead.

    Args:
        event: What one shop's customer undergoes.
        shops: Largest declared number m of shops, at least 1.
        summed: One noisy sum over shops (central), not one a shop (local).
    """
    if not summed:
        return dp_accounting.SelfComposedDpEvent(event, shops)
    return compose(
        [gaussian(s / shops, 1.0 if q == 1 else 1 - (1 - q) ** shops, n) for s, q, n in _leaves(event)]
    )


def calibrate(event_at: Callable[[float], DpEvent], target: float, delta: float) -> float:
    """The smallest scale of the noise whose epsilon is at most ``target``.

    Args:
        event_at: The event when all noise multipliers are multiplied by the scale.
        target: The epsilon to reach, above 0.
        delta: In (0, 1).

    Returns:
        A scale, within 0.01 % of the smallest and never below it.
    """
    high = 1.0
    while epsilon(event_at(high), delta) > target:
        high *= 2
        if high > _LARGEST_SCALE:
            raise ValueError(f"no noise reaches epsilon {target:g} at delta {delta:g}")
    low = high / 2
    while epsilon(event_at(low), delta) <= target:  # halving keeps privacy losses, and their grids, small
        high, low = low, low / 2
    while high / low > 1 + 1e-4:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if epsilon(event_at(middle), delta) <= target else (middle, high)
    return high
