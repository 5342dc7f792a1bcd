"""Statistical tests here use one fixed stream, so that they pass or fail once and for all.

``ALARM`` is the rate at which each would fail a right implementation if the stream were fresh.
"""

import bisect
import math

import mpmath
import numpy as np
import pytest
from scipy import stats

from hansa.dp import skellam
from hansa.dp.skellam import _BITS, _BLOCK, _FINER, LARGEST_VARIANCE, Skellam, _table, masses
from hansa.rng import Keystream, seeded_generator

ALARM = 1e-6
MANY = 3_000_000


def draws(variance, count, seed=7):
    total = np.zeros(count, dtype=np.int64)
    Skellam(variance).add_to(total, seeded_generator(seed, "skellam test"))
    return total


def exact(k, variance):
    """exp(-variance) I_k(variance): by its integral over a period, for which equal steps are exact in effect.

    With N steps the sum is that of I_(k + jN) over all whole j; N is 60 deviations, k at most 12.
    """
    with mpmath.workdps(50):
        if variance < 200:
            return mpmath.besseli(k, variance) * mpmath.exp(-variance)
        deviation = mpmath.sqrt(variance)
        steps = int(60 * deviation)
        total, angle = mpmath.mpf(1) / 2, 2 * mpmath.pi / steps
        for m in range(1, int(16 / deviation / angle)):
            half = mpmath.sin(m * angle / 2)
            total += mpmath.exp(-2 * variance * half * half) * mpmath.cos(k * m * angle)
        return 2 * total / steps


@pytest.mark.parametrize("variance", [0.01, 0.7, 30.0, 1e3, 9_999.0, 10_000.0, 1e5 + 0.3, 1e8, 1e10])
def test_masses_are_right_to_thirteen_digits(variance):
    found = masses(variance)
    for deviations in (0, 0.3, 1, 2.5, 4, 6, 8, 10):
        k = round(deviations * math.sqrt(variance))
        if k < len(found):
            assert abs(found[k] / exact(k, variance) - 1) < 1e-13
    assert 2 * math.fsum(found) - found[0] == pytest.approx(1, abs=1e-13)


def test_masses_follow_the_formula_at_a_huge_variance(monkeypatch):
    """As at 10^12, but for a few values only: all of them take seconds."""
    wanted = np.array([0, 1, 10**6, 5 * 10**6, 9 * 10**6])
    monkeypatch.setattr(skellam.np, "arange", lambda *_, **__: wanted.astype(np.float64))
    found = masses(1e12)
    monkeypatch.undo()
    for k, mass in zip(wanted.tolist(), found, strict=True):
        assert abs(mass / exact(k, 1e12) - 1) < 1e-13


def test_the_integral_is_the_bessel_function():
    for k in (0, 3, 90):
        with mpmath.workdps(30):
            assert abs(exact(k, 250) / (mpmath.besseli(k, 250) * mpmath.exp(-250)) - 1) < 1e-25


def full(variance):
    """Thresholds of 95 bits."""
    words, finer, _ = _table(variance)
    return [(int(word) << _FINER) + int(rest) for word, rest in zip(words, finer, strict=True)]


@pytest.mark.parametrize("variance", [0.01, 3.0, 1e4, 1e7])
def test_thresholds_are_the_cumulated_masses(variance):
    thresholds, found = full(variance), masses(variance)
    assert thresholds == sorted(thresholds)
    assert thresholds[-1] <= 1 << (_BITS + _FINER)
    below = 0
    for k in range(min(len(thresholds), 400)):
        mass = found[k] * (2 if k else 1)
        assert abs((thresholds[k] - below) / 2.0 ** (_BITS + _FINER) - mass) < 2e-13 * mass + 2.0**-93
        below = thresholds[k]


@pytest.mark.parametrize("factor", [1 - 5e-14, 1 + 5e-14])
def test_what_rounding_loses_is_not_all_given_to_zero(monkeypatch, factor):
    monkeypatch.setattr(skellam, "masses", lambda variance: masses(variance) * factor)
    words, finer, _ = _table.__wrapped__(1e8)
    first = ((int(words[0]) << _FINER) + int(finer[0])) / 2.0 ** (_BITS + _FINER)
    assert first == pytest.approx(masses(1e8)[0], rel=1e-13)  # to 0 alone: 10^-9


def two_sided(variance):
    found = masses(variance)
    return np.concatenate([found[:0:-1], found])


def rejected_by_distribution(drawn, variance):
    """Chi-square against the exact masses, in at most 200 bins of 20 expected numbers or more."""
    probabilities = two_sided(variance)
    last = len(probabilities) // 2
    cumulated = np.cumsum(probabilities)
    edges = np.unique(np.searchsorted(cumulated, np.linspace(0, 1, 201)[1:-1]))
    inside = np.diff(np.concatenate(([0.0], cumulated[edges], [1.0])))
    seen = np.bincount(np.searchsorted(edges - last, drawn, side="left"), minlength=len(edges) + 1)
    rare = inside * len(drawn) < 20
    if rare.any():
        seen = np.append(seen[~rare], seen[rare].sum())
        inside = np.append(inside[~rare], inside[rare].sum())
        seen, inside = seen[inside > 0], inside[inside > 0]
    if len(seen) < 2:
        return False
    return stats.chisquare(seen, inside / inside.sum() * len(drawn)).pvalue < ALARM


def rejected_by_tails(drawn, variance):
    """Numbers beyond 3, 4 and 4.5 deviations, each side: six exact two-sided binomial tests."""
    found, p_values = masses(variance), []
    for deviations in (3.0, 4.0, 4.5):
        edge = deviations * math.sqrt(variance)
        chance = math.fsum(found[math.floor(edge) + 1 :])
        counts = int((drawn > edge).sum()), int((drawn < -edge).sum())
        p_values += [stats.binomtest(count, len(drawn), chance).pvalue for count in counts]
    return min(p_values) < ALARM / 6


def rejected_by_variance(drawn, variance):
    """Five deviations of the mean square, whose variance is 2 variance^2 + variance: 6e-7."""
    spread = math.sqrt((2 * variance**2 + variance) / len(drawn))
    return abs(float(np.mean(drawn.astype(np.float64) ** 2)) - variance) > 5 * spread


TESTS = [rejected_by_distribution, rejected_by_tails, rejected_by_variance]


@pytest.mark.parametrize("variance", [0.05, 0.8, 7.3, 400.5, 1e6, 3e9])
def test_samples_have_the_exact_distribution(variance):
    drawn = draws(variance, 300_000)
    assert not rejected_by_distribution(drawn, variance)
    assert not rejected_by_variance(drawn, variance)
    assert abs(drawn.mean()) < 5 * math.sqrt(variance / len(drawn))


def test_tails_are_as_thick_as_they_should_be():
    drawn = draws(400.0, MANY)
    assert not any(test(drawn, 400.0) for test in TESTS)
    assert (np.abs(drawn) > 4.5 * 20).sum() > 10


@pytest.mark.parametrize("scale", [2 / 3, 3 / 2])
@pytest.mark.parametrize("test", TESTS)
def test_every_test_catches_a_wrong_scale(test, scale):
    assert test(draws(400.0 * scale**2, 300_000), 400.0)


def test_the_tail_test_catches_what_is_cut():
    drawn = draws(400.0, MANY)
    assert rejected_by_tails(drawn[np.abs(drawn) <= 80], 400.0)


@pytest.mark.parametrize(("variance", "shares"), [(2.0, 4), (300.0, 5)])
def test_shares_add_up_to_the_whole(variance, shares):
    whole = np.zeros(300_000, dtype=np.int64)
    for shop in range(shares):
        Skellam(variance / shares).add_to(whole, seeded_generator(shop, "shares"))
    assert not any(test(whole, variance) for test in TESTS)
    assert rejected_by_variance(whole, variance * shares)


class Chosen:
    """A keystream whose words are given."""

    def __init__(self, words):
        self.words = np.asarray(words, dtype=np.uint64)

    def fill(self, block, out):
        out[:] = self.words.view(np.uint8)[: len(out)]


def sizes(noise, words, more):
    return noise.sizes(np.asarray(words, dtype=np.uint64), more, 0)


@pytest.mark.parametrize("variance", [0.4, 50.0, 1e4, 1e7])
def test_every_word_is_decided_as_all_of_its_bits_say(variance):
    """Words at, below and above thresholds, also where many thresholds share a word."""
    noise, thresholds = Skellam(variance), full(variance)
    draw = seeded_generator(2)
    words = np.unique(noise._thresholds[noise._thresholds < 1 << _BITS])
    words = np.concatenate([words[:500], words[-500:]])
    words = np.concatenate([words, words - np.uint64(1), np.minimum(words + np.uint64(1), (1 << _BITS) - 1)])
    words = np.append(words, np.array([0, (1 << _BITS) - 1], dtype=np.uint64))
    for _ in range(5):
        finer = draw.integers(0, 1 << _FINER, len(words))
        # Only words that the guide leaves open draw finer bits, in their order.
        guided = noise._guide[(words >> np.uint64(_BITS - 18)).astype(np.int64)]
        more = Chosen(finer[guided < 0].astype(np.uint64) << np.uint64(64 - _FINER))
        expected = [
            bisect.bisect_right(thresholds, (int(word) << _FINER) + int(rest))
            for word, rest in zip(words, finer, strict=True)
        ]
        np.testing.assert_array_equal(sizes(noise, words, more), expected)


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_a_tie_at_the_last_bit(offset):
    noise = Skellam(50.0)
    for k in (0, 3, 20):
        finer = int(noise._finer[k]) + offset
        (size,) = sizes(noise, noise._thresholds[k : k + 1], Chosen([finer << (64 - _FINER)]))
        assert size == (k if offset < 0 else k + 1)


def test_ties_fall_by_the_finer_bits_with_the_right_chance():
    noise, count = Skellam(50.0), 50_000
    for k in (0, 5, 12):
        words = np.full(count, noise._thresholds[k])
        passed = int((sizes(noise, words, Keystream(seeded_generator(k))) == k + 1).sum())
        chance = 1 - int(noise._finer[k]) / (1 << _FINER)
        assert stats.binomtest(passed, count, chance).pvalue > ALARM
        assert 0 < passed < count


def test_every_entry_block_and_call_has_its_own_numbers():
    generator, noise = seeded_generator(1), Skellam(1e6)
    first, second = np.zeros((2, 2 * _BLOCK + 9), dtype=np.int64)
    noise.add_to(first, generator)
    noise.add_to(second, generator)
    for one, other in (
        (first, second),
        (first[:_BLOCK], first[_BLOCK : 2 * _BLOCK]),
        (first[1:], first[:-1]),
        (np.abs(first), second),
    ):
        one, other = one - one.mean(), other - other.mean()
        assert abs(np.mean(one * other)) < 5 * one.std() * other.std() / math.sqrt(len(one))
        assert (one == other).mean() < 0.01


def test_a_seed_repeats_and_numbers_are_added():
    np.testing.assert_array_equal(draws(9.0, 1000), draws(9.0, 1000))
    assert (draws(9.0, 1000) != draws(9.0, 1000, seed=8)).any()
    np.testing.assert_array_equal(draws(9.0, _BLOCK + 100)[:100], draws(9.0, 100))
    start = np.arange(1000)
    Skellam(9.0).add_to(start, seeded_generator(7, "skellam test"))
    np.testing.assert_array_equal(start - np.arange(1000), draws(9.0, 1000))
    Skellam(9.0).add_to(np.zeros(0, dtype=np.int64), seeded_generator(0))


@pytest.mark.parametrize("variance", [1e-300, 1e-9])
def test_hardly_any_noise_is_hardly_ever_seen(variance):
    assert not draws(variance, 1000).any()


@pytest.mark.parametrize("variance", [0.0, -1.0, float("nan"), float("inf"), 1.01 * LARGEST_VARIANCE])
def test_variances_out_of_range_are_refused(variance):
    with pytest.raises(ValueError, match="the variance of Skellam noise must be above 0"):
        Skellam(variance)
