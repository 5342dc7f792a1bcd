import numpy as np
import pytest

from hansa.models.contributions import MOST_LEFT_OUT, left_out
from hansa.models.own import OwnModel, fit_own
from hansa.plan import build_method
from hansa.schema import Histories

ALL = np.arange(60)
SETTINGS = {
    "cooccurrence": {"vocabulary": 40},
    "hybrid": {"vocabulary": 40, "refinement_share": 0.3, "refinement_rounds": 2, "recency": 1.0},
    "subspace": {"vocabulary": 40, "dimensions": 8},
    "dpals": {"vocabulary": 40},
    "dpsgd": {"gradient_rounds": 2},
    "popularity": {},
}


def nobody() -> Histories:
    return Histories(np.zeros(2, dtype=np.int64), np.empty(0, dtype=np.int32), 60)


@pytest.mark.parametrize("name", ["cooccurrence", "subspace"])
def test_of_a_linear_method_they_add_up_to_the_personal_score(name, tastes, learn) -> None:
    method, rows = build_method(name, 60, SETTINGS[name]), tastes(200)
    state, one = learn(method, rows), rows.select(np.array([3]))
    added = method.contributions(state, one, ALL)
    rest = method.score(state, one)[0] - added.sum(axis=0) - method.score(state, nobody())[0]
    assert added.shape == (len(one.items), 60)
    assert np.abs(added).max() > 0.1
    assert rest.std() < 1e-5  # a constant: the mean that standardising takes off


def test_of_hybrid_only_popularity_is_left(tastes, learn) -> None:
    method, rows = build_method("hybrid", 60, SETTINGS["hybrid"]), tastes(200)
    state = learn(method, rows)
    first, second = (rows.select(np.array([row])) for row in (3, 4))
    popularity = []
    for one in (first, second):
        scores = method.personal(state, method.over_vocabulary(state)(one).matrix(method.recency))
        spread = method._spread(scores)
        rest = method.score(state, one)[0] - method.contributions(state, one, ALL).sum(axis=0)
        counts = method.popularity_weight
        popularity.append((rest - rest.mean() - counts * _log_counts(method, state)) * spread)
    np.testing.assert_allclose(*popularity, atol=1e-3)  # the same biases, whoever asks


def _log_counts(method, state):
    counts = np.log(np.maximum(state["counts"][:, 0], float(state["floor"][0, 0])))
    return (counts - counts.mean()) / counts.std()


@pytest.mark.parametrize("name", ["dpals", "dpsgd", "popularity"])
def test_of_another_method_they_add_up_to_what_the_history_adds(name, tastes, learn) -> None:
    method, rows = build_method(name, 60, SETTINGS[name]), tastes(200)
    state, one = learn(method, rows), rows.select(np.array([3]))
    added = method.contributions(state, one, ALL)
    whole = (method.score(state, one) - method.score(state, nobody()))[0]
    told = added.any(axis=0)
    np.testing.assert_allclose(added.sum(axis=0)[told], whole[told], atol=1e-5)
    assert told.sum() > 30 if name != "popularity" else not told.any()


@pytest.mark.parametrize("customers", [25, 200])
def test_of_an_own_model_they_add_up_to_the_personal_score(customers, tastes) -> None:
    rows = tastes(customers)
    model = fit_own(rows).model
    one = rows.select(np.array([3]))
    rest = model.score(one)[0] - model.contributions(one, ALL).sum(axis=0)
    popularity = model.popularity_weight * model.popularity[0]
    assert (rest - popularity).std() < 1e-5
    assert model.kind == "ease"


def test_of_popularity_nothing_is_due_to_the_history(tastes) -> None:
    rows = tastes(50)
    model = OwnModel(None, np.ones(60, dtype=np.float32), 1.0, 1.0)
    assert not model.contributions(rows.select(np.array([3])), ALL).any()


def test_long_histories_are_left_out_by_their_newest_items() -> None:
    one = Histories(np.array([0, 50]), np.arange(50, dtype=np.int32), 60)
    calls = []

    def scorer(rows):
        calls.append(len(rows))
        return np.repeat(rows.matrix().sum(axis=1)[:, None], 60, axis=1).astype(np.float32)

    added = left_out(scorer, one, np.array([55, 56]))
    assert max(calls) == MOST_LEFT_OUT
    assert not added[:-MOST_LEFT_OUT].any()
    np.testing.assert_allclose(added[-MOST_LEFT_OUT:], 50 / MOST_LEFT_OUT)
    assert left_out(scorer, nobody(), np.array([55])).shape == (0, 1)
