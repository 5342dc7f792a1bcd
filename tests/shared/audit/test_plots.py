"""Plots of a report: equal for equal data, with ids of their own, and none where there is nothing to show."""

import re
from xml.etree import ElementTree

import pytest

from hansa.audit.document import Accuracy, Attack, Budget, Guarantee, Moment, Point, Refusal
from hansa.audit.plots import accuracy_plot, attack_plot, budget_plot, in_order, profile_plot, spend_plot

MOMENT = {"time": "2026-01-02T03:04:05+00:00"}


def budget(history, refusals=()):
    return Budget(
        ledger=None, shop="east", ceiling=None, delta=1e-5, spent=1.0, charged=1.0, left=None, closed=False,
        history=history, changes=[], refusals=list(refusals), restarts=[],
    )  # fmt: skip


def moments(count, ceiling=4.0):
    return [
        Moment(number=n, spent=0.1 * n, charged=0.05 * n, ceiling=ceiling, **MOMENT)
        for n in range(1, count + 1)
    ]


def guarantee(points, epsilon=1.0, delta=1e-5):
    return Guarantee(
        variant="", epsilon=epsilon, delta=delta, claim="", mu=None, overlaps=[], overlap=None,
        profile=[Point(epsilon=at, delta=value) for at, value in points],
    )  # fmt: skip


def texts(svg):
    return ["".join(found.itertext()) for found in ElementTree.fromstring(svg).iter("text")]


REFUSED = Refusal(number=9, shop=None, run="r", reason="no", **MOMENT)
PLOTS = {
    "budget": lambda: budget_plot(budget(moments(8), [REFUSED])),
    "profile": lambda: profile_plot(guarantee([(0.5, 1e-2), (1.0, 1e-5), (2.0, 1e-12), (4.0, 0.0)])),
    "spend": lambda: spend_plot({"spring, counts": 1.5, "autumn, <pairs> & $x$": 0.5}),
}


@pytest.mark.parametrize("name", PLOTS)
def test_plots_are_equal_and_their_ids_are_their_own(name):
    svg = PLOTS[name]()
    assert svg == PLOTS[name]()
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert len(ids) == len(set(ids)) > 5
    assert all(each.startswith(f"{name}-") for each in ids)
    assert set(re.findall(r'href="#([^"]*)"', svg)) | set(re.findall(r"url\(#([^)]*)\)", svg)) <= set(ids)
    assert "http" not in svg
    assert "<metadata" not in svg


def test_names_stand_as_they_are():
    assert "autumn, <pairs> & $x$" in texts(PLOTS["spend"]())


def test_many_bars_are_summed_up():
    svg = spend_plot({f"run {n}": 1.0 for n in range(40)})
    assert "27 more" in texts(svg)
    assert "27" in texts(svg)


@pytest.mark.parametrize("ceiling", [None, 0.0, 4.0])
def test_a_ledger_that_was_only_opened_has_a_plot(ceiling):
    history = [Moment(number=1, spent=0.0, charged=0.0, ceiling=ceiling, **MOMENT)]
    assert "ceiling" in texts(budget_plot(budget(history))) or ceiling is None


def test_where_nothing_is_known_there_is_no_plot():
    assert budget_plot(budget([])) is None
    assert profile_plot(guarantee([(1.0, 1e-5)])) is None
    assert spend_plot({}) is None
    assert attack_plot([]) is None


def test_thousands_of_entries_are_a_small_plot():
    assert len(budget_plot(budget(moments(5000)))) < 200_000


def test_attacks_show_bound_and_claim():
    def result(bound, claimed):
        return Attack(
            attack="door", method="m", dp="local", claimed=claimed, delta=1e-5, bound=bound, confidence=0.99,
            trials=10, figures={}, broken=False, words="",
        )  # fmt: skip

    shown = texts(attack_plot([result(0.8, 1.0), result(None, 1.0), result(2.0, None)]))
    assert "0.8 of 1" in shown
    assert "2 of no claim" in shown


def test_accuracy_shows_what_shops_serve_first_and_values():
    found = Accuracy(
        scenario="s", protocol="p", seeds=[0, 1],
        metrics={"alone": {"ndcg@10": 0.1}, "model": {"ndcg@10": 0.1234}, "popularity": {"ndcg@10": None}},
        deviations={"model": {"ndcg@10": 0.002}}, gain_kept=None, worse_than_alone=None, customers=None,
        shops=None,
    )  # fmt: skip
    assert [name for name, _ in in_order(found.metrics)] == ["model", "alone", "popularity"]
    shown = texts(accuracy_plot(found))
    assert "0.1234 ± 0.0020" in shown
    assert not any("popularity" in each for each in shown)
