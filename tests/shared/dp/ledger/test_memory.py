import pytest

from hansa.dp.accounting import calibrate, compose, epsilon, gaussian, rdp_epsilon
from hansa.dp.filter import RenyiFilter
from hansa.dp.ledger import Budget, Ledger
from hansa.errors import RefusalError
from hansa.planner.answer import filter_ceiling

DELTA = 1e-5
PLAN = (gaussian(8.0), gaussian(5.0, 0.5), gaussian(5.0, 0.5))
COST = epsilon(compose(list(PLAN)), DELTA)


def ledger(ceiling=2.0):
    return Ledger(Budget(ceiling, DELTA))


def test_nothing_is_spent_at_first_and_a_reservation_counts_in_full():
    books = ledger()
    assert books.spent() == 0.0
    books.reserve("a", PLAN)
    assert books.spent() == COST
    books.charge("a", PLAN[0])
    assert books.spent() == COST


def test_a_plan_fits_its_own_cost_exactly_and_not_less():
    ledger(COST).reserve("a", PLAN)
    books = ledger(COST * (1 - 1e-6))
    with pytest.raises(RefusalError, match=r"would come to epsilon .* in all; the ceiling is"):
        books.reserve("a", PLAN)
    assert books.spent() == 0.0


def test_the_calibrated_plan_of_the_whole_ceiling_fits():
    multiplier = calibrate(gaussian, 2.0, DELTA)
    ledger(2.0).reserve("a", (gaussian(multiplier),))


def test_from_the_second_plan_on_all_are_under_the_filter():
    """Its order is fixed by the ceiling at the opening, the first plan is in it, and losses count no more."""
    both = filter_ceiling(compose(PLAN), 2, DELTA)
    books = ledger(both)
    books.reserve("a", PLAN)
    books.reserve("b", PLAN)
    rule = RenyiFilter.for_ceiling(both, DELTA)
    assert books.spent() == pytest.approx(rule.epsilon(2 * rule.cost(PLAN)), abs=1e-9)
    assert epsilon(compose([*PLAN, *PLAN]), DELTA) < rdp_epsilon(compose([*PLAN, *PLAN]), DELTA) < both
    tight = ledger(both * (1 - 2e-4))
    tight.reserve("a", PLAN)
    with pytest.raises(RefusalError, match=f"of which {COST:.4g} is spent"):
        tight.reserve("b", PLAN)
    assert set(tight.reservations) == {"a"}
    assert tight.spent() == COST


def test_a_first_plan_that_only_its_losses_let_in_closes_the_ledger():
    """The filter alone would have refused it, so nothing may follow, not even next to nothing."""
    ceiling = COST * 1.01
    rule = RenyiFilter.for_ceiling(ceiling, DELTA)
    assert rule.epsilon(rule.cost(PLAN)) > ceiling
    books = ledger(ceiling)
    books.reserve("a", PLAN)
    with pytest.raises(RefusalError, match="run b would come to"):
        books.reserve("b", (gaussian(1e5),))
    for event in PLAN:
        books.charge("a", event)


def test_a_first_plan_of_little_cost_does_not_open_a_door_for_losses():
    """Only a plan before which nothing was accepted may be measured by its losses."""
    books = ledger(COST * 1.01)
    books.reserve("a", (gaussian(1e5),))
    with pytest.raises(RefusalError, match="run b would come to"):
        books.reserve("b", PLAN)


def test_a_refused_plan_leaves_room_for_a_smaller_one():
    books = ledger(COST)
    with pytest.raises(RefusalError):
        books.reserve("large", PLAN * 3)
    books.reserve("small", PLAN)
    books.charge("small", PLAN[0])


def test_the_same_plan_again_is_free_and_keeps_its_place():
    books = ledger(COST)
    books.reserve("a", PLAN)
    books.charge("a", PLAN[0])
    books.reserve("a", PLAN)
    assert books.spent() == COST
    with pytest.raises(RefusalError, match="no such release left"):
        books.charge("a", PLAN[0])
    books.charge("a", PLAN[1])


@pytest.mark.parametrize("changed", [PLAN[:2], (*PLAN, PLAN[2]), PLAN[::-1], (gaussian(9.0), *PLAN[1:]), ()])
def test_a_changed_plan_under_the_same_name_is_refused(changed):
    books = ledger(100.0)
    books.reserve("a", PLAN)
    with pytest.raises(RefusalError, match="run a: the plan differs"):
        books.reserve("a", changed)
    assert books.reservations["a"].releases == PLAN


def test_charges_follow_the_plan_and_end_with_it():
    books = ledger()
    books.reserve("a", PLAN)
    for count, event in enumerate(PLAN, start=1):
        books.charge("a", event)
        assert books.reservations["a"].charged == count
    for event in PLAN:
        with pytest.raises(RefusalError, match="run a: the accepted plan has no such release left"):
            books.charge("a", event)
    assert books.reservations["a"].charged == 3


def test_missed_releases_are_passed_over_and_stay_paid_for():
    books = ledger()
    books.reserve("a", PLAN)
    books.charge("a", PLAN[1])
    assert books.reservations["a"].charged == 2
    assert books.spent() == COST
    with pytest.raises(RefusalError):
        books.charge("a", PLAN[0])
    books.charge("a", PLAN[2])
    with pytest.raises(RefusalError):
        books.charge("a", PLAN[2])


@pytest.mark.parametrize(
    "event", [gaussian(7.999), gaussian(8.0, 0.5), gaussian(8.0, count=2), gaussian(0.0)]
)
def test_a_release_unlike_the_plans_next_is_refused(event):
    books = ledger()
    books.reserve("a", PLAN)
    with pytest.raises(RefusalError):
        books.charge("a", event)
    assert books.reservations["a"].charged == 0


def test_what_was_never_reserved_cannot_be_charged():
    books = ledger()
    books.reserve("a", PLAN)
    with pytest.raises(RefusalError, match="run b: no plan was accepted"):
        books.charge("b", PLAN[0])


def test_no_finite_ceiling_admits_releases_without_noise():
    books = ledger(1e300)
    with pytest.raises(RefusalError, match="run a without noise in all"):
        books.reserve("a", (gaussian(5.0), gaussian(0.0)))


def test_the_ceilings_own_delta_counts():
    lax, strict = Ledger(Budget(COST, DELTA)), Ledger(Budget(COST, DELTA / 100))
    lax.reserve("a", PLAN)
    with pytest.raises(RefusalError, match="at delta 1e-07"):
        strict.reserve("a", PLAN)
