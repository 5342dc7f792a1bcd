"""Siblings of customers resemble them, and federations of them are as large as asked."""

from __future__ import annotations

import numpy as np
import pytest

from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa_simulations.bench.siblings import drawn, enlarge
from hansa_simulations.bench.topics import Topics, whole
from hansa_simulations.experiment import prepare
from hansa_simulations.protocols import split
from hansa_simulations.settings import make_settings

ITEMS = 60


def planted(customers: int = 400) -> Histories:
    """Two kinds of customers, of 30 items each; item 0 is had by all, first, and item 1 by all, last."""
    rng = seeded_generator(0, "planted")
    rows = []
    for customer in range(customers):
        own = np.arange(2, 31) if customer % 2 else np.arange(31, ITEMS)
        rows.append(np.concatenate(([0], rng.choice(own, 3 + customer % 7, replace=False), [1])))
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Histories(offsets, np.concatenate(rows).astype(np.int32), ITEMS)


@pytest.fixture(scope="module")
def histories() -> Histories:
    return planted()


@pytest.fixture(scope="module")
def model(histories: Histories) -> Topics:
    return Topics.fit(histories, 4, seeded_generator(0, "fit"), prior=0.05)


@pytest.fixture(scope="module")
def siblings(histories: Histories, model: Topics) -> Histories:
    return model.siblings(np.arange(len(histories)), seeded_generator(0, "siblings"))


def test_histories_are_as_long_and_hold_no_item_twice(histories: Histories, siblings: Histories) -> None:
    assert np.array_equal(siblings.lengths, histories.lengths)
    keys = siblings.rows_index * ITEMS + siblings.items
    assert len(np.unique(keys)) == len(keys)
    assert siblings.items.min() >= 0
    assert siblings.items.max() < ITEMS


def test_items_sell_as_often_as_they_did(histories: Histories, siblings: Histories) -> None:
    real, made = (np.bincount(h.items, minlength=ITEMS) for h in (histories, siblings))
    assert made[0] > 0.85 * real[0]
    assert made[1] > 0.85 * real[1]
    assert np.corrcoef(real[2:], made[2:])[0, 1] > 0.5
    assert abs(made[2:] - real[2:]).max() < 0.5 * real[2:].mean()


def test_kinds_of_customers_stay_apart(siblings: Histories) -> None:
    kind = (siblings.items >= 31)[siblings.items >= 2]
    parent = (siblings.rows_index % 2 == 0)[siblings.items >= 2]
    assert (kind == parent).mean() > 0.95


def test_what_comes_last_comes_last(siblings: Histories) -> None:
    place = np.arange(len(siblings.items)) - siblings.offsets[siblings.rows_index]
    share = place / (siblings.lengths[siblings.rows_index] - 1)
    assert share[siblings.items == 0].mean() < 0.15
    assert share[siblings.items == 1].mean() > 0.85


def test_siblings_differ_from_each_other_and_from_their_parents(histories: Histories, model: Topics) -> None:
    one, two = (model.siblings(np.arange(len(histories)), seeded_generator(0, name)) for name in "ab")
    again = model.siblings(np.arange(len(histories)), seeded_generator(0, "a"))
    assert np.array_equal(one.items, again.items)
    middle = np.flatnonzero(histories.lengths > 6)
    for other in (two, histories):
        same = [set(one.row(u)) == set(other.row(u)) for u in middle]
        assert np.mean(same) < 0.1


def test_the_chunks_of_a_draw_leave_no_seam(model: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    from hansa_simulations.bench import topics

    monkeypatch.setattr(topics, "CHUNK", 7)
    found = model.siblings(np.array([3, 1, 1, 399] * 5), seeded_generator(0, "chunks"))
    assert np.array_equal(found.lengths, model.lengths[[3, 1, 1, 399] * 5])


def test_whole_histories_are_put_together_again(histories: Histories) -> None:
    parts = split(histories, "last20", seeded_generator(0, "split"))
    halves = [np.arange(150), np.arange(150, 400)]
    again = whole([parts.train.select(h) for h in halves], [parts.held_out.select(h) for h in halves])
    assert np.array_equal(again.offsets, histories.offsets)
    assert np.array_equal(again.items, histories.items)


SETTINGS = make_settings(
    {"scenario": "synthetic", "protocol": "random20", "epsilon": 1.0, "delta": 1e-5, "seed": 3},
    ["scenario.customers=80", "scenario.items=90", "scenario.shops=3"],
)


def test_a_drawn_federation_has_more_shops_of_the_same_size() -> None:
    real = prepare(SETTINGS, 3).federation
    made = drawn(SETTINGS, 4)
    sizes = [len(shop.train) for shop in real.shops]
    assert [len(shop.train) for shop in made.federation.shops] == 4 * sizes
    assert made.federation.customers == 4 * real.customers
    assert made.federation.protocol == "random20"
    assert len({shop.name for shop in made.federation.shops}) == 12
    ids = [customer for shop in made.federation.shops for customer in shop.customers]
    assert len(set(ids)) == len(ids)
    judged = made.evaluation.federation.shops
    assert judged == made.federation.shops[:3]
    assert len(made.references.references.alone) == 3
    taken = sum(np.bincount(shop.train.items, minlength=90) for shop in made.federation.shops)
    assert np.array_equal(made.references.references.popularity.counts, taken)


def test_copies_are_different_customers() -> None:
    real = prepare(SETTINGS, 3).federation
    histories = whole([shop.train for shop in real.shops], [shop.held_out for shop in real.shops])
    model = Topics.fit(histories, 5, seeded_generator(0, "fit"))
    made = enlarge(real, model, 2, "last20", 0)
    first, second = made.shops[0], made.shops[3]
    assert not np.array_equal(first.train.items, second.train.items)
    assert np.array_equal(first.train.lengths, second.train.lengths)
