from dataclasses import replace

import numpy as np
import pytest

from hansa.metrics import evaluate
from hansa.models import own
from hansa.models.mixture import standardise
from hansa.models.own import OwnModel, default_popularity_weight, fit_own, tune
from hansa.models.tuning import HoldBack, climb, convincing, hold_back
from hansa.rng import seeded_generator
from hansa.schema import Histories


def tastes(n: int, n_items: int = 60, strength: float = 0.5, seed: int = 0) -> Histories:
    """Customers of three tastes, each over a third of the items; no strength, no taste."""
    rng = seeded_generator(seed, "test")
    taste = np.arange(n)[:, None] % 3 == np.arange(n_items) % 3
    appeal = np.linspace(0.4, 0.02, n_items)
    chance = np.where(taste, strength, 0.02) if strength else np.broadcast_to(appeal, (n, n_items))
    users, items = np.nonzero(rng.random((n, n_items)) < chance)
    order = rng.permutation(len(users))
    return Histories.from_pairs(users[order], items[order], n, n_items)


def empty(n: int, n_items: int = 60) -> Histories:
    return Histories(np.zeros(n + 1, dtype=np.int64), np.empty(0, dtype=np.int32), n_items)


def test_hold_back_takes_the_newest_fifth() -> None:
    histories = Histories.from_pairs([0] * 11 + [1] + [2] * 2, [*range(11), 5, 8, 3], 3, 12)
    split = hold_back(histories)
    assert [split.held.row(u).tolist() for u in range(3)] == [[9, 10], [], [3]]
    assert [split.kept.row(u).tolist() for u in range(3)] == [[*range(9)], [5], [8]]


def test_hold_back_at_random_keeps_order_and_counts() -> None:
    histories = tastes(30)
    newest, drawn = hold_back(histories), hold_back(histories, seeded_generator(1, "test"))
    np.testing.assert_array_equal(newest.held.lengths, drawn.held.lengths)
    assert not np.array_equal(newest.held.items, drawn.held.items)
    for u in range(30):
        assert sorted([*drawn.kept.row(u), *drawn.held.row(u)]) == sorted(histories.row(u))
        kept = set(drawn.kept.row(u))
        assert [i for i in histories.row(u) if i in kept] == drawn.kept.row(u).tolist()


def test_convincing_needs_more_than_noise() -> None:
    rng = seeded_generator(2, "test")
    base = rng.random(50)
    assert convincing(base + 0.1, base)
    assert not convincing(base, base)
    luck = np.where(np.arange(50) == 0, 0.5, 0) - np.where(np.arange(50) == 1, 0.1, 0)
    assert not convincing(base + luck, base)
    assert not convincing(np.ones(1), np.zeros(1))


@pytest.mark.parametrize(("peak", "expected"), [(8.0, 8.0), (0.5, 0.5), (1.0, 1.0), (1000.0, 16.0)])
def test_climb_finds_the_peak_within_its_steps(peak: float, expected: float) -> None:
    def trial(point: float) -> tuple[float, np.ndarray]:
        return point, np.full(10, -abs(np.log2(point / peak)))

    assert climb(trial, 1.0, 2.0, 4)[0] == expected


def test_standardise() -> None:
    found = standardise(np.array([[1, 2, 3], [5, 5, 5]], dtype=np.float32))
    np.testing.assert_allclose(found[0], np.array([-1, 0, 1]) * np.sqrt(1.5), rtol=1e-6)
    assert not found[1].any()


def test_a_shop_that_may_foretell_starts_with_fading_and_one_that_fills_gaps_without() -> None:
    assert fit_own(tastes(10)).model.recency == own.FORETELLING
    assert fit_own(tastes(10), seeded_generator(1, "test")).model.recency == 0


def test_a_shop_tunes_how_fast_its_customers_move_on() -> None:
    # What comes next is in the group of the newest item, whatever came before.
    rng = seeded_generator(3, "drift")
    rows = [
        [int(g) * 10 + int(i) for g in rng.permutation(6)[:2] for i in rng.permutation(10)[:5]]
        for _ in range(400)
    ]
    users = np.repeat(np.arange(400), 10)
    train = Histories.from_pairs(users, np.concatenate(rows), 400, 60)
    assert fit_own(train).model.recency > own.FORETELLING


def test_taste_is_learnt_beyond_popularity() -> None:
    split = hold_back(tastes(150))
    model = OwnModel.fit(split.kept)
    assert model.kind == "ease"
    hits = np.nanmean(evaluate(model.score, split.kept, split.held)["hr@10"])
    popular = OwnModel(None, model.counts, 1.0, 1.0)
    assert hits > np.nanmean(evaluate(popular.score, split.kept, split.held)["hr@10"]) + 0.2


def test_popularity_is_chosen_where_it_is_all_there_is_to_learn() -> None:
    # Item 0 is never bought with the even item that a judge knows, but is the best seller; with
    # these items every odd one is bought that nobody buys again.
    kept = [[0, 2 * (u % 20) + 41] for u in range(200)] + [
        [2 * (u % 5) + 2, 1 + 2 * (u % 5)] for u in range(200)
    ]
    judges = [[2 * (u % 5) + 2] for u in range(50)]
    rows = kept + judges
    users = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    train = Histories.from_pairs(users, np.concatenate(rows), len(rows), 90)
    held = Histories.from_pairs(np.arange(400, 450), np.zeros(50, dtype=int), len(rows), 90)
    model = tune(HoldBack(train, held, train))
    assert model.popularity_weight > 0
    served = np.nanmean(evaluate(model.score, train, held)["ndcg@10"])
    lonely = replace(model, popularity_weight=0.0)
    assert served == 1 > np.nanmean(evaluate(lonely.score, train, held)["ndcg@10"])


def test_trial_has_not_seen_the_held_back_interactions() -> None:
    histories = tastes(40)
    fitted = fit_own(histories)
    again = tune(hold_back(histories))
    np.testing.assert_array_equal(fitted.trial.score(histories), again.score(histories))
    assert fitted.trial.counts.sum() == len(fitted.split.kept.items)
    assert fitted.model.counts.sum() == len(histories.items)
    assert fitted.model.popularity_weight == fitted.trial.popularity_weight
    assert fitted.model.regularisation == fitted.trial.regularisation


def test_a_seed_repeats_the_model() -> None:
    a, b = (OwnModel.fit(tastes(50), seeded_generator(3, "test")) for _ in range(2))
    np.testing.assert_array_equal(a.score(tastes(5)), b.score(tastes(5)))


def test_prior_weight_falls_with_size() -> None:
    assert [default_popularity_weight(empty(n)) for n in (1, 20, 1000)] == [1.0, 0.4, 0.0]


@pytest.mark.parametrize("histories", [empty(0), empty(3), tastes(1), tastes(2)])
def test_next_to_no_data_is_served_without_warnings(histories: Histories) -> None:
    scores = OwnModel.fit(histories).score(tastes(4))
    assert scores.shape == (4, 60)
    assert np.isfinite(scores).all()


def test_large_data_fall_back_to_ials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hansa.models.ease.MAX_ITEMS", 50)
    model = OwnModel.fit(tastes(150))
    assert model.kind == "ials"
    assert own.JUDGES > 150
    split = hold_back(tastes(150))
    assert np.nanmean(evaluate(OwnModel.fit(split.kept).score, split.kept, split.held)["hr@10"]) > 0.6
