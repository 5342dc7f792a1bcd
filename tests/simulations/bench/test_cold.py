"""The bench of cold items on a small federation whose content says all."""

import json

import numpy as np
import polars as pl
import pytest

from hansa.errors import UsageError
from hansa.models.content import Content
from hansa.rng import seeded_generator
from hansa.schema import Catalogue, Histories, Shop
from hansa_simulations.bench import cold as bench
from hansa_simulations.federation import Federation, without_test_items
from hansa_simulations.protocols import split
from hansa_simulations.settings import make_settings

ITEMS = 90


def federation(shops: int = 3, customers: int = 40) -> Federation:
    made = []
    for number in range(shops):
        rng = seeded_generator(number, "test")
        likes = np.arange(customers)[:, None] % 3 == np.arange(ITEMS) % 3
        users, items = np.nonzero(rng.random((customers, ITEMS)) < np.where(likes, 0.5, 0.05))
        order = rng.permutation(len(users))
        rows = Histories.from_pairs(users[order], items[order], customers, ITEMS)
        parts = split(rows, "last20", rng)
        names = tuple(f"{number}-{u}" for u in range(customers))
        made.append(Shop(str(number), names, parts.train, parts.held_out))
    details = pl.DataFrame({"category": [f"kind {item % 3}" for item in range(ITEMS)]})
    total = sum(len(shop.train.items) + len(shop.held_out.items) for shop in made)
    people = shops * customers
    catalogue = Catalogue(tuple(map(str, range(ITEMS))), details)
    return Federation("test", "last20", tuple(made), catalogue, people, people, total, 0, 1)


def test_cold_items_have_no_training_interaction_left() -> None:
    whole = federation()
    start = bench.make_cold(whole, 0.2, seed=0)
    counts = sum(np.bincount(s.train.items, minlength=ITEMS) for s in start.federation.shops)
    before = sum(np.bincount(s.train.items, minlength=ITEMS) for s in whole.shops)
    assert start.cold.sum() == round(0.2 * (before >= bench.FEWEST).sum())
    assert counts[start.cold].sum() == 0
    np.testing.assert_array_equal(counts[~start.cold], before[~start.cold])
    assert not np.array_equal(start.cold, bench.make_cold(whole, 0.2, seed=1).cold)


def test_validation_never_touches_test_items() -> None:
    whole = federation()
    for shop, inner in zip(whole.shops, without_test_items(whole, 0).shops, strict=True):
        for customer in range(len(shop.train)):
            parts = [*inner.train.row(customer), *inner.held_out.row(customer)]
            assert parts == shop.train.row(customer).tolist()


def test_an_oracle_is_perfect_and_what_was_had_is_not_ranked() -> None:
    start = bench.make_cold(federation(), 0.3, seed=0)
    shop = start.federation.shops[0]

    def oracle(rows: Histories) -> np.ndarray:
        assert len(rows) == len(shop.train)
        had_first = start.had[0].matrix().toarray() * 2  # would be on top if it were ranked
        return np.asarray(had_first + shop.held_out.matrix().toarray(), dtype=np.float32)

    found = bench.figures_of(start, 0, oracle)
    sought = shop.held_out.where(start.cold[shop.held_out.items]).lengths
    assert np.isnan(found["cold"]["hr@10"]).sum() == (sought == 0).sum() > 0
    assert np.nanmin(found["cold"]["ndcg@10"]) == pytest.approx(1)


def test_content_finds_what_no_model_can() -> None:
    start = bench.make_cold(federation(), 0.3, seed=0)
    content = Content.of(start.federation.catalogue)
    assert content is not None
    settings = [make_settings({"delta": 1e-5} | options) for options in ({"epsilon": 8.0}, {"dp": "none"})]
    reached = {
        name: bench._reached(start, of) for name, of in bench.rivals(start, settings, content, 0).items()
    }
    cold = {name: found["cold"]["ndcg@10"] for name, found in reached.items()}
    known = {name: found["known"]["ndcg@10"] for name, found in reached.items()}
    assert cold["alone"] < 1.3 * cold["random"]
    for name in ("content alone", "alone + content", "pooled + content", "served + content, epsilon 8"):
        assert cold[name] > 1.3 * cold["random"], name
    assert cold["released + content, no privacy"] > 1.3 * cold["released, no privacy"]
    assert known["alone + content"] == pytest.approx(known["alone"], rel=0.02)


def test_the_document_has_every_rival(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loaded:
        federation = federation()

    monkeypatch.setattr(bench, "prepare", lambda settings, seed: Loaded)
    found = bench.measure(["test"], ["4"], 2)
    json.dumps(found, allow_nan=False)
    assert len(found["cases"]) == 9
    assert next(c for c in found["cases"] if c["rival"] == "content alone")["ratio"] == 1
    assert "| served + content, epsilon 4 |" in "\n".join(bench.text(found))


def test_a_catalogue_without_details_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = federation()

    class Loaded:
        federation = Federation(**{**vars(bare), "catalogue": Catalogue(bare.catalogue.item_ids)})

    monkeypatch.setattr(bench, "prepare", lambda settings, seed: Loaded)
    with pytest.raises(UsageError, match="no details"):
        bench.measure(["games"], ["4"], 1)


def test_too_little_data_is_refused() -> None:
    with pytest.raises(UsageError, match="training interactions"):
        bench.make_cold(federation(1, 3), 0.1, 0)
