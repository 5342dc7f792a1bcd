from dataclasses import replace

import numpy as np
import pytest

from hansa.models.content import Content
from hansa.models.own import fit_own
from hansa.recommend import fit_blend, top_k
from hansa.schema import Histories
from hansa_client.serving.lists import Serving, nobody
from hansa_simulations.experiment import plan_for, prepare, simulate_on
from hansa_simulations.settings import make_settings

METHODS = ["cooccurrence", "hybrid", "subspace", "dpals", "dpsgd", "popularity"]


@pytest.fixture(scope="module")
def rows(tastes):
    return tastes(40)


@pytest.fixture(scope="module")
def own(rows, catalogue):
    return fit_own(rows, content=Content.of(catalogue))


@pytest.fixture(scope="module")
def everybody(tastes):
    return tastes(300, seed=1)


@pytest.fixture(scope="module")
def league(league_plan, learn_plan, everybody):
    plan = league_plan()
    return plan.learner, learn_plan(plan, everybody)


@pytest.fixture(scope="module")
def serving(own, league):
    method, state = league
    return Serving(60, own.model, method, state, fit_blend(method, state, own).weight)


def items(answers):
    return [[found.item for found in answer] for answer in answers]


@pytest.mark.parametrize("weight", [None, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", METHODS)
def test_what_is_served_is_the_model_of_the_simulation(
    name, weight, own, rows, everybody, league_plan, learn_plan
) -> None:
    plan = league_plan(name)
    state = learn_plan(plan, everybody)
    blend = fit_blend(plan.learner, state, own)
    blend = blend if weight is None else replace(blend, weight=weight)
    serving = Serving(60, own.model, plan.learner, state, blend.weight)
    wanted = top_k(blend.score(rows), rows, 10)
    answers = serving.lists(rows, 10)
    np.testing.assert_array_equal(items(answers), wanted)
    alone = serving.lists(rows.select(np.array([7])), 10)
    np.testing.assert_array_equal(items(alone), wanted[7:8])
    scores = np.take_along_axis(blend.score(rows), wanted, axis=1)
    np.testing.assert_array_equal([[found.score for found in answer] for answer in answers], scores)


def test_it_is_as_good_as_the_simulation_says() -> None:
    options = {"scenario": "synthetic", "dp": "central", "epsilon": 8.0}
    few = ["scenario.customers=400", "scenario.items=150", "scenario.shops=4"]
    settings = make_settings(options, few)
    prepared = prepare(settings, 0)
    result, state = simulate_on(prepared, settings)
    federation = prepared.federation
    method = plan_for(settings, federation, 0).learner
    values = []
    for shop in federation.shops:
        own = fit_own(shop.train, content=Content.of(federation.catalogue))
        weight = fit_blend(method, state, own).weight
        answers = Serving(shop.train.n_items, own.model, method, state, weight).lists(shop.train, 10)
        for row, answer in enumerate(answers):
            wanted = shop.held_out.row(row).tolist()
            gains = [found.item in wanted for found in answer] @ (1 / np.log2(np.arange(2, 12)))
            values.append(gains / (1 / np.log2(np.arange(2, 2 + min(10, len(wanted))))).sum())
    assert np.mean(values) == pytest.approx(result["metrics"]["model"]["ndcg@10"], abs=1e-9)


def test_before_the_first_model_the_own_one_serves(own, rows) -> None:
    answers = Serving(60, own.model).lists(rows, 10)
    np.testing.assert_array_equal(items(answers), top_k(own.model.score(rows), rows, 10))
    assert {found.reason.source for answer in answers for found in answer} == {"own"}


def test_items_had_are_listed_only_when_asked_for(serving, rows) -> None:
    one = rows.select(np.array([3]))
    had = set(one.row(0).tolist())
    (answer,) = serving.lists(one, 60)
    assert {found.item for found in answer} == set(range(60)) - had
    (answer,) = serving.lists(one, 60, again=True)
    assert {found.item for found in answer} == set(range(60))


def test_only_what_is_sold_and_allowed_is_listed(serving, rows) -> None:
    sold, allowed = np.arange(60) < 30, np.arange(60) % 2 == 0
    limited = replace(serving, sold=sold)
    for answer in limited.lists(rows, 60, allowed=allowed):
        assert answer
        assert all(found.item < 30 and found.item % 2 == 0 for found in answer)
    whole = items(serving.lists(rows, 60))
    for answer, full in zip(items(limited.lists(rows, 60)), whole, strict=True):
        assert answer == [item for item in full if item < 30]
    assert all(found.item < 30 for found in limited.related([40], 60)[0])


def test_the_reasons_are_the_customers_own_items(serving, rows) -> None:
    named = 0
    for row, answer in enumerate(serving.lists(rows, 5)):
        had = set(rows.row(row).tolist())
        for found in answer:
            assert set(found.reason.because) <= had
            named += bool(found.reason.because)
    assert named > 100  # of 200


def test_the_item_that_is_named_is_the_one_that_matters(serving, rows) -> None:
    """Taking it out of the history lowers the score much more than taking out another."""
    drops, others = [], []
    for row, answer in enumerate(serving.lists(rows, 3)):
        one = rows.select(np.array([row]))
        for found in answer:
            if not found.reason.because:
                continue
            for had in one.row(0):
                without = serving.score(one.where(one.items != had)).total[0]
                drop = serving.score(one).total[0][found.item] - without[found.item]
                (drops if had == found.reason.because[0] else others).append(drop)
    assert np.mean(drops) > 2 * np.mean(np.abs(others))
    assert np.mean(drops) > 5 * np.mean(others)


def test_parts_and_what_is_added_to_them_are_on_the_scale_of_the_score(
    tastes, everybody, league_plan, learn_plan
) -> None:
    plan = league_plan(vocabulary=45, popularity_weight=0.0)
    own = replace(fit_own(tastes(200)).model, popularity_weight=0.0)
    serving = Serving(60, own, plan.learner, learn_plan(plan, everybody), 0.3)
    one = tastes(200).select(np.array([5]))
    scored = serving.score(one)
    np.testing.assert_allclose(scored.own + scored.league, scored.total, atol=1e-5)
    every = np.arange(60)
    for part, added, scale in [
        (scored.own, own.contributions(one, every), scored.own_scale),
        (scored.league, plan.learner.contributions(serving.state, one, every), scored.league_scale),
    ]:
        rest = part[0] - added.sum(axis=0) * scale[0]
        assert part.std() > 0.2
        assert rest.std() < 1e-5  # a constant: without popularity all is due to the history


def test_somebody_unknown_gets_what_is_popular_here_and_in_the_league(serving, rows, league) -> None:
    _, state = league
    (answer,) = serving.lists(nobody(1, 60), 10)
    z = [(v - v.mean()) / v.std() for v in (np.log1p(serving.own.counts), np.log(state["counts"][:, 0]))]
    wanted = (1 - serving.weight) * z[0] + serving.weight * z[1]
    assert [found.item for found in answer] == np.argsort(-wanted)[:10].tolist()
    assert all("popular" in found.reason.text(str) for found in answer)
    mixed = Histories.from_pairs([1], [5], 3, 60)
    answers = serving.lists(mixed, 10)
    assert items([answers[0], answers[2]]) == items([answer, answer])
    assert items([answers[1]]) == items(serving.lists(mixed.select(np.array([1])), 10))


@pytest.mark.parametrize("name", METHODS)
def test_somebody_unknown_gets_an_order_from_every_method(name, everybody, league_plan, learn_plan) -> None:
    plan = league_plan(name)
    shared = Serving(60, None, plan.learner, learn_plan(plan, everybody), 1.0)
    (answer,) = shared.lists(nobody(1, 60), 10)
    popular = np.bincount(everybody.items, minlength=60)
    assert popular[items([answer])[0]].mean() > popular.mean() + 5
    assert {found.reason.text(str) for found in answer} == {"popular in the league"}


def test_shared_only_is_the_league_and_the_own_history(league, rows) -> None:
    method, state = league
    shared = Serving(60, None, method, state, 1.0)
    answers = shared.lists(rows, 10)
    np.testing.assert_array_equal(items(answers), top_k(method.score(state, rows), rows, 10))
    assert {found.reason.source for answer in answers for found in answer} == {"league"}


def test_what_goes_together_is_of_one_taste(serving) -> None:
    for basket in ([0], [3, 6], [1, 4], [2, 5, 8]):
        answer, source = serving.related(basket, 5)
        assert source == "interactions"
        assert len(answer) == 5
        assert {found.item % 3 for found in answer} == {basket[0] % 3}
        assert all(set(found.reason.because) <= set(basket) for found in answer)
        assert not {found.item for found in answer} & set(basket)


def test_popular_items_do_not_go_with_everything(serving, tastes) -> None:
    rows = tastes(200)
    popular = Histories.from_pairs(
        np.concatenate([rows.rows_index, np.arange(200)]),
        np.concatenate([rows.items, np.zeros(200)]),
        200,
        60,
    )
    alone = Serving(60, fit_own(popular).model)  # everybody has had item 0
    (listed,) = alone.lists(Histories.from_pairs([0], [1], 1, 60), 60)
    assert listed[0].item % 3 != 0 or listed[0].item == 0
    answer, _ = alone.related([1], 5)
    assert 0 not in {found.item for found in answer}


def test_of_an_item_that_nobody_has_had_the_catalogue_tells(tastes, catalogue) -> None:
    rows = tastes(80)
    content = Content.of(catalogue)
    known = rows.where(rows.items >= 3)
    unknown = Serving(60, fit_own(known).model, content=content)
    answer, source = unknown.related([0], 5)
    assert source == "catalogue"
    assert {found.item % 3 for found in answer} == {0}
    assert answer[0].reason.text(str) == "alike in the catalogue"
    assert replace(unknown, content=None).related([0], 5) == ([], "nothing")


def test_the_league_knows_what_the_shop_does_not(league, rows) -> None:
    method, state = league
    own = fit_own(rows.where(rows.items >= 3))
    blended = Serving(60, own.model, method, state, 0.5)
    answer, source = blended.related([0], 5)
    assert source == "interactions"
    assert {found.item % 3 for found in answer} == {0}
    assert {found.reason.source for found in answer} == {"league"}
