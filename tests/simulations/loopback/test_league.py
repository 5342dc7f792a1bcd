"""A coordinator behind nginx and four shops with a CSV file, a Parquet folder, PostgreSQL and SQLite.

Everything is real and set up from empty folders by the documented commands. The tests follow each other.
"""

import json

import pytest

from hansa.dp.ledger.check import check, read_file
from hansa.dp.ledger.entries import Receipt
from hansa_simulations.loopback.sources import SHOPS

EVERYBODY = sorted(SHOPS)
pytestmark = pytest.mark.timeout(900)


def ledger(league, name):
    return league.shop(name) / "ledger" / "ledger.sqlite"


def rounds(league, run):
    """The last record of each round."""
    found = {line["round"]: line for line in league.rounds(run) if "round" in line}
    return [found[number] for number in sorted(found)]


def charged(league, name, run):
    """(round, what it was reserved under) of a shop's charges for a run."""
    return [
        (body["round"], body["run"])
        for body in league.charges(name)
        if body["run"] == run or body["run"].startswith(f"{run} again ")
    ]


def books_agree(league, run):
    """Who is in a sum was charged for it, and the coordinator holds the shops' word on their ledgers."""
    for line in rounds(league, run):
        for name in line["answered"]:
            assert line["round"] in [number for number, _ in charged(league, name, run)]
    for path in (league.coordinator / "runs" / run / "receipts").glob("*.json"):
        rows, problems = read_file(ledger(league, path.stem))
        assert problems == []
        assert check(rows, receipt=Receipt.from_json(path.read_text())) == []


@pytest.mark.parametrize("dp", ["distributed", "local"])
def test_a_run_completes_and_every_shop_has_recommendations(league, dp):
    league.server("train", "--run", f"first-{dp}", "--dp", dp)
    assert league.outcome(f"first-{dp}")["state"] == "done"
    assert [line["answered"] for line in rounds(league, f"first-{dp}")] == [EVERYBODY] * 2
    books_agree(league, f"first-{dp}")
    for name in SHOPS:
        assert charged(league, name, f"first-{dp}") == [(1, f"first-{dp}"), (2, f"first-{dp}")]
        held = league.server("receipts", name).strip()
        rows, _ = read_file(ledger(league, name))
        assert json.loads(held)["sequence"] == len(rows)
        found = json.loads(
            league.client(name, "recommend", "--user", league.sources[name].customer, "--k", "5", "--json")
        )
        assert len(found["recommendations"]) == 5
        assert all(line["reason"] for line in found["recommendations"])
    assert f"first-{dp}" in league.server("models", "list")
    league.server("models", "verify")


def test_a_shop_that_is_killed_in_a_round_costs_its_part_and_is_back_for_the_next(league, beside):
    run = "killed-shop"
    beside(league.server, "train", "--run", run)
    league.wait("the enrolment", lambda: league.rounds(run))
    assert league.kill(league.shop("south")) >= 3
    league.wait("the first round", lambda: rounds(league, run))
    league.client("south", "start")
    league.wait("the end", lambda: league.outcome(run), 300)
    first, second = rounds(league, run)
    assert first["answered"] == [name for name in EVERYBODY if name != "south"]
    assert list(first["missing"]) == ["south"]
    assert len(second["answered"]) >= 3
    books_agree(league, run)
    (enrolled,) = [line["enrolled"] for line in league.rounds(run) if "enrolled" in line]
    assert enrolled == EVERYBODY
    assert len(charged(league, "south", run)) <= 2
    league.hansa("client", "ledger", "verify", str(ledger(league, "south")))
    league.wait("south", lambda: json.loads(league.client("south", "status", "--json"))["online"])


@pytest.mark.parametrize("dp", ["local", "distributed"])
def test_a_run_whose_superlink_is_killed_goes_on_from_its_last_round(league, beside, dp):
    run = f"killed-link-{dp}"
    # Everything of the coordinator's dies, but nginx: the SuperLink, the ServerApp and what follows it.
    beside(league.server, "train", "--run", run, "--dp", dp, expect=None)
    league.wait("the first round", lambda: rounds(league, run))
    league.wait("a charge of the second", lambda: any(len(charged(league, name, run)) == 2 for name in SHOPS))
    assert league.kill(league.coordinator, without="nginx") >= 2
    before = {name: charged(league, name, run) for name in SHOPS}
    assert len(rounds(league, run)) == 1, "the second round was complete already"
    league.server("start")
    league.wait("the shops", lambda: league.server("status").count("online") == len(SHOPS))
    league.server("train", run, "--resume")
    assert league.outcome(run)["state"] == "done"
    assert [line["round"] for line in rounds(league, run)] == [1, 2]
    books_agree(league, run)
    for name in SHOPS:
        paid = charged(league, name, run)
        if dp == "local" or len(before[name]) == 1:
            assert paid == [(1, run), (2, run)]
        else:
            assert paid == [(1, run), (2, run), (2, f"{run} again 1: round 2")]
    if dp == "distributed":
        assert rounds(league, run)[1]["attempt"] == 2


def test_a_shop_whose_budget_is_spent_says_so_and_the_others_go_on(league):
    spent = json.loads(league.hansa("client", "ledger", "show", str(ledger(league, "east")), "--json"))[
        "spent"
    ]
    league.client("east", "configure", "--epsilon", f"{spent + 1:.3f}", "--no-read")
    league.server("train", "--run", "without-east", "--epsilon", "2")
    (enrolment,) = [line for line in league.rounds("without-east") if "enrolled" in line]
    assert enrolment["refused"] == {"east": "the plan does not fit the shop's budget"}
    assert [line["answered"] for line in rounds(league, "without-east")] == [["north", "south", "west"]] * 2
    assert charged(league, "east", "without-east") == []
    books_agree(league, "without-east")
