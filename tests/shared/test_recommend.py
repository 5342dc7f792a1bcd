import numpy as np
import pytest

from hansa.metrics import Scorer, Scores, evaluate
from hansa.models.base import State
from hansa.models.own import fit_own
from hansa.models.popularity import Popularity
from hansa.recommend import WEIGHTS, Blend, blend_scores, choose_weight, fit_blend, top_k, trial_values
from hansa.rng import seeded_generator
from hansa.schema import Histories


def tastes(n: int, n_items: int = 90, seed: int = 0) -> Histories:
    rng = seeded_generator(seed, "test")
    taste = np.arange(n)[:, None] % 3 == np.arange(n_items) % 3
    users, items = np.nonzero(rng.random((n, n_items)) < np.where(taste, 0.3, 0.03))
    order = rng.permutation(len(users))
    return Histories.from_pairs(users[order], items[order], n, n_items)


def oracle(histories: Histories) -> Scores:
    """Knows the tastes exactly."""
    votes = np.zeros((len(histories), 3), dtype=np.float32)
    np.add.at(votes, (histories.rows_index, histories.items % 3), 1)
    rng = seeded_generator(9, "test")
    return votes[:, np.arange(histories.n_items) % 3] + rng.random(histories.n_items, dtype=np.float32) * 0.01


def noise(histories: Histories) -> Scores:
    rng = seeded_generator(8, "test")
    return rng.normal(size=(len(histories), histories.n_items)).astype(np.float32)


class Knowing(Popularity):
    """A method that has learnt nothing and scores as it is told."""

    def __init__(self, scorer: Scorer) -> None:
        object.__setattr__(self, "scorer", scorer)

    def score(self, state: State, histories: Histories) -> Scores:
        return self.scorer(histories)


def test_a_useful_shared_model_is_used_and_helps() -> None:
    train, future = tastes(40), tastes(40, seed=1)
    own = fit_own(train)
    blend = fit_blend(Knowing(oracle), {}, own)
    assert blend.weight >= 0.2
    gains = (
        evaluate(blend.score, train, future)["ndcg@10"] - evaluate(own.model.score, train, future)["ndcg@10"]
    )
    assert np.nanmean(gains) > 0


def test_a_useless_shared_model_is_left() -> None:
    weights = [fit_blend(Knowing(noise), {}, fit_own(tastes(40, seed=seed))).weight for seed in range(6)]
    assert np.mean(weights) <= 0.1


def test_weight_zero_serves_the_own_model_exactly() -> None:
    own = fit_own(tastes(20)).model.score
    served = Blend(0.0, noise, own).score(tastes(20))
    np.testing.assert_array_equal(served, own(tastes(20)))


def test_blend_is_the_z_scored_sum() -> None:
    own = np.array([[0, 2, 4]], dtype=np.float32)
    shared = np.array([[30, 20, 10]], dtype=np.float32)
    z = np.sqrt(1.5)
    np.testing.assert_allclose(blend_scores(own, shared, 0.25)[0], [-0.5 * z, 0, 0.5 * z], atol=1e-6)
    np.testing.assert_allclose(blend_scores(own, shared, 1.0)[0], [z, 0, -z], atol=1e-6)


def values(gain_at: dict[float, float], n: int, spread: float = 0.0) -> np.ndarray:
    rng = seeded_generator(5, "test")
    base = 0.1 + 0.05 * rng.random(n)
    return np.stack([base + gain_at.get(w, 0.0) + w * spread * rng.normal(size=n) for w in WEIGHTS])


def test_large_shops_take_the_best_weight() -> None:
    assert choose_weight(values({0.8: 0.02, 0.7: 0.01}, n=2000)) == 0.8


def test_a_small_shop_stays_near_the_prior_and_a_large_one_follows_its_data() -> None:
    gains = {1.0: 0.01}
    assert choose_weight(values({0.6: 0.005, **gains}, n=10)) == 0.6
    assert choose_weight(values({0.6: 0.005, **gains}, n=5000)) == 1.0


def test_a_loss_of_a_few_customers_is_bad_luck_and_of_many_is_not() -> None:
    loss = dict.fromkeys(WEIGHTS[1:], -0.01)
    assert choose_weight(values(loss, n=10)) == 0.6
    assert choose_weight(values(loss, n=100)) == 0.0


def test_where_nothing_can_be_judged_the_own_model_is_served() -> None:
    assert choose_weight(np.full((len(WEIGHTS), 30), np.nan)) == 0.0
    assert choose_weight(np.zeros((len(WEIGHTS), 30))) == 0.0


def test_trial_values_use_the_trial_and_the_kept_history_only() -> None:
    own = fit_own(tastes(30))
    asked: list[int] = []

    def spy(kept: Histories, whole: Histories) -> Scores:
        asked.append(len(kept.items))
        assert all(set(kept.row(u)) <= set(whole.row(u)) for u in range(len(kept)))
        assert len(whole.items) > len(kept.items)
        return oracle(kept)

    found = trial_values(spy, own)
    assert sum(asked) == len(own.split.kept.items)
    expected = evaluate(own.trial.score, own.split.kept, own.split.held)["ndcg@10"]
    np.testing.assert_allclose(found[0], expected)
    assert found.shape == (len(WEIGHTS), 30)


@pytest.mark.parametrize("k", [1, 7])
def test_lists_hold_unseen_items_in_order_of_score(k: int) -> None:
    histories = tastes(5)
    scores = noise(histories)
    listed = top_k(scores, histories, k)
    assert listed.shape == (5, k)
    for u in range(5):
        assert not set(listed[u]) & set(histories.row(u))
        assert (np.diff(scores[u, listed[u]]) <= 0).all()


def test_the_weight_is_judged_without_what_the_model_remembers() -> None:
    class Remembering(Knowing):
        def score_before(self, state: State, kept: Histories, whole: Histories) -> Scores:
            return noise(kept)

    train = tastes(60)
    assert fit_blend(Knowing(oracle), {}, fit_own(train)).weight > 0
    assert fit_blend(Remembering(oracle), {}, fit_own(train)).weight == 0


def test_a_large_shop_does_not_join_for_next_to_nothing() -> None:
    assert choose_weight(values(dict.fromkeys(WEIGHTS[1:], 0.0005), n=5000)) == 0.0
    assert choose_weight(values(dict.fromkeys(WEIGHTS[1:], 0.005), n=5000)) > 0.0
