import math

import numpy as np
import pytest

from hansa.dp.accounting import epsilon, gaussian
from hansa.rng import seeded_generator
from hansa_simulations.attacks.bounds import (
    clopper_pearson,
    one_run_bound,
    one_run_p_value,
    scores_bound,
    tradeoff_bound,
)


def test_clopper_pearson_covers_as_often_as_it_says():
    random, wrong = seeded_generator(0, "cp"), 0
    for hits in random.binomial(50, 0.2, 2000):
        low, _ = clopper_pearson(int(hits), 50, 0.05)
        wrong += not low <= 0.2
    assert 0.01 < wrong / 2000 < 0.055
    assert clopper_pearson(0, 10, 0.05)[0] == 0.0
    assert clopper_pearson(10, 10, 0.05)[1] == 1.0
    assert clopper_pearson(0, 100, 0.05)[1] == pytest.approx(1 - 0.05**0.01)


def test_randomised_response_is_bounded_by_its_own_epsilon():
    true = math.log(3)
    bound = tradeoff_bound(75_000, 100_000, 25_000, 100_000, 0.0, 0.01)
    assert 0.95 * true < bound < true
    assert tradeoff_bound(5, 100, 5, 100, 0.0, 0.01) == 0.0
    assert tradeoff_bound(50, 100_000, 1, 100_000, 0.01, 0.01) == 0.0  # no more than delta


@pytest.mark.parametrize("multiplier", [0.6, 2.0])
def test_a_gaussian_s_bound_is_close_to_its_epsilon_and_hardly_ever_above(multiplier):
    true, above = epsilon(gaussian(multiplier), 1e-5), 0
    for run in range(20):
        random = seeded_generator(run, "gaussian")
        noise = multiplier * random.standard_normal((2, 100_000))
        bound = scores_bound(1 + noise[0], noise[1], 1e-5, 0.05)
        above += bound > true
        assert bound > 0.4 * true
    assert above <= 3


def test_the_low_side_counts_too():
    random = seeded_generator(0, "low")
    without = random.standard_normal(50_000)
    within = np.maximum(without + 0.1, -2.0)  # never low: only the other test tells
    assert scores_bound(within, without, 1e-5, 0.05) > 2 * scores_bound(without + 0.1, without, 1e-5, 0.05)


def test_one_run_s_p_value_is_that_of_the_paper():
    # Without delta: the binomial tail of guesses that are right with probability e^eps / (1 + e^eps).
    assert one_run_p_value(100, 10, 10, math.log(3), 0.0) == pytest.approx(0.75**10)
    assert one_run_p_value(100, 10, 0, 1.0, 0.0) == 1.0
    # With delta: 2 m delta times the largest mean of the masses just below what was seen.
    masses = [math.comb(10, 10 - k) * 0.75 ** (10 - k) * 0.25**k for k in range(1, 11)]
    mean = max(sum(masses[:count]) / count for count in range(1, 11))
    assert one_run_p_value(100, 10, 10, math.log(3), 1e-3) == pytest.approx(0.75**10 + 0.2 * mean, rel=1e-6)


def test_one_run_never_refutes_what_is_true_more_often_than_it_says():
    random, true = seeded_generator(0, "one run"), 1.0
    chance = 1 / (1 + math.exp(-true))
    right = random.binomial(200, chance, 1000)
    wrong = sum(one_run_bound(200, 200, int(each), 0.0, 0.05) > true for each in right)
    assert 10 <= wrong <= 65
    assert one_run_bound(200, 200, 200, 1e-5, 0.05) > 3
    assert one_run_bound(200, 200, 100, 1e-5, 0.05) == 0.0
