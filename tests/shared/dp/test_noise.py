"""Statistical tests here use one fixed stream, so that they pass or fail once and for all.

``ALARM`` is the rate at which each would fail a right implementation if the stream were fresh.
"""

import numpy as np
import pytest
import torch
from scipy import stats

from hansa.dp.noise import _BLOCK, add_gaussian
from hansa.rng import seeded_generator, system_generator

ALARM = 1e-6
MANY = 4_000_000


def samples(scale=1.0, deviation=1.0, count=MANY):
    drawn = add_gaussian(torch.zeros(count // 4, 4), deviation, seeded_generator(7, "noise test"))
    return drawn.numpy().ravel() * scale


def rejected_by_distribution(drawn):
    """Kolmogorov and Smirnov against N(0, 1)."""
    return stats.kstest(drawn[:200_000], "norm").pvalue < ALARM


def rejected_by_tails(drawn):
    """Numbers beyond 3, 4 and 4.5 deviations, each side: six two-sided binomial tests."""
    p_values = [
        stats.binomtest(int(count), len(drawn), stats.norm.sf(edge)).pvalue
        for edge in (3.0, 4.0, 4.5)
        for count in ((drawn > edge).sum(), (drawn < -edge).sum())
    ]
    return min(p_values) < ALARM / 6


def test_noise_is_standard_normal_into_its_tails():
    drawn = samples()
    assert not rejected_by_distribution(drawn)
    assert not rejected_by_tails(drawn)


@pytest.mark.parametrize("scale", [2 / 3, 3 / 2])
def test_both_tests_catch_a_wrong_scale(scale):
    assert rejected_by_distribution(samples(scale))
    assert rejected_by_tails(samples(scale))


def test_the_tail_test_catches_a_truncated_normal():
    drawn = samples()
    truncated = drawn[np.abs(drawn) < 4.0]
    assert not rejected_by_distribution(truncated)  # that one is blind to it: both are needed
    assert rejected_by_tails(truncated)


def test_deviation_scales_and_adds():
    plain = samples(count=1000)
    np.testing.assert_allclose(samples(deviation=3.0, count=1000), 3 * plain, rtol=1e-6)
    start = torch.full((250, 4), 5.0)
    moved = add_gaussian(start.clone(), 1.0, seeded_generator(7, "noise test")) - start
    np.testing.assert_allclose(moved.ravel(), plain, atol=1e-6)


def test_every_entry_gets_its_own_noise_across_blocks():
    drawn = add_gaussian(torch.zeros(_BLOCK + 5, 2), 1.0, seeded_generator(1)).numpy().ravel()
    assert np.count_nonzero(drawn == 0.0) == 0
    assert len(np.unique(drawn[-10:])) == 10
    first, second = drawn[:_BLOCK], drawn[_BLOCK : 2 * _BLOCK]
    assert abs(float(np.mean(first * second))) < 5 / _BLOCK**0.5  # false alarm 6e-7


def test_columns_and_neighbours_are_uncorrelated():
    drawn = samples().reshape(-1, 4).astype(np.float64)
    correlations = [np.mean(drawn[:, i] * drawn[:, j]) for i in range(4) for j in range(i)]
    correlations.append(np.mean(drawn[:-1, 0] * drawn[1:, 0]))
    assert np.max(np.abs(correlations)) < 5.5 / len(drawn) ** 0.5  # false alarm below 3e-7


def test_no_deviation_no_noise():
    untouched = seeded_generator(0)
    assert not add_gaussian(torch.zeros(3, 3), 0.0, untouched).any()
    assert untouched.random() == seeded_generator(0).random()


@pytest.mark.parametrize("deviation", [-1.0, np.nan, np.inf])
def test_impossible_deviations_are_refused(deviation):
    with pytest.raises(ValueError, match="finite and not negative"):
        add_gaussian(torch.zeros(1, 1), deviation, seeded_generator(0))


def test_system_generators_are_fresh_every_time():
    firsts = {system_generator().integers(2**63) for _ in range(200)}
    assert len(firsts) == 200  # a collision of 63 bits has probability 2e-15


def test_seeded_generators_repeat_and_differ_by_seed_and_stream():
    names = [(0,), (1,), (0, "noise"), (0, "coins"), (0, "noise", 1), (0, "noise", 2), (0, "noise", "1")]
    draws = {name: seeded_generator(*name).random(4).tobytes() for name in names}
    assert len(set(draws.values())) == len(names)
    assert all(seeded_generator(*name).random(4).tobytes() == draws[name] for name in names)
