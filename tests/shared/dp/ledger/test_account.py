import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.dp.accounting import RenyiEvent, compose, epsilon, from_parts, gaussian, skellam, to_parts
from hansa.dp.filter import RenyiFilter
from hansa.dp.ledger.account import (
    MOST_REFUSALS,
    TOLERANCE,
    Account,
    Budget,
    Draft,
    event_of,
    opening,
    releases_of,
)
from hansa.errors import RefusalError

DELTA = 1e-5
PLAN = (gaussian(8.0), gaussian(5.0, 0.5), gaussian(5.0, 0.5))


def account(ceiling=3.0):
    return Account.of([opening(Budget(ceiling, DELTA))])


def take(books, draft):
    """Apply a draft as it comes back from its written form."""
    books.apply(Draft(draft.kind, json.loads(json.dumps(draft.body, allow_nan=False))))


@pytest.mark.parametrize("event", [gaussian(0.0), gaussian(1.1), gaussian(0.7, 0.1), gaussian(1 / 3, 0.5, 4)])
def test_written_events_are_the_same_events(event):
    assert from_parts(to_parts(event)) == event


def test_several_parts_are_a_composition():
    both = compose([gaussian(1.0), gaussian(2.0)])
    assert from_parts(to_parts(both)) == both


def test_entries_say_what_was_asked_and_what_it_comes_to():
    books = account()
    about = {"asked_by": "league", "plan": "d" * 64}
    reserved = books.reserve("a", PLAN, about)
    assert about.items() <= reserved.body.items()
    assert releases_of(reserved.body) == PLAN
    assert len(reserved.body["releases"]) == 2  # equal releases in a row are written once
    assert reserved.body["epsilon_before"] == 0.0
    assert reserved.body["epsilon_after"] == epsilon(compose(PLAN), DELTA)
    take(books, reserved)
    before = 0.0
    for position, event in enumerate(PLAN, start=1):
        charged = books.charge("a", event, {"round": position})
        assert event_of(charged.body) == event
        assert (charged.body["position"], charged.body["round"]) == (position, position)
        assert charged.body["epsilon_before"] == before
        before = charged.body["epsilon_after"]
        take(books, charged)
    assert before == books.spent
    assert books.charged == pytest.approx(books.cost)


PLANS = st.lists(
    st.tuples(st.sampled_from([2.0, 5.0, 9.0, 30.0]), st.just(1.0), st.integers(1, 4)),
    min_size=1,
    max_size=3,
)


@settings(deadline=None)
@given(
    st.sampled_from([0.5, 1.0, 3.0, 8.0]),
    st.lists(PLANS, max_size=6),
    st.lists(st.floats(0.5, 10), max_size=3),
)
def test_whatever_is_asked_one_of_the_two_proofs_holds(ceiling, plans, ceilings):
    """At every moment, for the largest ceiling so far: under the filter, or one plan alone by its losses."""
    books, largest, accepted = account(ceiling), ceiling, []
    order = books.filter.order
    for run, parts in enumerate(plans):
        plan = tuple(gaussian(multiplier, rate) for multiplier, rate, count in parts for _ in range(count))
        if run < len(ceilings):
            change = books.change_ceiling(Budget(ceilings[run], DELTA))
            if change is not None:
                take(books, change)
            largest = max(largest, ceilings[run])
        try:
            take(books, books.reserve(f"run {run}", plan, {}))
        except RefusalError:
            continue
        accepted.append(plan)
        rule = RenyiFilter(order, DELTA)
        events = [event for each in accepted for event in each]
        filtered = rule.epsilon(rule.cost(events)) <= largest + 2 * TOLERANCE
        alone = len(accepted) == 1 and epsilon(compose(accepted[0]), DELTA) <= largest + 2 * TOLERANCE
        assert filtered or alone
        assert books.spent <= books.ceiling.epsilon + TOLERANCE


def test_a_raised_ceiling_keeps_the_order_and_counts_the_first_plan_in_full():
    ceiling = epsilon(compose(PLAN), DELTA)
    books = account(ceiling)
    take(books, books.reserve("a", PLAN, {}))
    rule = books.filter
    both = rule.epsilon(2 * rule.cost(PLAN))
    take(books, books.change_ceiling(Budget(both * 0.999, DELTA)))
    with pytest.raises(RefusalError, match="would come to"):
        books.reserve("b", PLAN, {})
    take(books, books.change_ceiling(Budget(both * 1.001, DELTA)))
    take(books, books.reserve("b", PLAN, {}))
    assert books.filter == rule
    assert books.spent == pytest.approx(both)


def test_a_ceiling_lowered_below_what_is_reserved_stops_its_releases():
    books = account(3.0)
    take(books, books.reserve("a", PLAN, {}))
    take(books, books.change_ceiling(Budget(books.spent * 0.9, DELTA)))
    with pytest.raises(RefusalError, match="the ceiling was lowered to") as refused:
        books.charge("a", PLAN[0], {})
    assert refused.value.reason == "no such release is left in an accepted plan"
    take(books, books.change_ceiling(Budget(3.0, DELTA)))
    books.charge("a", PLAN[0], {})


def test_delta_is_for_life():
    with pytest.raises(RefusalError, match="opened with 1e-05 for its whole lifetime"):
        account().change_ceiling(Budget(3.0, 1e-6))


def test_a_ceiling_as_it_is_makes_no_entry():
    assert account(3.0).change_ceiling(Budget(3.0, DELTA)) is None


def test_after_a_lost_history_nothing_is_accepted_under_any_ceiling():
    books = account(3.0)
    take(books, books.reserve("a", PLAN, {}))
    take(books, Draft("reconcile", {"receipt": None}))
    take(books, books.change_ceiling(Budget(100.0, DELTA)))
    for ask in (lambda: books.reserve("b", (gaussian(1e4),), {}), lambda: books.charge("a", PLAN[0], {})):
        with pytest.raises(RefusalError, match="its ceiling counts as spent"):
            ask()


def test_a_reconciled_history_goes_on_without_what_was_under_way():
    books = account(9.0)
    take(books, books.reserve("a", PLAN, {}))
    take(books, Draft("reconcile", {"receipt": "{}"}))
    with pytest.raises(RefusalError, match="no such release left"):
        books.charge("a", PLAN[0], {})
    take(books, books.reserve("b", PLAN, {}))
    books.charge("b", PLAN[0], {})


class Unknown(RenyiEvent):
    def renyi(self, order):
        return 0.1


def test_an_event_that_cannot_be_written_down_is_refused():
    with pytest.raises(RefusalError, match="the event Unknown has no written form") as refused:
        account().reserve("a", (Unknown(),), {})
    assert refused.value.reason == "the plan has an event of unknown cost"


@pytest.mark.parametrize("plan", [PLAN * 9, (gaussian(0.0),)])
def test_others_learn_that_a_plan_does_not_fit_and_no_number(plan):
    books = account(1.0)
    take(books, books.reserve("a", PLAN, {}))
    with pytest.raises(RefusalError) as refused:
        books.reserve("b", plan, {})
    assert "is spent" in str(refused.value)
    assert refused.value.reason == "the plan does not fit the shop's budget"


def test_an_unlimited_ceiling_can_be_written_down():
    books = account(math.inf)
    take(books, books.reserve("a", (gaussian(0.0),), {}))
    assert books.spent == books.ceiling.epsilon == math.inf


@pytest.mark.parametrize(
    "draft",
    [
        Draft("charge", {"run": "b", "position": 1, "cost": 0.1}),
        Draft("refund", {}),
        Draft("open", {"epsilon": 1.0, "delta": DELTA, "order": 9.0}),
    ],
)
def test_entries_out_of_place_are_refused(draft):
    with pytest.raises(ValueError, match=r"not reserved|unknown kind"):
        account().apply(draft)


SHARED = (skellam(40.0 * 2**24 / 3, 2**24 + 5, 2**22), *[skellam(90.0 * 2**32, 2**32, 2**30)] * 2)


def test_skellam_plans_are_reserved_and_charged_in_writing():
    books = account()
    reserved = books.reserve("a", SHARED, {})
    assert reserved.body["releases"] == (
        ((("skellam", 40.0 * 2**24 / 3, 2**24 + 5, 2**22, 1),), 1),
        ((("skellam", 90.0 * 2**32, 2**32, 2**30, 1),), 2),
    )
    assert reserved.body["epsilon_after"] == epsilon(compose(SHARED), DELTA)
    take(books, reserved)
    assert books.reservations["a"].releases == SHARED
    assert books.reserve("a", SHARED, {}) is None
    for event in SHARED:
        draft = books.charge("a", event, {})
        assert event_of(json.loads(json.dumps(draft.body))) == event
        take(books, draft)
    assert books.charged == pytest.approx(books.cost)
    with pytest.raises(RefusalError, match="no such release left"):
        books.charge("a", SHARED[-1], {})


def test_a_skellam_sum_is_not_another_one_nor_a_gaussian():
    books = account()
    take(books, books.reserve("a", SHARED, {}))
    for other in (skellam(41.0 * 2**24 / 3, 2**24 + 5, 2**22), gaussian((40 / 3) ** 0.5)):
        with pytest.raises(RefusalError, match="no such release left"):
            books.charge("a", other, {})


def test_skellam_and_gaussian_plans_share_one_filter():
    books = account(9.0)
    take(books, books.reserve("a", SHARED, {}))
    take(books, books.reserve("b", PLAN, {}))
    rule = books.filter
    assert books.spent == pytest.approx(rule.epsilon(rule.cost(SHARED) + rule.cost(PLAN)))
    assert books.spent > epsilon(compose(SHARED), DELTA)


def test_the_operator_s_approval_of_a_roster_is_an_entry():
    books = account()
    assert (books.roster, books.vouched) == ("", ())
    draft = books.approve("a" * 64, ["west", "east", "west"])
    assert draft == Draft("roster", {"before": "", "roster": "a" * 64, "vouched": ["east", "west"]})
    take(books, draft)
    assert (books.roster, books.vouched) == ("a" * 64, ("east", "west"))
    assert books.spent == books.cost == 0.0
    assert books.approve("a" * 64, ["west", "east"]) is None
    take(books, books.approve("b" * 64, ["west", "east"]))
    assert books.roster == "b" * 64
    again = books.approve("a" * 64, [])
    assert again.body["before"] == "b" * 64


def test_vouching_for_other_shops_of_the_same_roster_is_an_entry():
    books = account()
    take(books, books.approve("a" * 64, ["east"]))
    take(books, books.approve("a" * 64, ["east", "west"]))
    assert books.vouched == ("east", "west")


def test_refusals_are_entered_once_each_and_not_without_end():
    books = account()
    first = books.refuse("r" * 500, "no", {"asked_by": "league"})
    assert first.body == {"asked_by": "league", "run": "r" * 200, "reason": "no"}
    take(books, first)
    assert books.refuse("r" * 500, "no", {}) is None
    for number in range(2, MOST_REFUSALS + 1):
        take(books, books.refuse(f"run {number}", "no", {}))
    assert books.refuse("another", "no", {}) is None
    take(books, books.reserve("a", PLAN, {}))
    assert books.refuse("another", "no", {}) is not None  # what is paid for ends the row
    assert books.spent > 0
