"""Figures of a run are those of its parts, and references are measured once for all runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hansa.metrics import evaluate
from hansa_simulations.evaluation import Evaluation
from hansa_simulations.experiment import Prepared, prepare, simulate_on
from hansa_simulations.settings import make_settings

SETTINGS = make_settings(
    {"scenario": "synthetic", "method": "popularity", "epsilon": 1.0},
    ["scenario.customers=90", "scenario.items=90", "scenario.shops=3"],
)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(SETTINGS, 0)


def test_every_reference_is_measured_shop_by_shop(prepared: Prepared) -> None:
    measured = prepared.references
    references, shops = measured.references, prepared.federation.shops
    for name, scorers in {
        "alone": [own.model.score for own in references.alone],
        "pooled": [references.pooled.score] * 3,
        "popularity": [references.popularity] * 3,
    }.items():
        for shop, scorer, found in zip(shops, scorers, measured.figures[name], strict=True):
            expected = evaluate(scorer, shop.train, shop.held_out)
            np.testing.assert_array_equal(found["ndcg@10"], expected["ndcg@10"])


def test_runs_on_the_same_data_share_their_references(prepared: Prepared) -> None:
    assert prepared.references is prepared.references
    first, _ = simulate_on(prepared, SETTINGS)
    second, _ = simulate_on(prepared, SETTINGS.model_copy(update={"epsilon": 8.0}))
    for name in ("popularity", "alone", "pooled"):
        assert first["metrics"][name] == second["metrics"][name]
        values = np.concatenate([part["ndcg@10"] for part in prepared.references.figures[name]])
        assert first["metrics"][name]["ndcg@10"] == pytest.approx(np.nanmean(values))
    assert first["privacy"]["epsilon"] == 1 != second["privacy"]["epsilon"]


def test_evaluation_may_look_at_some_shops_of_those_that_learn(prepared: Prepared) -> None:
    everybody = prepared.federation
    some = replace(everybody, shops=everybody.shops[:1])
    partly = Prepared(everybody, Evaluation(some), prepared.seed, 0.0)
    result, _ = simulate_on(partly, SETTINGS)
    whole, _ = simulate_on(prepared, SETTINGS)
    assert len(partly.references.references.alone) == len(result["per_shop"]["gains"]) == 1
    assert result["data"] == whole["data"]
    assert result["plan"] == whole["plan"]
    assert result["per_shop"]["gains"][0] == pytest.approx(whole["per_shop"]["gains"][0])
    first = prepared.references.figures["pooled"][0]["ndcg@10"]
    np.testing.assert_allclose(partly.references.figures["pooled"][0]["ndcg@10"], first)


def test_settings_are_chosen_without_the_test_items(prepared: Prepared) -> None:
    options = ["scenario.customers=90", "scenario.items=90", "scenario.shops=3", "evaluation.tuning=true"]
    sliced = prepare(make_settings({"scenario": "synthetic"}, options), 0).federation
    for before, after in zip(prepared.federation.shops, sliced.shops, strict=True):
        for customer in range(len(before.train)):
            together = [*after.train.row(customer), *after.held_out.row(customer)]
            assert together == before.train.row(customer).tolist()
        assert after.held_out.items.size > 0
    assert any("test items were not used" in note for note in sliced.notes)
