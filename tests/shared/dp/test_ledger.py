import pytest

from hansa.dp.accounting import calibrate, compose, epsilon, gaussian, rdp_epsilon
from hansa.dp.ledger import Budget, Ledger
from hansa.errors import RefusalError

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


def test_a_second_plan_is_added_by_renyi_and_refused_above_the_ceiling():
    both = rdp_epsilon(compose([*PLAN, *PLAN]), DELTA)
    books = ledger(both)
    books.reserve("a", PLAN)
    books.reserve("b", PLAN)
    assert books.spent() == pytest.approx(both, abs=1e-9)
    tight = ledger(both - 1e-6)
    tight.reserve("a", PLAN)
    with pytest.raises(RefusalError, match=f"of which {COST:.4g} is spent"):
        tight.reserve("b", PLAN)
    assert set(tight.reservations) == {"a"}
    assert tight.spent() == COST
    # By privacy losses both would have fitted: later plans were chosen after results were seen.
    assert epsilon(compose([*PLAN, *PLAN]), DELTA) < both - 1e-6


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
