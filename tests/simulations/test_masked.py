"""A masked league through the two Flower apps, against the same league without masks."""

from dataclasses import replace

import numpy as np
import pytest

from hansa.dp.ledger import Budget, Ledger
from hansa.errors import RefusalError, UsageError
from hansa.plan import make_plan
from hansa.records import Request
from hansa.rng import Source, seeded_generator
from hansa.schema import Histories
from hansa_client.rounds.masking import answer_stage
from hansa_client.rounds.training import consider
from hansa_client.shop import LocalShop
from hansa_simulations.engine import Dropouts, run_in_process
from hansa_simulations.experiment import simulate
from hansa_simulations.members import simulated_members, simulated_roster
from hansa_simulations.settings import make_settings

ITEMS, SEED = 30, 5


def plan(shops, masked, **changed):
    roster = simulated_roster(shops, SEED).digest if masked else ""
    return make_plan(
        **{
            "run": "r",
            "method": "cooccurrence",
            "settings": {"vocabulary": 12},
            "n_items": ITEMS,
            "dp": "distributed",
            "epsilon": 8.0,
            "delta": 1e-5,
            "shops": shops,
            "customers": 1000,
            "masked": masked,
            "roster": roster,
            **changed,
        }
    )


def league(the_plan, ceiling=8.0):
    members = simulated_members(the_plan, SEED) if the_plan.roster else [None] * the_plan.shops
    shops = []
    for position in range(the_plan.shops):
        items = seeded_generator(position, "items").integers(0, ITEMS, 48)
        ledger = Ledger(Budget(ceiling, 1e-5))
        if the_plan.roster:
            ledger.approve(the_plan.roster, members[position].vouched)
        shops.append(
            LocalShop(
                f"s{position}",
                Histories.from_pairs(np.repeat(np.arange(6), 8), items, 6, ITEMS),
                ledger,
                6,
                allowed=("distributed",),
                noise=Source(0, ("noise", position)),
                coins=Source(0, ("coins", position)),
                member=members[position],
                unmasked=True,
            )
        )
    return shops


def run(shops, masked, drop=0.0):
    the_plan, reports = plan(shops, masked), []
    there = league(the_plan)
    roster = simulated_roster(shops, SEED) if masked else None
    state = run_in_process(
        the_plan, there, seed=1, listeners=[reports.append], roster=roster, dropouts=Dropouts(drop, 3)
    )
    return state, reports, there


@pytest.mark.parametrize(("shops", "drop"), [(3, 0.0), (12, 0.0), (30, 0.1), (111, 0.1)])
def test_masks_change_no_bit_of_the_sum_whoever_drops_out(shops, drop):
    masked, reports, _ = run(shops, True, drop)
    bare, others, _ = run(shops, False, drop)
    assert [report.answered for report in reports] == [report.answered for report in others]
    assert (sum(len(report.missing) for report in reports) > 0) == (drop > 0)
    for name, table in bare.items():
        assert table.tobytes() == masked[name].tobytes(), name


def test_too_few_shops_end_the_run_with_one_line():
    with pytest.raises(RefusalError, match=r"aborted: .* shops .*, 24 are needed"):
        run(30, True, 0.6)
    with pytest.raises(RefusalError, match="needs 24; nothing of it may be used"):
        run(30, False, 0.6)


def test_what_is_charged_stays_charged_when_the_round_is_given_up():
    the_plan = plan(10, True)
    there = league(the_plan)
    roster = simulated_roster(10, SEED)

    class AfterUpload(Dropouts):
        def dropped(self, message):
            return message.metadata.message_type == "query.agree"

    with pytest.raises(RefusalError, match="0 shops agreed on the survivors"):
        run_in_process(the_plan, there, seed=1, roster=roster, dropouts=AfterUpload(1.0, 0))
    assert [shop.ledger.reservations["r"].charged for shop in there] == [1] * 10


def ask(shop, the_plan):
    return consider(shop, Request(the_plan.run, 0, the_plan.model_dump_json(), {}))


def test_a_shop_refuses_a_league_that_it_has_not_approved():
    the_plan = plan(4, True)
    shop = league(the_plan)[0]
    assert ask(shop, the_plan).accepted
    for changed, said in (
        ({"member": None}, "not approved the roster"),
        ({"ledger": Ledger(Budget(8.0, 1e-5))}, "not approved the roster"),
        ({"member": replace(shop.member, honest=4)}, "policy: honest"),
        ({"member": replace(shop.member, vouched=frozenset())}, "policy: vouching"),
        ({"member": replace(shop.member, bits=64)}, "policy: bits"),
        ({"allowed": ("local",)}, "does not take part"),
    ):
        answer = ask(replace(shop, plans={}, **changed), the_plan)
        assert not answer.accepted
        assert said in answer.reason


def test_a_deployed_shop_never_sends_its_part_bare():
    the_plan = plan(4, False)
    shop = replace(league(the_plan)[0], unmasked=False)
    answer = ask(shop, the_plan)
    assert not answer.accepted
    assert answer.reason == "the shop's part of a sum does not leave without masks"


def test_a_round_on_other_terms_than_the_plans_is_refused():
    the_plan = plan(4, True)
    shop = league(the_plan)[0]
    assert ask(shop, the_plan).accepted
    state = the_plan.learner.initial_state(seeded_generator(0))
    good = the_plan.parameters(1, state)
    for changed in (
        {"sigma": good.sigma / 2},
        {"sensitivity": good.sensitivity * 4},
        {"entries": good.entries + 1},
        {"bits": 16},
        {"plan": "0" * 64},
        {"release": "pairs"},
        {"threshold": 3, "honest": 2},
    ):
        asked = replace(good, **changed)
        if asked == good:
            continue
        answer, kept = answer_stage(shop, "advertise", Request("r", 1, asked.to_json(), {}), None)
        assert not answer.accepted, changed
        assert kept is None
    assert shop.ledger.reservations["r"].charged == 0
    answer, _ = answer_stage(shop, "advertise", Request("r", 1, good.to_json(), {}), None)
    assert answer.accepted
    again, _ = answer_stage(shop, "advertise", Request("r", 1, good.to_json(), {}), None)
    assert "repeated" in again.reason
    lost, _ = answer_stage(shop, "share", Request("r", 1, "", {}, {}), None)
    assert lost.reason == "state lost"


def begun(the_plan, shop):
    """The shop after the first stage of round 1, and the public state."""
    assert ask(shop, the_plan).accepted
    state = the_plan.learner.initial_state(seeded_generator(0))
    request = Request("r", 1, the_plan.parameters(1, state).to_json(), {})
    answer, kept = answer_stage(shop, "advertise", request, None)
    assert answer.accepted
    return state, kept


def test_a_plan_cannot_be_swapped_under_a_run_that_was_accepted():
    """Equal costs, but with more shops counted on each adds less noise."""
    first = plan(10, True, threshold=6, colluders=1)
    shop = league(first)[0]
    _, kept = begun(first, shop)
    swapped = plan(10, True, threshold=10, colluders=1)
    assert swapped.steps == first.steps
    assert swapped.honest > first.honest
    answer = ask(shop, swapped)
    assert answer.reason == "the plan differs from the one accepted under this name"
    assert shop.plans["r"].digest == first.digest
    shop.plans.clear()  # and after a restart, which the ledger survives
    assert ask(shop, swapped).reason == "the plan differs from the one accepted under this name"
    shop.plans["r"] = swapped  # and if all of that failed
    answer, after = answer_stage(shop, "share", Request("r", 1, "", {}, {}), kept)
    assert (answer.reason, after) == ("state lost", None)


@pytest.mark.parametrize("stage", ["share", "upload", "agree", "unmask"])
def test_a_stage_is_one_of_the_round_that_was_begun(stage):
    the_plan = plan(4, True)
    shop = league(the_plan)[0]
    state, kept = begun(the_plan, shop)
    for run, round_ in (("other", 1), ("r", 2)):
        answer, after = answer_stage(shop, stage, Request(run, round_, "", state, {}), kept)
        assert (answer.accepted, answer.reason, after) == (False, "state lost", None)


def test_no_plan_for_another_catalogue_is_taken():
    """Else a shop would fail if and only if somebody has an item beyond the plan's."""
    for masked in (True, False):
        shop = league(plan(4, masked))[0]
        answer = ask(shop, plan(4, masked, n_items=ITEMS - 1))
        assert answer.reason == "the plan is for another catalogue"
        assert not shop.ledger.reservations


def test_public_state_of_another_shape_is_refused_before_the_charge():
    the_plan = plan(4, True)
    shop = league(the_plan)[0]
    assert ask(shop, the_plan).accepted
    short = {
        name: table[: len(table) // 2 + 1]
        for name, table in the_plan.learner.initial_state(seeded_generator(0)).items()
    }
    request = Request("r", 1, the_plan.parameters(1, short).to_json(), {})
    _, kept = answer_stage(shop, "advertise", request, None)
    answer, _ = answer_stage(shop, "upload", Request("r", 1, "", short, {}), kept)
    assert answer.reason == "the public state does not have the plan's shape"
    assert shop.ledger.reservations["r"].charged == 0


def test_a_shop_that_vouches_for_more_than_the_ledger_approved_refuses():
    the_plan = plan(4, True)
    shop = league(the_plan)[0]
    shop.ledger.approve(the_plan.roster, list(shop.member.vouched)[:2])
    assert ask(shop, the_plan).reason == "the shop has not approved the roster"


@pytest.mark.parametrize(
    ("options", "assignment", "said"),
    [
        ({}, "engine.clipping=ghost", "engine.clipping=ghost: distributed rounds each customer by itself"),
        ({"engine": "ray"}, "secagg.drop=0.1", "secagg.drop: only --engine inprocess drops shops"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(options, assignment, said):
    generated = ["scenario.customers=60", "scenario.items=200", assignment]
    with pytest.raises(UsageError, match=said):
        simulate(make_settings({"scenario": "synthetic", "shops": 4, **options}, generated))
