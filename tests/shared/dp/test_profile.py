"""The privacy profile: on the accountants' claims, pessimistic, monotone; Gaussian DP where it is exact."""

import math
from itertools import pairwise

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.dp.accounting import compose, epsilon, gaussian, renyi_curve, skellam, with_overlap
from hansa.dp.profile import dominating_mu, gaussian_delta, privacy_profile

EVENTS = {
    "one Gaussian": gaussian(1.3),
    "Gaussians": compose([gaussian(2.0, count=3), gaussian(5.0)]),
    "sampled": gaussian(1.0, 0.01, 200),
    "sampled and not": compose([gaussian(3.0), gaussian(1.2, 0.1, 20)]),
    "wide grid": gaussian(0.3, 0.5, 3),
    "Skellam": skellam(4e6, 1_000_000, 5000, 3),
    "Skellam and Gaussian": compose([skellam(4e6, 1_000_000, 5000, 3), gaussian(2.0)]),
    "overlap of sampled": with_overlap(gaussian(1.0, 0.05, 10), 2, summed=True),
}


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("delta", [1e-5, 1e-7])
def test_at_the_claimed_epsilon_it_is_the_claimed_delta(name, delta):
    claimed = epsilon(EVENTS[name], delta)
    slack = 2e-4 if claimed > 20 else 2e-5
    at, below = privacy_profile(EVENTS[name], [claimed, claimed - slack])
    assert at <= delta * (1 + 1e-9)
    assert below > delta


@pytest.mark.parametrize("name", EVENTS)
def test_it_falls_from_epsilon_zero_on(name):
    deltas = privacy_profile(EVENTS[name], [0.0, 0.3, 1.0, 2.0, 4.0, 8.0, 20.0, 80.0])
    assert all(0 <= b <= a <= 1 for a, b in pairwise(deltas))
    assert deltas[0] > 1e-3


def test_without_noise_nothing_holds():
    event = compose([gaussian(1.0), gaussian(0.0)])
    assert privacy_profile(event, [0.0, 100.0]) == [1.0, 1.0]
    assert dominating_mu(event) is None


def test_nothing_released_costs_nothing():
    assert privacy_profile(compose([]), [0.0, 1.0]) == [0.0, 0.0]
    assert dominating_mu(compose([])) == 0.0


@pytest.mark.parametrize("wrong", [-0.1, math.nan])
def test_an_epsilon_below_zero_is_refused(wrong):
    with pytest.raises(ValueError, match="from 0 on"):
        privacy_profile(gaussian(1.0), [wrong])


def exact_delta(mu, eps):
    """Balle and Wang 2018 (arXiv 1805.06530), equation 6, in 60 digits more than the tail needs."""
    with mpmath.workdps(400):
        mu, eps = mpmath.mpf(mu), mpmath.mpf(eps)
        return mpmath.ncdf(mu / 2 - eps / mu) - mpmath.exp(eps) * mpmath.ncdf(-mu / 2 - eps / mu)


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-3, 60), st.floats(0, 60))
def test_gaussian_delta_is_the_closed_form_from_above(mu, eps):
    exact, found = exact_delta(mu, eps), gaussian_delta(mu, eps)
    if exact < 1e-290:  # below what a float holds well
        return
    assert exact <= found
    assert found <= exact * (1 + 1e-6) + 2e-13


@pytest.mark.parametrize("eps", [0.5, 2.0, 4.0, 10.0])
def test_sampled_profiles_are_pessimistic(eps):
    """One sampled step has its own closed form: q times that of the plain one, at a larger epsilon."""
    multiplier, rate = 1.0, 0.1
    remove = rate * exact_delta(1 / multiplier, math.log1p(math.expm1(eps) / rate))
    found = privacy_profile(gaussian(multiplier, rate), [eps])[0]
    assert remove <= found <= remove * 1.01 + 1e-12


def test_mu_is_that_of_the_merged_gaussian():
    event = compose([gaussian(4.0), gaussian(6.0, count=3), gaussian(4.0, count=3)])
    mu = dominating_mu(event)
    assert mu == pytest.approx(math.sqrt(4 / 16 + 3 / 36), rel=1e-14)
    epsilons = [0.0, 0.5, 2.0, 7.0]
    assert privacy_profile(event, epsilons) == [gaussian_delta(mu, value) for value in epsilons]


@pytest.mark.parametrize("name", ["sampled", "sampled and not", "Skellam", "overlap of sampled"])
def test_mu_is_missing_where_none_is_proven(name):
    assert dominating_mu(EVENTS[name]) is None


def test_far_out_a_sampled_step_is_not_dominated_by_less_than_the_plain_one():
    """Why: at epsilon 30 even 0.8 of the plain mu promises less than what a step at rate 0.01 shows."""
    truth = 0.01 * exact_delta(1.0, math.log1p(math.expm1(30) / 0.01))
    assert gaussian_delta(0.8, 30.0) < truth < gaussian_delta(1.0, 30.0)


def test_skellam_is_by_its_renyi_curve():
    event = EVENTS["Skellam"]
    order, at = 16.0, 2.0
    renyi = float(renyi_curve(event, (order,))[0])
    bound = math.exp((order - 1) * (renyi - at + math.log1p(-1 / order))) / order
    assert privacy_profile(event, [at])[0] <= bound
