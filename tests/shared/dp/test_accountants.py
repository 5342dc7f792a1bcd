"""The conformance suite that every accountant has to pass: an event and a delta in, an epsilon out."""

import math
from dataclasses import dataclass
from functools import reduce

import dp_accounting
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from scipy.stats import norm

from hansa.dp.accounting import RenyiEvent, compose, cross_check, epsilon, gaussian, rdp_epsilon, with_overlap
from hansa.dp.filter import RenyiFilter
from hansa.planner.answer import filter_ceiling

DELTA = 1e-5


def by_filter(event, delta):
    """The ceiling that a lifetime filter needs for the event."""
    return filter_ceiling(event, 1, delta)


ACCOUNTANTS = {"losses": epsilon, "renyi": rdp_epsilon, "opacus": cross_check, "filter": by_filter}


@pytest.fixture(params=ACCOUNTANTS)
def accountant(request):
    return ACCOUNTANTS[request.param]


@dataclass(frozen=True)
class Disguised(RenyiEvent):
    """A Gaussian that is known by its curve only."""

    multiplier: float

    def renyi(self, order):
        return order / (2 * self.multiplier**2)


EVENTS = {
    "one": gaussian(5.0),
    "little noise": gaussian(0.9),
    "much noise": gaussian(300.0),
    "rounds": compose([gaussian(12.0), gaussian(20.0, count=30)]),
    "sampled": gaussian(2.0, 0.1, 20),
    "mixed": compose([gaussian(4.0), gaussian(1.5, 0.02, 50)]),
    "overlap": with_overlap(gaussian(8.0, 0.05, 100), 3, summed=True),
}
# Overlaps and curves are in no ledger, hence the filter does not know them.
CASES = [
    (ACCOUNTANTS[name], event)
    for name in ACCOUNTANTS
    for event in EVENTS
    if (name, event) != ("filter", "overlap")
]


def lower_bound(event, delta, grid=1e-3):
    """The optimistic loss distribution of dp-accounting, composed without any merging."""

    def losses(part):
        if isinstance(part, dp_accounting.ComposedDpEvent):
            return reduce(lambda one, other: one.compose(other), map(losses, part.events))
        if isinstance(part, dp_accounting.SelfComposedDpEvent):
            return losses(part.event).self_compose(part.count)
        settings = {
            "pessimistic_estimate": False,
            "value_discretization_interval": grid,
            "use_connect_dots": False,
        }
        if isinstance(part, dp_accounting.dp_event.MixtureOfGaussiansDpEvent):
            mixture = (part.standard_deviation, part.sensitivities, part.sampling_probs)
            return pld.from_mixture_gaussian_mechanism(*mixture, **settings)
        if isinstance(part, dp_accounting.PoissonSampledDpEvent):
            settings["sampling_prob"] = part.sampling_probability
            part = part.event
        return pld.from_gaussian_mechanism(part.noise_multiplier, **settings)

    return losses(event).get_epsilon_for_delta(delta)


@pytest.mark.parametrize(("measure", "name"), CASES)
def test_never_below_the_optimistic_losses(measure, name):
    assert measure(EVENTS[name], DELTA) >= lower_bound(EVENTS[name], DELTA)


@pytest.mark.parametrize("name", EVENTS)
def test_losses_are_tight(name):
    # Optimistic rounding costs up to half a cell of the grid for each of the up to 100 sums.
    assert epsilon(EVENTS[name], DELTA) <= lower_bound(EVENTS[name], DELTA, 1e-4) + 0.02


@pytest.mark.parametrize(("measure", "name"), CASES)
def test_losses_are_the_tightest(measure, name):
    assert 0 < epsilon(EVENTS[name], DELTA) <= measure(EVENTS[name], DELTA)


@pytest.mark.parametrize("name", EVENTS)
def test_opacus_and_dp_accounting_agree_on_renyi(name):
    assert rdp_epsilon(EVENTS[name], DELTA) == pytest.approx(cross_check(EVENTS[name], DELTA), rel=0.02)


def test_a_smaller_delta_less_noise_more_sums_and_more_sampling_cost_more(accountant):
    base = accountant(gaussian(2.0, 0.1, 20), DELTA)
    assert accountant(gaussian(2.0, 0.1, 20), DELTA / 10) > base
    assert accountant(gaussian(1.9, 0.1, 20), DELTA) > base
    assert accountant(gaussian(2.0, 0.1, 21), DELTA) > base
    assert accountant(gaussian(2.0, 0.12, 20), DELTA) > base


def test_without_sampling_it_costs_more_than_with(accountant):
    costs = [accountant(gaussian(2.0, rate, 5), DELTA) for rate in (0.01, 0.2, 0.9, 1.0)]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1] / 2


@pytest.mark.parametrize(
    ("first", "second"),
    [(gaussian(5.0), gaussian(7.0)), (gaussian(2.0, 0.1, 20), gaussian(3.0)), (gaussian(1.0, 0.01),) * 2],
)
def test_a_composition_costs_more_than_its_parts_and_less_than_basic_composition(accountant, first, second):
    both = accountant(compose([first, second]), DELTA)
    assert both > max(accountant(first, DELTA), accountant(second, DELTA))
    assert both <= accountant(first, DELTA / 2) + accountant(second, DELTA / 2)


def test_how_a_plan_is_written_does_not_matter(accountant):
    together = compose([gaussian(2.0, 0.1, 60), gaussian(9.0, count=2)])
    singly = compose(
        [gaussian(9.0)]
        + [gaussian(2.0, 0.1)] * 25
        + [compose([gaussian(2.0, 0.1, 5)] * 7), compose([gaussian(9.0)])]
    )
    assert accountant(singly, DELTA) == pytest.approx(accountant(together, DELTA), rel=2e-4)


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
def test_without_noise_it_is_infinite(accountant, event):
    assert accountant(event, DELTA) == math.inf


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
def test_unknown_events_are_refused_before_anything_is_counted(accountant, event):
    before = accountant(gaussian(3.0), DELTA)
    with pytest.raises(ValueError, match="no accountant for the event"):
        accountant(compose([gaussian(3.0), event]), DELTA)
    assert accountant(gaussian(3.0), DELTA) == before


@pytest.mark.parametrize("multiplier", [0.7, 1.0, 3.7, 20.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-8])
def test_the_true_delta_at_the_epsilon_is_no_larger(accountant, multiplier, delta):
    found = accountant(gaussian(multiplier), delta)
    # Balle and Wang 2018, arXiv 1805.06530, equation 6, at sensitivity 1.
    a, b = 1 / (2 * multiplier), found * multiplier
    assert norm.cdf(a - b) - math.exp(found) * norm.cdf(-a - b) <= delta


@pytest.mark.parametrize(
    ("rate", "multiplier", "count", "delta", "published"),
    [
        # TensorFlow Privacy, compute_dp_sgd_privacy_test.py, Test0: n 60,000, batch 150, 15 epochs.
        (150 / 60_000, 1.3, 6_000, 1e-5, 0.7242234026109595),
        # The same, Test1: n 100,000, batch 100, 30 epochs.
        (100 / 100_000, 1.0, 30_000, 1e-7, 1.4154988495444845),
        # Measured with dp-accounting 0.6.0 and Opacus 1.6.0 at the accountants' own orders.
        (0.01, 1.0, 1_000, 1e-5, 2.10137),
        (0.05, 2.0, 500, 1e-5, 2.76858),
    ],
)
@pytest.mark.parametrize("measure", [rdp_epsilon, cross_check])
def test_published_renyi_epsilons(measure, rate, multiplier, count, delta, published):
    assert measure(gaussian(multiplier, rate, count), delta) == pytest.approx(published, abs=1e-4)


@pytest.mark.parametrize(
    ("rate", "multiplier", "count", "losses", "random_variables"),
    [
        # dp-accounting 0.6.0 at 1e-4, and Opacus 1.6.0's PRV accountant (Gopi et al. 2021, arXiv 2106.02848).
        (0.01, 1.0, 1_000, 1.82824, 1.83837),
        (0.05, 2.0, 500, 2.53203, 2.54219),
    ],
)
def test_published_loss_epsilons(rate, multiplier, count, losses, random_variables):
    found = epsilon(gaussian(multiplier, rate, count), DELTA)
    assert found == pytest.approx(losses, abs=1e-5)
    assert found < random_variables


def test_the_moments_accountant_was_an_upper_bound():
    # Abadi et al. 2016, arXiv 1607.00133, section 3.2: q 0.01, sigma 4, 10,000 steps, delta 1e-5 give 1.26.
    event = gaussian(4.0, 0.01, 10_000)
    assert epsilon(event, DELTA) < rdp_epsilon(event, DELTA) <= 1.26
    assert epsilon(event, DELTA) > 0.8


@pytest.mark.parametrize("accountant", [epsilon, rdp_epsilon, cross_check])
def test_a_curve_is_accounted_by_renyi(accountant):
    plain, disguised = gaussian(5.0, count=4), dp_accounting.SelfComposedDpEvent(Disguised(5.0), 4)
    assert accountant(disguised, DELTA) == pytest.approx(rdp_epsilon(plain, DELTA), rel=1e-3)
    mixed = compose([gaussian(7.0), disguised])
    assert accountant(mixed, DELTA) == pytest.approx(
        rdp_epsilon(compose([gaussian(7.0), plain]), DELTA), rel=1e-3
    )


@pytest.mark.parametrize("ceiling", [0.5, 2.0, 5.0, 15.0])
@pytest.mark.parametrize("runs", [1, 2, 7, 40])
def test_gaussian_runs_fit_under_the_ceiling_that_the_filter_names(ceiling, runs):
    """Where costs are linear in the order, fixing it beforehand loses hardly anything."""
    event = gaussian(9.0, count=3)
    needed = filter_ceiling(event, runs, DELTA)
    chosen = RenyiFilter.for_ceiling(ceiling, DELTA)
    assert (runs * chosen.cost([event]) <= chosen.budget(ceiling)) == (needed <= ceiling)
    assert rdp_epsilon(compose([event] * runs), DELTA) <= needed
    assert needed <= 1.05 * rdp_epsilon(compose([event] * runs), DELTA)


def test_a_filter_is_not_the_best_order_in_hindsight():
    """Sampled sums with little noise cost much at the order chosen for Gaussians, and the filter says so."""
    event = gaussian(0.6, 0.001, 3_000)
    assert filter_ceiling(event, 2, DELTA) > 1.3 * rdp_epsilon(compose([event] * 2), DELTA)
