"""From trials to a lower bound on epsilon: what so many right and wrong guesses prove at a confidence."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, binom

Scores = npt.NDArray[np.float64]

_SELECTING = 0.2  # of the trials, to choose the threshold with
_CANDIDATES = 120


def clopper_pearson(successes: int, trials: int, level: float) -> tuple[float, float]:
    """One-sided bounds on a probability, each wrong with probability ``level`` at most.

    Clopper and Pearson 1934: exact, for independent trials.

    Returns:
        The lower and the upper bound.
    """
    low = float(beta.ppf(level, successes, trials - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1 - level, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high


def tradeoff_bound(hits: int, among: int, alarms: int, others: int, delta: float, level: float) -> float:
    """Lower bound on epsilon from a test's true and false positives, wrong with chance ``level`` at most.

    An (epsilon, delta)-DP mechanism has TPR <= e^epsilon FPR + delta (Kairouz, Oh and Viswanath 2015).

    Args:
        hits: True positives.
        among: Trials with the customer.
        alarms: False positives.
        others: Trials without.
        delta: Of the claim.
        level: Shared by both rates.
    """
    true, _ = clopper_pearson(hits, among, level / 2)
    _, false = clopper_pearson(alarms, others, level / 2)
    return max(0.0, math.log((true - delta) / false)) if true > delta else 0.0


def scores_bound(within: Scores, without: Scores, delta: float, level: float) -> float:
    """Lower bound on epsilon from scores of independent trials with and without a customer.

    The threshold is chosen on a fifth of the trials and used on the others. Both tests are tried, that
    high scores mean "with" and that low scores mean "without"; they share the level.

    Args:
        within: float64 [trials] with the customer, who raises scores.
        without: float64 [trials] without.
        delta: Of the claim.
        level: Probability that the bound is wrong.
    """
    return max(
        _one_side(within, without, delta, level / 2),
        _one_side(-without, -within, delta, level / 2),
    )


def _one_side(raised: Scores, other: Scores, delta: float, level: float) -> float:
    first, second = (max(1, int(_SELECTING * len(scores))) for scores in (raised, other))
    kept = len(raised) - first, len(other) - second
    chosen = _threshold(np.sort(raised[:first]), np.sort(other[:second]), kept, delta, level)
    hits, alarms = int((raised[first:] >= chosen).sum()), int((other[second:] >= chosen).sum())
    return tradeoff_bound(hits, kept[0], alarms, kept[1], delta, level)


def _threshold(raised: Scores, other: Scores, kept: tuple[int, int], delta: float, level: float) -> float:
    """The threshold whose bound would be best if the ``kept`` trials came out like these sorted ones."""
    places = np.unique(np.geomspace(1, min(len(raised), len(other)), _CANDIDATES).astype(np.int64))
    candidates = np.unique(np.concatenate([other[-places], raised[-places]]))
    best, chosen = -1.0, float(candidates[0])
    for candidate in candidates:
        hits = len(raised) - int(np.searchsorted(raised, candidate, side="left"))
        alarms = len(other) - int(np.searchsorted(other, candidate, side="left"))
        bound = tradeoff_bound(
            int(hits * kept[0] / len(raised)),
            kept[0],
            min(kept[1], math.ceil((alarms + 1) * kept[1] / len(other))),
            kept[1],
            delta,
            level,
        )
        if bound > best:
            best, chosen = bound, float(candidate)
    return chosen


def one_run_p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Probability bound of so many right guesses in ONE run of an (epsilon, delta)-DP mechanism.

    Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, Theorem 5.2: each of ``canaries`` was in with
    probability 1/2 by its own coin, and ``guesses`` of them were guessed. The right ones are dominated by
    Binomial(guesses, e^epsilon / (1 + e^epsilon)), up to a term in delta. Trials need not be independent.
    """
    chance = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(right - 1, guesses, chance))
    if not right or not delta:
        return min(1.0, tail)
    steps = np.arange(1, right + 1)
    mass = np.cumsum(binom.pmf(right - steps, guesses, chance))
    return min(1.0, tail + 2 * canaries * delta * float((mass / steps).max()))


def one_run_bound(canaries: int, guesses: int, right: int, delta: float, level: float) -> float:
    """The largest epsilon that so many right guesses refute, see ``one_run_p_value``; 0 if none."""
    if one_run_p_value(canaries, guesses, right, 0.0, delta) > level:
        return 0.0
    low, high = 0.0, 1.0
    while one_run_p_value(canaries, guesses, right, high, delta) <= level and high < 64:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        refuted = one_run_p_value(canaries, guesses, right, middle, delta) <= level
        low, high = (middle, high) if refuted else (low, middle)
    return low
