import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hansa.dp.accounting import epsilon, gaussian
from hansa.planner.payoff import (
    KINDS,
    LAW_DELTA,
    Kind,
    League,
    gain_kept,
    most_items,
    pays,
    share_kept,
)

GROCERY, FILMS, GAMES = KINDS

FRONTIER = json.loads((Path(__file__).parents[3] / "benchmarks" / "frontier.json").read_text())
SCENARIOS = {"journey:last20": GROCERY, "ml-1m:random20": FILMS, "ml-1m:last20": FILMS, "games:last20": GAMES}


def measured(kind: Kind) -> list[tuple[float, int, float]]:
    """Customers x epsilon, items of the statistic and the share kept, of ``hansa bench frontier``."""
    customers = {case["name"]: case["data"]["customers"] for case in FRONTIER["scenarios"]}
    return [
        (
            customers[case["scenario"]] * case["epsilon"],
            case["hyperparameters"]["vocabulary"],
            case["gain_kept"],
        )
        for case in FRONTIER["cases"]
        if case["method"] == "cooccurrence" and case["epsilon"] and SCENARIOS.get(case["scenario"]) is kind
    ]


def league(**changed):
    base = League(shops=50, customers=200, epsilon=4.0, delta=1e-5, growth=1.0, items=3_000)
    return replace(base, **changed)


@pytest.mark.parametrize("kind", KINDS)
def test_the_constants_are_those_that_the_measurements_imply(kind):
    points = measured(kind)
    assert len(points) >= 5
    errors = [share_kept(x, items, **kind.law) - share for x, items, share in points]
    assert np.sqrt(np.mean(np.square(errors))) < 0.1
    assert abs(np.mean(errors)) < 0.03
    assert kind.most == pytest.approx(max(share for _, _, share in points), abs=0.01)


def test_central_noise_is_the_epsilon_itself():
    assert league().epsilon_of_sum == pytest.approx(4.0, abs=1e-3)
    assert league().strength == pytest.approx(50 * 200 * 4.0, rel=1e-3)


def test_local_noise_grows_with_the_root_of_the_shops():
    multiplier = 3.7304  # of one sum at epsilon 1 and delta 1e-5
    assert epsilon(gaussian(multiplier), LAW_DELTA) == pytest.approx(1.0, abs=1e-3)
    found = league(epsilon=1.0, growth=4.0, shops=16).epsilon_of_sum
    assert found == pytest.approx(epsilon(gaussian(4 * multiplier), LAW_DELTA), rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_gain_grows_with_everything_but_items(kind):
    base = gain_kept(league(customers=60), kind)
    assert gain_kept(league(customers=70), kind) > base
    assert gain_kept(league(customers=60, shops=60), kind) > base
    assert gain_kept(league(customers=60, epsilon=4.5), kind) > base
    assert gain_kept(league(customers=60, items=3_500), kind) < base
    assert gain_kept(league(customers=60, growth=50**0.5), kind) < base / 4


def test_ten_times_the_customers_are_worth_ten_times_the_epsilon():
    few, many = league(customers=20, epsilon=4.0), league(customers=200, epsilon=0.4)
    assert gain_kept(few, FILMS) == pytest.approx(gain_kept(many, FILMS), rel=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_is_promised_than_was_measured(kind):
    assert gain_kept(league(customers=10**7), kind) == kind.most
    assert gain_kept(league(epsilon=math.inf), kind) == kind.most <= 1


def test_the_law_is_half_way_where_it_says():
    law = {"half": 20_000.0, "power": 1.5, "most": 0.8}
    assert share_kept(20_000, 3_000, **law) == pytest.approx(0.5)
    assert share_kept(40_000, 12_000, **law) == pytest.approx(0.5)
    assert share_kept(40_000, 3_000, **law) == pytest.approx(1 / (1 + 0.5**1.5))
    assert share_kept(400_000, 3_000, **law) == 0.8
    assert share_kept(0, 3_000, **law) == 0
    assert Kind("a", **law).law == law


def test_where_too_little_is_ever_kept_no_statistic_is_small_enough():
    assert most_items(league(customers=10**6), Kind("a", 1_000, 1.0, 0.15)) == 0


def test_a_budget_that_moves_nothing_keeps_nothing():
    hidden = league(epsilon=1e-4, shops=10**6, growth=1e3)
    assert gain_kept(hidden, GROCERY) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_most_items_are_just_enough(kind):
    most = most_items(league(customers=500), kind)
    assert most >= 1
    assert pays(league(customers=500, items=most), kind)
    assert not pays(league(customers=500, items=most + max(1, most // 1000)), kind)
