import math
from dataclasses import dataclass

import dp_accounting
import numpy as np
import pytest
from dp_accounting.dp_event import MixtureOfGaussiansDpEvent
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import binom, norm

from hansa.dp.accounting import SkellamEvent, calibrate, cross_check, epsilon, rdp_epsilon
from hansa.dp.events import (
    NON_PRIVATE,
    RenyiEvent,
    compose,
    covering,
    from_parts,
    gaussian,
    leaves,
    skellam,
    to_parts,
    with_overlap,
)

DELTA = 1e-5


@dataclass(frozen=True)
class Curve(RenyiEvent):
    multiplier: float = 3.0

    def renyi(self, order):
        return order / (2 * self.multiplier**2)


def test_equal_mechanisms_are_counted_together():
    event = compose(
        [gaussian(2.0), gaussian(2.0, count=3), gaussian(2.0, 0.5), compose([gaussian(2.0, 0.5, 2)])]
    )
    plain = dp_accounting.GaussianDpEvent(2.0)
    assert leaves(event) == {plain: 4, dp_accounting.PoissonSampledDpEvent(0.5, plain): 3}
    assert leaves(compose([Curve(), Curve(), Curve(4.0)])) == {Curve(): 2, Curve(4.0): 1}


@pytest.mark.parametrize("multiplier", [0.0, 5e-324, 1e-200, 9e-4])
@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_hardly_any_noise_is_none(multiplier, rate):
    assert leaves(gaussian(multiplier, rate)).keys() == {NON_PRIVATE}


@pytest.mark.parametrize(
    "event",
    [
        gaussian(0.0),
        gaussian(1.1),
        gaussian(0.7, 0.1),
        gaussian(1 / 3, 0.5, 4),
        skellam(1e9 / 3, 2**32 + 7, 2**30),
        skellam(70.5, 9, 8, 12),
    ],
)
def test_written_events_are_the_same_events(event):
    assert from_parts(to_parts(event)) == event
    both = compose([event, gaussian(2.0)])
    assert from_parts(to_parts(both)) == both


@pytest.mark.parametrize("event", [Curve(), with_overlap(gaussian(2.0, 0.1), 3, summed=True)])
def test_what_cannot_be_written_is_refused(event):
    with pytest.raises(ValueError, match="has no written form"):
        to_parts(compose([gaussian(1.0), event]))


@pytest.mark.parametrize(("shops", "expected"), [(1, 1.0), (2, 2.15), (5, 6.2), (10, 14.4)])
def test_overlap_in_one_sum_is_group_privacy(shops, expected):
    multiplier = calibrate(gaussian, 1.0, DELTA)
    event = with_overlap(gaussian(multiplier), shops, summed=True)
    assert epsilon(event, DELTA) == pytest.approx(expected, rel=0.01)
    assert epsilon(event, DELTA) == pytest.approx(epsilon(gaussian(multiplier / shops), DELTA), abs=1e-9)


@pytest.mark.parametrize("shops", [2, 5])
def test_overlap_with_separate_noise_composes(shops):
    event = with_overlap(gaussian(6.0), shops, summed=False)
    assert epsilon(event, DELTA) == pytest.approx(epsilon(gaussian(6.0 / shops**0.5), DELTA), abs=1e-6)
    sampled = with_overlap(gaussian(2.0, 0.1, 4), shops, summed=False)
    assert epsilon(sampled, DELTA) == pytest.approx(epsilon(gaussian(2.0, 0.1, 4 * shops), DELTA), abs=1e-9)


def true_epsilon(rate, multiplier, shops):
    """Of one sum that a person moves by k bounds with probability Binomial(shops, rate)(k), by its densities.

    The density ratio grows with the sum, so that the worst sets are half-lines: above the edge for adding
    the person, below it for removing.
    """
    moves = np.arange(shops + 1)
    chances = binom.pmf(moves, shops, rate)
    reach = 1000 * multiplier**2

    def loss(x):
        return logsumexp((moves * x - moves**2 / 2) / multiplier**2, b=chances)

    def delta(eps):
        edge = brentq(lambda x: loss(x) - eps, -reach, reach)
        found = chances @ norm.sf(edge, moves, multiplier) - math.exp(eps) * norm.sf(edge, 0, multiplier)
        if -eps > math.log(chances[0]):
            edge = brentq(lambda x: loss(x) + eps, -reach, reach)
            below = chances @ norm.cdf(edge, moves, multiplier)
            found = max(found, norm.cdf(edge, 0, multiplier) - math.exp(eps) * below)
        return found

    return brentq(lambda eps: delta(eps) - DELTA, 1e-3, 30)


@pytest.mark.parametrize("shops", [2, 5, 10])
@pytest.mark.parametrize(("rate", "multiplier"), [(0.1, 4.0), (0.02, 6.0), (0.5, 12.0)])
def test_sampled_overlap_is_the_binomial_mixture_from_above(shops, rate, multiplier):
    true = true_epsilon(rate, multiplier, shops)
    event = with_overlap(gaussian(multiplier, rate), shops, summed=True)
    assert true <= epsilon(event, DELTA) <= 1.01 * true + 1e-3
    assert epsilon(gaussian(multiplier, rate), DELTA) < true  # one shop's cost would not do


@pytest.mark.parametrize("shops", [2, 5])
def test_the_covering_gaussian_is_worse_than_the_mixture(shops):
    event = with_overlap(gaussian(6.0, 0.05, 10), shops, summed=True)
    (mixture,) = leaves(event)
    assert isinstance(mixture, MixtureOfGaussiansDpEvent)
    bound = dp_accounting.SelfComposedDpEvent(covering(mixture), 10)
    # Sensitivity m C at rate 1 - (1 - q)^m.
    assert leaves(bound) == leaves(gaussian(6.0 / shops, 1 - 0.95**shops, 10))
    assert epsilon(event, DELTA) < epsilon(bound, DELTA) <= rdp_epsilon(event, DELTA)
    assert cross_check(event, DELTA) == pytest.approx(rdp_epsilon(bound, DELTA), rel=0.02)


def test_overlap_of_one_shop_is_the_event_itself():
    for summed in (True, False):
        assert leaves(with_overlap(gaussian(2.0, 0.1, 4), 1, summed=summed)) == leaves(gaussian(2.0, 0.1, 4))


def test_overlap_without_noise_is_still_without():
    assert leaves(with_overlap(gaussian(0.0), 4, summed=True)) == {NON_PRIVATE: 1}
    assert leaves(with_overlap(gaussian(0.0011, 0.5), 4, summed=True)) == {NON_PRIVATE: 1}


def test_the_overlap_of_an_unknown_mechanism_is_not_guessed():
    assert leaves(with_overlap(Curve(), 3, summed=False)) == {Curve(): 3}
    with pytest.raises(ValueError, match="the event Curve has no known overlap"):
        with_overlap(Curve(), 3, summed=True)


def test_skellam_sums_are_counted_and_written_as_such():
    event = compose([skellam(900.0, 16, 10, 2), gaussian(2.0), skellam(900.0, 16, 10)])
    assert leaves(event)[SkellamEvent(900.0, 16, 10)] == 3
    assert to_parts(event)[0] == ("skellam", 900.0, 16, 10, 2)
    with pytest.raises(ValueError, match="no event is written as"):
        from_parts([("laplace", 900.0, 16, 10, 2)])
    for wrong in [("skellam", 900.0, 0, 10, 2), ("skellam", math.nan, 16, 10, 2)]:
        with pytest.raises(ValueError, match="no event is written as"):
            from_parts([wrong])


@pytest.mark.parametrize("variance", [0.0, 1e-300, 9e-7 * 16])
def test_hardly_any_skellam_noise_is_none(variance):
    assert leaves(skellam(variance, 16, 10)).keys() == {NON_PRIVATE}
    assert leaves(skellam(1.1e-6 * 16, 16, 10)).keys() != {NON_PRIVATE}


@pytest.mark.parametrize("shops", [2, 5])
def test_overlap_of_skellam_is_group_privacy_in_both_norms(shops):
    event = skellam(36.0 * 2**24, 2**24, 2**20, 4)
    both = with_overlap(event, shops, summed=True)
    assert leaves(both) == {SkellamEvent(36.0 * 2**24, 2**24 * shops**2, 2**20 * shops): 4}
    assert epsilon(both, DELTA) == pytest.approx(rdp_epsilon(gaussian(6.0 / shops, count=4), DELTA), rel=5e-3)
    assert epsilon(both, DELTA) > shops * epsilon(event, DELTA)
    assert leaves(with_overlap(event, 1, summed=True)) == leaves(event)


@pytest.mark.parametrize("check", [epsilon, rdp_epsilon, cross_check])
def test_skellam_and_gaussian_sums_add_up(check):
    fine, plain = skellam(16.0 * 2**24, 2**24, 2**20), gaussian(4.0)
    assert check(compose([fine, plain]), DELTA) == pytest.approx(
        check(compose([fine, fine]), DELTA), rel=5e-3
    )
    assert check(compose([fine, plain]), DELTA) > 1.3 * check(fine, DELTA)
