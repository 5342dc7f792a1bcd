import math

import numpy as np
import pytest
from scipy.special import ive, logsumexp

from hansa.dp.accounting import gaussian, rdp_epsilon, skellam
from hansa.dp.integers import IntegerSkellam
from hansa.dp.renyi import SkellamEvent


def log_masses(variance, last):
    """Logarithms of the masses of 0 to ``last``, by the ratios' continued fraction: not as hansa does it."""
    ratio, logs = 0.0, np.empty(last + 1)
    for k in range(last + 200 + int(variance), -1, -1):
        ratio = 1 / (2 * (k + 1) / variance + ratio)  # I_(k + 1) / I_k
        if k < last:
            logs[k + 1] = math.log(ratio)
    logs[0] = math.log(ive(0, variance))
    return np.cumsum(logs)


def divergence(order, variance, shift):
    """Renyi divergence of the noise moved by ``shift`` from itself, summed up."""
    reach = int(14 * math.sqrt(variance)) + 80
    k = np.arange(-reach, math.ceil(order * shift) + reach + 1)
    logs = log_masses(variance, int(np.abs(k).max()) + shift)
    moved, still = logs[np.abs(k - shift)], logs[np.abs(k)]
    return logsumexp(order * moved + (1 - order) * still) / (order - 1)


CASES = [(0.5, 1), (2.0, 1), (2.0, 3), (60.0, 2), (60.0, 9), (1e4, 30), (4e4, 100)]
ORDERS = [2, 2.5, 3, 3.9, 8, 17.25, 32, 64]


@pytest.mark.parametrize(("variance", "shift"), CASES)
@pytest.mark.parametrize("order", ORDERS)
def test_the_curve_is_above_the_divergence(order, variance, shift):
    true, bound = divergence(order, variance, shift), SkellamEvent(variance, shift**2, shift).renyi(order)
    assert true <= bound * (1 + 1e-9)
    if variance >= 1e4:
        assert bound <= (1.03 if order == int(order) else 1.08) * true  # the chord of a (a - 1)


def test_the_divergence_of_large_noise_is_a_gaussian_s():
    """A control of the sum above."""
    assert divergence(4, 1e4, 30) == pytest.approx(4 * 30**2 / 2e4, rel=1e-3)
    assert divergence(4, 1e4, 30) > divergence(4, 1e4 * 1.05, 30)


@pytest.mark.parametrize("order", [2, 3, 7, 40])
@pytest.mark.parametrize(("variance", "squared", "absolute"), [(3.0, 4, 4), (50.0, 9, 9), (1e5, 400, 60)])
def test_at_whole_orders_it_is_the_theorem_s(order, variance, squared, absolute):
    """Agarwal, Kairouz and Liu 2021, Theorem 3.5, written out."""
    extra = min(((2 * order - 1) * squared + 6 * absolute) / (4 * variance**2), 3 * absolute / (2 * variance))
    expected = order * squared / (2 * variance) + extra
    assert SkellamEvent(variance, squared, absolute).renyi(order) == pytest.approx(expected, rel=1e-12)


def test_between_whole_orders_it_is_the_chord():
    event = SkellamEvent(50.0, 9, 9)
    low, high = 3 * event.renyi(4), 4 * event.renyi(5)
    for part in (0.0, 0.25, 0.5, 0.999, 1.0):
        assert (3 + part) * event.renyi(4 + part) == pytest.approx(low + part * (high - low), rel=1e-12)
    assert event.renyi(1.5) == pytest.approx(event.renyi(2))  # (a - 1) times it is 0 at a = 1
    grown = [event.renyi(order) for order in np.linspace(1.1, 20, 200)]
    assert (np.diff(grown) > -1e-12).all()


@pytest.mark.parametrize(("sigma", "expected"), [(2.0, 2.168), (4.0, 1.013)])
@pytest.mark.parametrize("entries", [1_000, 200_000])
def test_fine_quanta_cost_what_a_gaussian_costs(sigma, expected, entries):
    found = rdp_epsilon(IntegerSkellam(1.0, sigma, entries).event, 1e-5)
    assert found == pytest.approx(expected, abs=1e-3)
    assert found == pytest.approx(rdp_epsilon(gaussian(sigma), 1e-5), rel=2e-3)


def test_a_customer_of_several_shops_moves_the_sum_once_in_each():
    event = SkellamEvent(900.0, 16, 10)
    assert event.at_shops(3) == SkellamEvent(900.0, 144, 30)
    assert event.at_shops(1) == event
    assert event.at_shops(3).renyi(5) > 8 * event.renyi(5)


@pytest.mark.parametrize(
    ("variance", "squared", "absolute"),
    [(0.0, 1, 1), (-1.0, 1, 1), (math.inf, 1, 1), (math.nan, 1, 1), (1.0, 0, 1), (1.0, 1, 0), (1.0, -1, 1)],
)
def test_numbers_out_of_range_are_refused(variance, squared, absolute):
    with pytest.raises(ValueError, match="must be finite and above 0"):
        SkellamEvent(variance, squared, absolute)


def test_equal_events_are_one():
    assert skellam(9.0, 4, 4, 3) == skellam(9.0, 4, 4, 3) != skellam(9.0, 4, 5, 3)
    assert len({SkellamEvent(9.0, 4, 4), SkellamEvent(9.0, 4, 4)}) == 1
