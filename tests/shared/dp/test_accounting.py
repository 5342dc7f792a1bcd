import math

import dp_accounting
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from hansa.dp.accounting import (
    calibrate,
    compose,
    cross_check,
    epsilon,
    gaussian,
    rdp_epsilon,
    with_overlap,
)

DELTA = 1e-5


def analytic_delta(eps, multiplier):
    """Balle and Wang 2018 (arXiv 1805.06530), equation 6, at sensitivity 1."""
    a, b = 1 / (2 * multiplier), eps * multiplier
    return norm.cdf(a - b) - math.exp(eps) * norm.cdf(-a - b)


def analytic_epsilon(multiplier, delta=DELTA):
    return brentq(lambda eps: analytic_delta(eps, multiplier) - delta, 0, 100, xtol=1e-12)


@pytest.mark.parametrize(
    ("rate", "multiplier", "count", "renyi", "losses"),
    [(0.01, 1.0, 1000, 2.10137, 1.82824), (0.05, 2.0, 500, 2.76858, 2.53203)],
)
def test_golden_values_of_sampled_gaussians(rate, multiplier, count, renyi, losses):
    event = gaussian(multiplier, rate, count)
    assert epsilon(event, DELTA) == pytest.approx(losses, abs=1e-5)
    assert rdp_epsilon(event, DELTA) == pytest.approx(renyi, abs=1e-5)
    assert cross_check(event, DELTA) == pytest.approx(renyi, abs=1e-4)


@pytest.mark.parametrize("multiplier", [0.7, 1.0, 3.7, 20.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-8])
def test_one_gaussian_is_the_closed_form_from_above(multiplier, delta):
    exact = analytic_epsilon(multiplier, delta)
    assert exact <= epsilon(gaussian(multiplier), delta) <= exact + 2e-4


EVENTS = [
    gaussian(5.0),
    gaussian(2.0, 0.1, 20),
    gaussian(300.0),
    compose([gaussian(4.0), gaussian(1.5, 0.02, 50)]),
    gaussian(0.9, count=1),
]


@pytest.mark.parametrize("event", EVENTS)
def test_losses_are_tighter_than_either_renyi(event):
    tight = epsilon(event, DELTA)
    assert 0 < tight <= rdp_epsilon(event, DELTA)
    assert tight <= cross_check(event, DELTA)
    assert rdp_epsilon(event, DELTA) == pytest.approx(cross_check(event, DELTA), rel=1e-3)


@pytest.mark.parametrize("measure", [epsilon, rdp_epsilon, cross_check])
def test_smaller_delta_less_noise_more_sums_and_more_sampling_cost_more(measure):
    base = measure(gaussian(2.0, 0.1, 20), DELTA)
    assert measure(gaussian(2.0, 0.1, 20), DELTA / 10) > base
    assert measure(gaussian(1.9, 0.1, 20), DELTA) > base
    assert measure(gaussian(2.0, 0.1, 21), DELTA) > base
    assert measure(gaussian(2.0, 0.12, 20), DELTA) > base


def test_gaussians_merge_exactly():
    """1/s^2 adds up: 4 sums at 4 and 3 at 6 are one at (4/16 + 3/36)^-1/2."""
    parts = compose([gaussian(4.0), gaussian(6.0, count=3), gaussian(4.0, count=3)])
    assert epsilon(parts, DELTA) == pytest.approx(
        epsilon(gaussian((4 / 16 + 3 / 36) ** -0.5), DELTA), abs=1e-9
    )


def test_steps_listed_singly_cost_what_they_cost_together():
    together = gaussian(2.0, 0.1, 60)
    singly = compose([gaussian(2.0, 0.1)] * 25 + [compose([gaussian(2.0, 0.1, 5)] * 7)])
    for measure in (epsilon, rdp_epsilon, cross_check):
        assert measure(singly, DELTA) == pytest.approx(measure(together, DELTA), abs=1e-9)


def test_hundreds_of_sampled_steps_listed_singly_are_quick():
    """Each alone through the accountant, these would take minutes."""
    assert epsilon(compose([gaussian(2.0, 0.05)] * 500), DELTA) == pytest.approx(2.53203, abs=1e-5)


@pytest.mark.parametrize("measure", [epsilon, rdp_epsilon, cross_check])
@pytest.mark.parametrize(
    "event",
    [
        gaussian(0.0),
        compose([gaussian(5.0), gaussian(0.0)]),
        gaussian(0.0, 0.5, 3),
        gaussian(5e-324),
        gaussian(1e-200, 0.1),
        dp_accounting.SelfComposedDpEvent(dp_accounting.NonPrivateDpEvent(), 3),
    ],
)
def test_without_noise_epsilon_is_infinite(measure, event):
    assert measure(event, DELTA) == math.inf


def test_nothing_costs_nothing():
    assert epsilon(compose([]), DELTA) == 0.0


@pytest.mark.parametrize("measure", [epsilon, rdp_epsilon, cross_check])
@pytest.mark.parametrize(
    "event",
    [
        dp_accounting.LaplaceDpEvent(1.0),
        dp_accounting.UnsupportedDpEvent(),
        compose([gaussian(1.0), dp_accounting.NoOpDpEvent()]),
        dp_accounting.SampledWithoutReplacementDpEvent(100, 10, dp_accounting.GaussianDpEvent(1.0)),
        # One sample that several sums share is worse than a fresh one for each.
        dp_accounting.PoissonSampledDpEvent(0.1, gaussian(1.0, count=9)),
        dp_accounting.PoissonSampledDpEvent(0.9, gaussian(1.0, 0.1)),
    ],
)
def test_events_without_an_accountant_are_refused(measure, event):
    with pytest.raises(ValueError, match="no accountant for the event"):
        measure(event, DELTA)


@pytest.mark.parametrize("multiplier", [0.2, 0.01, 0.0011])
def test_large_epsilons_are_quick_upper_bounds(multiplier):
    assert epsilon(gaussian(multiplier), DELTA) >= 0.5 / multiplier**2
    assert epsilon(gaussian(multiplier), DELTA) < math.inf


def test_epsilon_is_monotone_where_renyi_takes_over():
    values = [epsilon(gaussian(multiplier), DELTA) for multiplier in (0.36, 0.33, 0.31, 0.3, 0.29, 0.25)]
    assert values == sorted(values)
    assert values[0] < 20 < values[-1]


@pytest.mark.parametrize(
    ("target", "event_at"),
    [
        (0.1, gaussian),
        (1.0, gaussian),
        (4.0, gaussian),
        (0.5, lambda scale: compose([gaussian(9 * scale), gaussian(1.5 * scale, 0.1, 2)])),
        (60.0, gaussian),
    ],
)
def test_calibration_is_never_above_its_target_and_tight(target, event_at):
    scale = calibrate(event_at, target, DELTA)
    assert epsilon(event_at(scale), DELTA) <= target
    assert epsilon(event_at(scale * (1 - 2e-4)), DELTA) > target


def test_calibration_of_one_gaussian_is_the_analytic_one():
    exact = brentq(lambda multiplier: analytic_epsilon(multiplier) - 1.0, 1.0, 10.0)
    assert exact <= calibrate(gaussian, 1.0, DELTA) <= exact * 1.0003


def test_what_no_noise_reaches_is_said():
    with pytest.raises(ValueError, match="no noise reaches epsilon 1 at"):
        calibrate(lambda scale: compose([gaussian(scale), gaussian(0.0)]), 1.0, DELTA)


@pytest.mark.parametrize(("shops", "expected"), [(1, 1.0), (2, 2.15), (5, 6.2), (10, 14.4)])
def test_overlap_in_one_sum_is_group_privacy(shops, expected):
    multiplier = calibrate(gaussian, 1.0, DELTA)
    event = with_overlap(gaussian(multiplier), shops, summed=True)
    assert epsilon(event, DELTA) == pytest.approx(expected, rel=0.01)
    assert epsilon(event, DELTA) == pytest.approx(analytic_epsilon(multiplier / shops), abs=3e-4)


@pytest.mark.parametrize("shops", [2, 5])
def test_overlap_with_separate_noise_composes(shops):
    event = with_overlap(gaussian(6.0), shops, summed=False)
    assert epsilon(event, DELTA) == pytest.approx(analytic_epsilon(6.0 / shops**0.5), abs=3e-4)
    sampled = with_overlap(gaussian(2.0, 0.1, 4), shops, summed=False)
    assert epsilon(sampled, DELTA) == pytest.approx(epsilon(gaussian(2.0, 0.1, 4 * shops), DELTA), abs=1e-9)


@pytest.mark.parametrize("shops", [2, 5])
def test_sampled_overlap_bounds_the_binomial_mixture(shops):
    """In k of m shops with probability Binomial(m, q): the true loss of one sum, add or remove."""
    rate, multiplier = 0.1, 4.0
    sums = [(math.comb(shops, k) * rate**k * (1 - rate) ** (shops - k), k) for k in range(shops + 1)]

    def true_delta(eps):
        def ratio(x):
            return sum(p * math.exp((k * x - k * k / 2) / multiplier**2) for p, k in sums)

        edge = brentq(lambda x: ratio(x) - math.exp(eps), 0, 60 * multiplier)
        above = sum(p * norm.sf(edge, k, multiplier) for p, k in sums)
        return above - math.exp(eps) * norm.sf(edge, 0, multiplier)

    true = brentq(lambda eps: true_delta(eps) - DELTA, 1e-3, 20)
    event = with_overlap(gaussian(multiplier, rate), shops, summed=True)
    assert true <= epsilon(event, DELTA)
    assert epsilon(gaussian(multiplier, rate), DELTA) < true  # a control: one shop's cost would not do
