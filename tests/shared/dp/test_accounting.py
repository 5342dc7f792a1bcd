"""What only the accountant by loss distributions does: closed forms, calibration, and speed."""

import math
import time

import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from hansa.dp.accounting import calibrate, compose, epsilon, gaussian, rdp_epsilon, renyi_curve
from hansa.plan import make_plan

DELTA = 1e-5


def analytic_epsilon(multiplier, delta=DELTA):
    """Balle and Wang 2018 (arXiv 1805.06530), equation 6, at sensitivity 1."""

    def excess(eps):
        a, b = 1 / (2 * multiplier), eps * multiplier
        return norm.cdf(a - b) - math.exp(eps) * norm.cdf(-a - b) - delta

    return brentq(excess, 0, 100, xtol=1e-12)


@pytest.mark.parametrize("multiplier", [0.3, 0.7, 1.0, 3.7, 20.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-8])
def test_one_gaussian_is_the_closed_form_from_above(multiplier, delta):
    exact = analytic_epsilon(multiplier, delta)
    assert exact < epsilon(gaussian(multiplier), delta) <= exact + 2e-6


def test_gaussians_merge_exactly():
    """1/s^2 adds up: 4 sums at 4 and 3 at 6 are one at (4/16 + 3/36)^-1/2."""
    parts = compose([gaussian(4.0), gaussian(6.0, count=3), gaussian(4.0, count=3)])
    assert epsilon(parts, DELTA) == pytest.approx(analytic_epsilon((4 / 16 + 3 / 36) ** -0.5), abs=2e-6)


def test_closed_form_and_distributions_agree():
    """A sampled sum that hardly ever happens leaves the Gaussian's epsilon, now on the grid."""
    nearly = compose([gaussian(2.0), gaussian(50.0, 1e-6)])
    assert epsilon(nearly, DELTA) == pytest.approx(analytic_epsilon(2.0), abs=2e-5)


def test_nothing_costs_nothing():
    assert epsilon(compose([]), DELTA) == 0.0
    assert rdp_epsilon(compose([]), DELTA) == 0.0


@pytest.mark.parametrize("multiplier", [0.2, 0.01, 0.0011])
def test_large_epsilons_are_quick_upper_bounds(multiplier):
    started = time.process_time()
    assert 0.5 / multiplier**2 <= epsilon(gaussian(multiplier), DELTA) < math.inf
    assert 0.1 / multiplier**2 <= epsilon(gaussian(multiplier, 0.5, 2), DELTA) < math.inf
    assert time.process_time() - started < 5


@pytest.mark.parametrize("rate", [1.0, 0.2])
def test_epsilon_is_monotone_where_the_grid_widens(rate):
    values = [epsilon(gaussian(multiplier, rate), DELTA) for multiplier in (0.36, 0.31, 0.3, 0.25, 0.1, 0.05)]
    assert values == sorted(values)
    assert values[0] < 20 < values[-1]


def test_curves_add_up_and_grow_with_the_order():
    orders = (2.0, 3.0, 8.0, 64.0)
    first, second = gaussian(3.0, 0.2, 4), gaussian(5.0)
    both = renyi_curve(compose([first, second]), orders)
    assert both == pytest.approx(renyi_curve(first, orders) + renyi_curve(second, orders), rel=1e-12)
    assert list(both) == sorted(both)
    assert renyi_curve(second, orders) == pytest.approx([order / 50 for order in orders])


@pytest.mark.parametrize(
    ("target", "event_at"),
    [
        (0.1, gaussian),
        (1.0, gaussian),
        (4.0, gaussian),
        (60.0, gaussian),
        (0.5, lambda scale: compose([gaussian(9 * scale), gaussian(1.5 * scale, 0.1, 2)])),
        (8.0, lambda scale: gaussian(scale, 0.02, 200)),
        (30.0, lambda scale: gaussian(scale, 0.02, 200)),
    ],
)
def test_calibration_is_never_above_its_target_and_tight(target, event_at):
    scale = calibrate(event_at, target, DELTA)
    assert epsilon(event_at(scale), DELTA) <= target
    assert epsilon(event_at(scale * (1 - 2e-4)), DELTA) > target


def test_calibration_of_one_gaussian_is_the_analytic_one():
    exact = brentq(lambda multiplier: analytic_epsilon(multiplier) - 1.0, 1.0, 10.0)
    assert exact <= calibrate(gaussian, 1.0, DELTA) <= exact * 1.0001


def test_what_no_noise_reaches_is_said():
    with pytest.raises(ValueError, match="no noise reaches epsilon 1 at"):
        calibrate(lambda scale: compose([gaussian(scale), gaussian(0.0)]), 1.0, DELTA)


def planned(**settings):
    return make_plan(
        run="r",
        method="dpsgd",
        settings=settings,
        n_items=3_000,
        dp="central",
        epsilon=8.0,
        delta=DELTA,
        shops=111,
        customers=3_000,
    )


def test_a_plan_of_31_rounds_and_its_epsilon_by_round_are_quick():
    started = time.process_time()
    plan = planned()
    assert time.process_time() - started < 0.3
    spent = [epsilon(plan.event(round_), plan.delta) for round_ in range(1, 32)]
    assert spent == sorted(spent)
    assert time.process_time() - started < 0.6


def test_a_sampled_plan_is_calibrated_in_seconds():
    started = time.process_time()
    plan = planned(sampling_rate=0.1)
    assert time.process_time() - started < 5
    assert 7.9 < epsilon(plan.event(), plan.delta) <= 8.0
