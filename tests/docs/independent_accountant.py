"""What sums cost, by the formulas of ``docs/audit-report.md``: the accountant of :mod:`independent_verifier`.

A customer more or less: Renyi divergences, their conversion, and loss distributions of sampled Gaussians.
"""

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from scipy.special import log_ndtr

Part = list[Any]
ORDERS = [float(a) for a in [*range(2, 64), *range(64, 257, 16), *range(384, 1025, 128)]]
FINE = [a / 10 for a in range(20, 110)] + [float(a) for a in [*range(11, 64), 128, 256, 512, 1024]]


def known(part: Any) -> Part:
    """A part, or ValueError: numbers in ranges where the formulas hold."""
    rest = part[1:] if part[0] == "skellam" else part
    plain = all(isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in rest)
    if (
        not plain
        or len(rest) != (4 if part[0] == "skellam" else 3)
        or not isinstance(rest[-1], int)
        or rest[-1] < 1
    ):
        raise ValueError(f"{part} is no part")
    if not (
        rest[0] > 0 and min(rest[1:3]) >= 0 if part[0] == "skellam" else rest[0] >= 0 and 0 < rest[1] <= 1
    ):
        raise ValueError(f"{part} is no part")
    return list(part)


def divergence(part: Part, alpha: float) -> float:
    """Renyi divergence of all sums of a part."""
    if alpha != int(alpha) and (part[0] == "skellam" or part[1] < 1):
        low, high = math.floor(alpha), math.ceil(alpha)
        ends = [(a - 1) * divergence(part, a) for a in (low, high)]
        return (ends[0] * (high - alpha) + ends[1] * (alpha - low)) / (alpha - 1)
    n: int = part[-1]
    if part[0] == "skellam":
        v, s, a = map(float, part[1:4])
        return n * (alpha * s / (2 * v) + min(((2 * alpha - 1) * s + 6 * a) / (4 * v * v), 3 * a / (2 * v)))
    z, q = float(part[0]), float(part[1])
    if z * z == 0:
        return math.inf
    if q == 1:
        return n * alpha / (2 * z * z)
    whole, terms = int(alpha), []
    for k in range(whole + 1):
        choose = math.lgamma(whole + 1) - math.lgamma(k + 1) - math.lgamma(whole - k + 1)
        terms.append(choose + (whole - k) * math.log1p(-q) + k * math.log(q) + (k * k - k) / (2 * z * z))
    top = max(terms)
    return n * max(0.0, top + math.log(math.fsum(math.exp(t - top) for t in terms))) / (alpha - 1)


def cost(parts: Iterable[Part], alpha: float) -> float:
    """Renyi divergence of several parts."""
    return math.fsum(divergence(part, alpha) for part in parts)


def convert(R: float, alpha: float, delta: float) -> float:
    """Epsilon of a Renyi divergence."""
    if R in (0.0, math.inf):
        return R
    return max(0.0, R + math.log1p(-1 / alpha) - math.log(delta * alpha) / (alpha - 1))


def renyi(parts: Sequence[Part], delta: float, orders: Sequence[float]) -> float:
    """Epsilon at the best order."""
    return min(convert(cost(parts, a), a, delta) for a in orders)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Balle and Wang 2018 with mu = 1/z."""
    a, b = log_ndtr(mu / 2 - epsilon / mu), epsilon + log_ndtr(-mu / 2 - epsilon / mu)
    return 0.0 if b >= a else math.exp(a) * -math.expm1(b - a)


def gaussian_mu(parts: Sequence[Part]) -> float:
    """1/z of several unsampled Gaussians together."""
    return math.sqrt(math.fsum(n / (z * z) for z, _, n in parts))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon at which :func:`gaussian_delta` is at most delta, plus 1e-6."""
    low, high = 0.0, 1.0
    while gaussian_delta(mu, high) > delta:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_delta(mu, middle) > delta else (low, middle)
    return high + 1e-6


@cache
def losses(parts: tuple[tuple[Any, ...], ...]) -> Any:
    """The privacy loss distribution of sampled Gaussians: the only use of dp-accounting."""
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    grid, total = {"value_discretization_interval": 1e-4}, None
    plain = [list(p) for p in parts if p[1] == 1]
    for z, q, n in ([(1 / gaussian_mu(plain), 1.0, 1)] if plain else []) + [p for p in parts if p[1] < 1]:
        one = from_gaussian_mechanism(z, sampling_prob=q, **grid)
        one = one.self_compose(n) if n > 1 else one
        total = one if total is None else total.compose(one)
    return total


def merged(parts: Iterable[Part]) -> list[Part]:
    """The same parts, equal ones put together."""
    counts: dict[tuple[Any, ...], int] = {}
    for part in parts:
        counts[tuple(part[:-1])] = counts.get(tuple(part[:-1]), 0) + part[-1]
    return [[*k, n] for k, n in counts.items()]


def own(parts: Iterable[Part], delta: float) -> float:
    """Epsilon of a plan by itself."""
    parts = merged(parts)
    if any(p[0] == 0 for p in parts):
        return math.inf
    if any(p[0] == "skellam" for p in parts):
        return renyi(parts, delta, FINE)
    if all(p[1] == 1 for p in parts):
        return gaussian_epsilon(gaussian_mu(parts), delta) if parts else 0.0
    return min(
        float(losses(tuple(map(tuple, parts))).get_epsilon_for_delta(delta)), renyi(parts, delta, ORDERS)
    )


def own_delta(parts: Iterable[Part], epsilon: float) -> float:
    """Delta of a plan by itself."""
    parts = merged(parts)
    if all(p[0] != "skellam" and p[1] == 1 for p in parts):
        return gaussian_delta(gaussian_mu(parts), max(0.0, epsilon - 1e-6))
    orders = FINE if any(p[0] == "skellam" for p in parts) else ORDERS
    best = min(filter_delta(cost(parts, a), a, epsilon) for a in orders)
    return (
        best
        if orders is FINE
        else min(best, float(losses(tuple(map(tuple, parts))).get_delta_for_epsilon(epsilon)))
    )


def filter_delta(R: float, alpha: float, epsilon: float) -> float:
    """Delta at which a Renyi divergence converts to epsilon."""
    return math.exp(min(0.0, (alpha - 1) * (R + math.log1p(-1 / alpha) - epsilon) - math.log(alpha)))


def shared(part: Part, m: int, local: bool) -> Part:
    """A part for a customer of m shops; NotImplementedError for sampling in a sum over shops."""
    if part[0] == "skellam":
        return ["skellam", part[1], m * m * part[2], m * part[3], part[4]]
    if local or m == 1:
        return [*part[:2], part[2] * m]
    if part[1] < 1:
        raise NotImplementedError("a mixture")
    return [part[0] / m, *part[1:]]


def order_for(ceiling: float, delta: float) -> float:
    """The filter's order that a ledger is opened with."""
    if ceiling == math.inf:
        return 2.0
    return max(ORDERS, key=lambda a: (ceiling + math.log(delta * a) / (a - 1) - math.log1p(-1 / a)) / a)


def same(stated: float | None, found: float) -> bool:
    """Equal within a relative 1e-4; null is infinite."""
    value = math.inf if stated is None else stated
    near = abs(value - found) <= 1e-9 + 1e-4 * max(abs(value), abs(found))
    return value == found or (math.isfinite(value - found) and near)
