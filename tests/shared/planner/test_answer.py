import json
import math
from dataclasses import replace

import pytest

from hansa.dp.accounting import calibrate, compose, epsilon, gaussian, rdp_epsilon
from hansa.dp.filter import RenyiFilter
from hansa.dp.ledger import Budget, Ledger
from hansa.errors import UsageError
from hansa.plan import METHODS, make_plan
from hansa.planner.advice import customers_for, needs
from hansa.planner.answer import answer, smallest_ceiling
from hansa.planner.payoff import KINDS, gain_kept, pays
from hansa.planner.question import DP_CHOICES, Question, league_of, plan_of

GROCERS = Question(shops=111, customers=20, items=3_000, epsilon=8.0)


def test_local_noise_at_small_stores_is_said_to_be_hopeless_and_what_would_work():
    found = answer(GROCERS)
    assert found["verdict"] == "hopeless"
    assert "as noisy as a single sum at epsilon 0.56" in found["reason"]
    remedies = " ".join(found["what_would_work"])
    assert "--dp distributed" in remedies
    assert "more customers a shop: at least" in remedies


@pytest.mark.parametrize("dp", ["central", "distributed", "none"])
def test_the_same_stores_can_join_where_the_noise_is_added_once(dp):
    found = answer(replace(GROCERS, dp=dp))
    assert found["verdict"] == "can pay"
    assert found["what_would_work"] == []


def test_local_noise_can_pay_at_large_shops():
    assert answer(replace(GROCERS, customers=5_000))["verdict"] == "can pay"


def test_shared_noise_is_a_bit_more_than_one_central_sum_has():
    distributed, central = (answer(replace(GROCERS, dp=dp)) for dp in ("distributed", "central"))
    for shared, once in zip(distributed["releases"], central["releases"], strict=True):
        assert 1.0 < shared["noise_multiplier"] / once["noise_multiplier"] < 1.1  # Renyi accounting costs
    counts = distributed["releases"][0]
    assert counts["league"]["noise"] / counts["noise_multiplier"] == pytest.approx((111 / 78) ** 0.5)
    assert distributed["privacy"]["epsilon_spent"] <= GROCERS.epsilon
    assert "78 of 111 shops make it up" in distributed["reason"]


@pytest.mark.parametrize("shops", [2, 501])
def test_shared_noise_is_for_leagues_that_can_be_masked(shops):
    with pytest.raises(UsageError, match=f"--shops {shops}: distributed takes 3 to 500; use --dp local"):
        answer(replace(GROCERS, shops=shops, dp="distributed"))
    assert "--dp distributed" not in " ".join(answer(replace(GROCERS, shops=shops))["what_would_work"])


@pytest.mark.parametrize("shops", [1, 2])
def test_one_shop_is_no_federation(shops):
    found = answer(replace(GROCERS, shops=shops, customers=10**6, dp="central"))
    assert found["verdict"] == ("hopeless" if shops == 1 else "can pay")


def test_popularity_is_not_oversold():
    found = answer(replace(GROCERS, method="popularity", dp="central"))
    assert found["verdict"] == "unlikely"
    assert found["what_would_work"] == ["--method cooccurrence, which learns what goes with what"]


def test_hybrid_with_a_share_of_somebodys_choice_says_so():
    question = replace(GROCERS, dp="central", method="hybrid", settings=(("refinement_share", 0.5),))
    split = answer(question)["split"]
    assert split["refinement"] == 0.5
    assert split["why"].startswith("as set by method.refinement_share; recommended is 0%")
    split = answer(replace(question, customers=5_000))["split"]
    assert "recommended is 5%" in split["why"]


def test_hybrid_gives_the_reason_for_what_it_does_where_gradients_begin_to_pay():
    question = Question(shops=2, customers=10_000, items=3_000, epsilon=4.0, dp="central", method="hybrid")
    split = answer(question)["split"]  # customers x epsilon are REFINEMENT_PAYS exactly
    assert (split["refinement"] > 0) == ("gradients pay" in split["why"])


def test_hybrid_says_how_it_splits_the_budget_and_why():
    small, large = (replace(GROCERS, dp="central", method="hybrid", customers=n) for n in (20, 5_000))
    for question, word in ((small, "do not pay"), (large, "gradients pay")):
        split = answer(question)["split"]
        assert word in split["why"]
        spent = {}
        for release in plan_of(question).learner.releases():
            spent[release.name] = spent.get(release.name, 0) + release.noise_multiplier**-2
        assert {name: split[name] for name in spent} == pytest.approx(spent)
        assert (split["refinement"] > 0) == ("refinement" in spent) == (question is large)
    assert answer(replace(small, method="cooccurrence"))["split"] is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dp", DP_CHOICES)
def test_answers_are_json(method, dp):
    question = Question(shops=8, customers=300, items=500, method=method, dp=dp, lifetime=3, overlap=2)
    found = json.loads(json.dumps(answer(question), allow_nan=False))
    assert (found["privacy"] is None) == (found["lifetime"] is None) == (dp == "none")
    assert all(
        (release["shop"] is None) == (dp in ("central", "distributed")) for release in found["releases"]
    )
    assert sum(release["rounds"] for release in found["releases"]) == len(plan_of(question).releases)


def test_the_noise_is_that_of_the_plan_that_a_run_would_have():
    found = answer(replace(GROCERS, dp="central"))
    plan = make_plan(
        run="r",
        method="cooccurrence",
        settings=found["settings"],
        n_items=3_000,
        dp="central",
        epsilon=8.0,
        delta=found["privacy"]["delta"],
        shops=111,
        customers=3_000,
    )
    assert [release["noise_multiplier"] for release in found["releases"]] == [
        release.noise_multiplier for release in plan.releases
    ]
    assert 7.99 < found["privacy"]["epsilon_spent"] <= 8.0 <= found["privacy"]["cross_check"]["epsilon"]


@pytest.mark.parametrize(("dp", "expected"), [("central", 6.2), ("local", 2.4)])
def test_overlap_is_group_privacy_in_one_sum_and_composition_in_several(dp, expected):
    found = answer(replace(GROCERS, epsilon=1.0, dp=dp, overlap=5))["privacy"]
    assert found["epsilon_spent_max_overlap"] == pytest.approx(expected, rel=0.03)
    assert found["max_overlap"] == 5


@pytest.mark.parametrize("runs", [1, 2, 12])
def test_a_ledger_with_the_ceiling_named_pays_for_a_lifetime(runs):
    multiplier = calibrate(gaussian, 2.0, 1e-5)
    event = gaussian(multiplier)
    ceiling = smallest_ceiling(event, runs, 1e-5)
    ledger = Ledger(Budget(ceiling, 1e-5))
    for run in range(runs):
        ledger.reserve(f"run {run}", (event,))
    assert ledger.spent() <= ceiling


def test_a_lifetime_needs_no_more_than_is_certain_to_be_spent():
    event = gaussian(calibrate(gaussian, 2.0, 1e-5))
    assert smallest_ceiling(event, 1, 1e-5) == epsilon(event, 1e-5)
    needed = smallest_ceiling(event, 12, 1e-5)
    assert rdp_epsilon(compose([event] * 12), 1e-5) <= needed < 12 * 2.0
    short = RenyiFilter.for_ceiling(0.999 * needed, 1e-5)
    assert 12 * short.cost([event]) > short.budget(0.999 * needed)


@pytest.mark.parametrize("dp", ["local", "central"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_named_as_enough_is_enough_and_hardly_more(dp, kind):
    question = replace(GROCERS, dp=dp, customers=6)
    need = needs(question, kind)
    for name, figure in (("shops", need.shops), ("customers", need.customers), ("epsilon", need.epsilon)):
        if figure is None:
            continue
        for more in (1, 1.1, 1.7, 4):
            changed = figure * more if name == "epsilon" else math.ceil(figure * more)
            assert pays(league_of(replace(question, **{name: changed})), kind), name
        less = figure / 3 if name == "epsilon" else max(1, int(figure / 3))
        assert less < 2 or not pays(league_of(replace(question, **{name: less})), kind), name


@pytest.mark.parametrize("kind", KINDS)
def test_customers_for_half_keep_half_and_hardly_more(kind):
    told = answer(replace(GROCERS, dp="central"))["payoff"]["kinds"][kind.name]["customers_for_half"]
    assert list(told) == ["1", "2", "4"]
    if kind.most < 0.5:
        assert set(told.values()) == {None}
        return
    for budget, customers in told.items():
        assert customers is not None
        for factor, enough in ((1.0, True), (0.8, False)):
            asked = Question(
                shops=1,
                customers=round(factor * customers),
                items=3_000,
                epsilon=float(budget),
                delta=1e-5,
                dp="central",
            )
            assert (gain_kept(league_of(asked), kind) >= 0.5) == enough
    assert told["1"] > told["2"] > told["4"]


def test_a_share_that_nobody_keeps_needs_no_number():
    assert customers_for(0.9, 1.0, "cooccurrence", 3_000, {"half": 1e4, "power": 2.0, "most": 0.55}) is None


def test_next_to_no_budget_is_an_answer():
    found = answer(replace(GROCERS, epsilon=1e-9, dp="central"))
    assert found["verdict"] == "hopeless"
    assert found["payoff"]["kinds"]["video games"]["enough"]["shops"] is None


def test_a_setting_is_heard():
    found = answer(replace(GROCERS, settings=(("vocabulary", 150),)))
    assert found["settings"]["vocabulary"] == 150
    assert found["payoff"]["items_in_statistic"] == 150


def test_a_setting_that_larger_federations_could_not_have_changes_nothing_in_what_would_work():
    question = Question(shops=20_000, customers=20, items=50_000, epsilon=1.0, dp="local")
    plain, nearer = (answer(replace(question, settings=given)) for given in ((), (("nearness", 0.0),)))
    assert nearer["settings"]["nearness"] == 0.0
    assert nearer["what_would_work"] == plain["what_would_work"]
    assert nearer["payoff"] == plain["payoff"]


@pytest.mark.parametrize("method", METHODS)
def test_the_statistic_is_over_what_the_method_releases(method):
    question = replace(GROCERS, method=method)
    found = answer(question)
    size = getattr(plan_of(question).learner, "size", 3_000)
    assert found["payoff"]["items_in_statistic"] == size
    assert (size < 3_000) == (method not in ("popularity", "dpsgd"))
    assert any("over the best sellers only" in line for line in found["what_would_work"]) == (
        method == "dpsgd"
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"shops": 0}, "--shops 0: use a whole number from 1"),
        ({"customers": -5}, "--customers -5"),
        ({"items": 10**9}, "--items 1000000000"),
        ({"lifetime": 0}, "--lifetime 0"),
        ({"history": 0}, "--history 0"),
        ({"overlap": 112}, "--overlap 112: use a number of shops from 1 to 111"),
        ({"overlap": 0}, "--overlap 0"),
        ({"dp": "laplace"}, "--dp: unknown value 'laplace'"),
        ({"method": "svd"}, "method: unknown value 'svd'"),
        ({"epsilon": 0.0}, "--epsilon 0"),
        ({"epsilon": math.nan}, "--epsilon nan"),
        ({"epsilon": math.inf}, "--epsilon inf"),
        ({"epsilon": 1e-9, "delta": 1e-12}, "--epsilon 1e-09: no noise reaches"),
        ({"delta": 1.0}, "--delta 1"),
        ({"settings": (("speed", 1),)}, "method.speed"),
        ({"settings": (("vocabulary", "x"),)}, "method.vocabulary"),
    ],
)
def test_bad_figures_are_said_in_one_line(changed, said):
    with pytest.raises(UsageError) as error:
        answer(replace(GROCERS, **changed))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
