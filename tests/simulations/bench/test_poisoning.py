"""The bench of dishonest shops on a small generated league."""

import json

import numpy as np
import pytest

from hansa.errors import UsageError
from hansa_simulations.bench import poisoning as bench
from hansa_simulations.dishonest import ATTACKS
from hansa_simulations.experiment import prepare
from hansa_simulations.settings import make_settings

SMALL = "synthetic:last20:scenario.customers=1000:scenario.items=300:method.vocabulary=60"


@pytest.fixture(scope="module")
def found():
    chosen = [attack for attack in ATTACKS if attack.name in ("none", "huge", "loud promotion")]
    return bench.measure(SMALL, ["30"], 10, 1, 0.1, 2, chosen)


def test_every_attack_meets_both_sums(found):
    json.dumps(found, allow_nan=False)
    cases = {(case["attack"], case["trim"]): case for case in found["cases"]}
    assert list(cases) == [(name, trim) for trim in (0.0, 0.1) for name in found["attacks"]]
    assert cases["none", 0.0]["ratio"] == 1
    assert all(case["baseline"] == cases["none", 0.0]["name"] for case in cases.values())
    assert all(case["seconds"] > 0 and case["metrics_sd"] is not None for case in cases.values())
    shared = {key: case["metrics"]["shared"] for key, case in cases.items()}
    assert shared["huge", 0.0] < 0.5 * shared["none", 0.0]
    assert shared["huge", 0.1] > 0.9 * shared["none", 0.0]
    promoted = {key: case["metrics"]["shared promoted"] for key, case in cases.items()}
    assert promoted["loud promotion", 0.0] > 0.9
    assert promoted["loud promotion", 0.1] < 0.5 * promoted["loud promotion", 0.0]


def test_the_text_has_a_row_for_every_attack(found):
    said = "\n".join(bench.text(found))
    for name, what in found["attacks"].items():
        assert f"\n| {name} |" in said
        assert f"- **{name}**: {what}." in said
    assert "## Local, epsilon 30" in said


def test_honest_shops_alone_are_judged_and_the_target_is_public_to_all_cases():
    settings = make_settings({"scenario": "synthetic", "shops": 4}, ["scenario.customers=80"])
    prepared = prepare(settings, 0)
    judged = bench._honest(prepared, 1).evaluation.federation.shops
    assert [shop.name for shop in judged] == [shop.name for shop in prepared.federation.shops[1:]]
    counts = np.sum(
        [np.bincount(s.train.items, minlength=prepared.federation.items) for s in prepared.federation.shops],
        axis=0,
    )
    target = bench.promoted(prepared.federation)
    assert (
        (counts > counts[target]).sum() <= 0.1 * prepared.federation.items <= (counts >= counts[target]).sum()
    )


def test_who_has_the_target_already_does_not_count():
    settings = make_settings({"scenario": "synthetic", "shops": 4}, ["scenario.customers=80"])
    shop = prepare(settings, 0).federation.shops[0]
    target = int(shop.train.items[0])
    scores = np.zeros((len(shop.train), shop.train.n_items), dtype=np.float32)
    scores[:, target] = 1
    _, got = bench._at(shop, scores, target)
    has = np.zeros(len(shop.train), dtype=bool)
    has[shop.train.rows_index[shop.train.items == target]] = True
    assert has.any()
    np.testing.assert_array_equal(np.isnan(got), has)
    assert (got[~has] == 1).all()
    assert (bench._at(shop, -scores, target)[1][~has] == 0).all()


def test_somebody_must_be_honest():
    with pytest.raises(UsageError, match="fewer than the 3 shops"):
        bench.measure(SMALL, ["4"], 3, 3, 0.1, 1)
