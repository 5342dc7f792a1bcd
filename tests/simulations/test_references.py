import numpy as np
import pytest

from hansa.metrics import evaluate
from hansa.models.tuning import hold_back
from hansa.rng import seeded_generator
from hansa.schema import Histories, Shop, stack
from hansa_simulations.references import fit_alone, fit_pooled, fit_references, popularity


def shop(name: str, seed: int, n: int = 25, n_items: int = 90) -> Shop:
    rng = seeded_generator(seed, "test")
    taste = np.arange(n)[:, None] % 3 == np.arange(n_items) % 3
    users, items = np.nonzero(rng.random((n, n_items)) < np.where(taste, 0.3, 0.03))
    order = rng.permutation(len(users))
    split = hold_back(Histories.from_pairs(users[order], items[order], n, n_items))
    return Shop(name, tuple(f"{name}{u}" for u in range(n)), split.kept, split.held)


SHOPS = [shop(f"s{k}", k) for k in range(8)]


def test_popularity_counts_over_all_shops() -> None:
    train = stack([s.train for s in SHOPS])
    expected = train.matrix().sum(axis=0)
    np.testing.assert_array_equal(popularity(SHOPS)(SHOPS[0].train.select(np.arange(2))), [expected] * 2)


def test_pooling_helps_shops_of_one_kind() -> None:
    found = fit_references(SHOPS, "last20")
    train, held = stack([s.train for s in SHOPS]), stack([s.held_out for s in SHOPS])
    alone = [
        evaluate(own.model.score, s.train, s.held_out) for own, s in zip(found.alone, SHOPS, strict=True)
    ]
    alone_mean = np.mean(np.concatenate([a["ndcg@10"] for a in alone]))
    pooled_mean = np.mean(evaluate(found.pooled.score, train, held)["ndcg@10"])
    popular_mean = np.mean(evaluate(found.popularity, train, held)["ndcg@10"])
    assert popular_mean < alone_mean < pooled_mean
    assert found.notes == ()


def test_alone_sees_its_own_shop_only_and_never_the_held_out() -> None:
    first = fit_alone(SHOPS, "last20")[0].model
    other = fit_alone([SHOPS[0], shop("other", 99)], "last20")[0].model
    np.testing.assert_array_equal(first.score(SHOPS[0].train), other.score(SHOPS[0].train))
    blank = [Shop(s.name, s.customers, s.train, s.train.select(np.arange(0))) for s in SHOPS]
    np.testing.assert_array_equal(
        fit_pooled(blank, "last20").score(SHOPS[0].train), fit_pooled(SHOPS, "last20").score(SHOPS[0].train)
    )


def test_random_protocol_is_tuned_on_seeded_random_slices() -> None:
    a, b = (fit_alone(SHOPS, "random20", seed=seed)[0].split.held.items for seed in (0, 0))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, fit_alone(SHOPS, "random20", seed=1)[0].split.held.items)
    assert not np.array_equal(a, fit_alone(SHOPS, "last20")[0].split.held.items)


def test_the_result_says_where_ease_did_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hansa.models.ease.MAX_ITEMS", 50)
    assert fit_references(SHOPS, "last20").notes == (
        "pooled: iALS instead of EASE in 1 model, too large for it",
    )
