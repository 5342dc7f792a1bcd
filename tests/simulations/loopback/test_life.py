"""One shop's years in minutes: it rotates its keys, is lost and restored, and leaves. Everything is real."""

import os
import re
import shutil

import pytest

from hansa.league import KeyCard, LeaveNotice
from hansa_server.proxy import nginx_binary
from hansa_simulations.loopback.league import LoopbackLeague
from hansa_simulations.loopback.sources import make_data, west

pytestmark = pytest.mark.timeout(900)
WEST, CHEAP = "west", ("--dp", "local", "--method", "popularity", "--epsilon", "0.5")


@pytest.fixture(scope="module")
def league(tmp_path_factory):
    """A coordinator behind nginx and one shop with a CSV file."""
    if nginx_binary() is None:
        (pytest.fail if os.environ.get("HANSA_REQUIRE") == "1" else pytest.skip)("not installed: nginx")
    found = LoopbackLeague(tmp_path_factory.mktemp("life"))
    store = found.folder / "stores" / WEST
    store.mkdir(parents=True)
    data = make_data(found.folder / "generated", customers=400, items=60, seed=0)
    data.catalogue.write_csv(store.parent / "catalogue.csv")
    found.sources = {WEST: west(store, data)}
    try:
        found.found()
        found.join(WEST)
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def passphrase(league):
    path = league.folder / "passphrase"
    path.write_text("correct horse battery\n")
    return f"file:{path}"


def online(league):
    return league.json(league.client(WEST, "status", "--json"))["online"]


def train(league, run, expect=0):
    league.server("train", "--run", run, *CHEAP, expect=expect)
    return league.outcome(run)


def test_a_shop_with_new_keys_is_admitted_and_goes_on(league):
    assert train(league, "before")["state"] == "done"
    league.client(WEST, "rotate-keys")
    said = league.server("admit", str(league.shop(WEST) / "west.keys.json"))
    assert "the shop runs with its old keys" in league.client(WEST, "rotate-keys", "--finish", expect=3)
    league.client(WEST, "stop")
    card = KeyCard.from_json((league.shop(WEST) / "west.keys.json").read_text(), "card")
    assert card.fingerprint in said
    assert card.fingerprint in league.client(WEST, "rotate-keys", "--finish")
    league.client(WEST, "start")
    league.wait("the shop with its new keys", lambda: online(league))
    assert train(league, "rotated")["state"] == "done"


def test_a_lost_shop_is_restored_and_pays_only_once_it_is_reconciled(league, passphrase):
    copy, home = league.folder / "west.backup", league.shop(WEST)
    league.client(WEST, "backup", str(copy), "--passphrase", passphrase)  # while it runs
    league.kill(home)
    shutil.move(home, league.folder / "lost")
    league.client(WEST, "restore", str(copy), "--passphrase", passphrase)
    league.client(WEST, "start")
    league.wait("the restored shop", lambda: online(league))
    assert train(league, "too-early", expect=3)["state"] == "refused"
    answer = league.json(league.client(WEST, "status", "--json"))["answer"]
    assert answer == "the shop was restored and its operator has to confirm it"
    league.client(WEST, "exclude", "--confirm")
    assert train(league, "too-early-again", expect=3)["state"] == "refused"
    answer = league.json(league.client(WEST, "status", "--json"))["answer"]
    assert answer == "the shop's ledger cannot be used now"
    receipt = league.folder / "receipt.json"
    receipt.write_text(league.server("receipts", WEST))
    ledger = str(home / "ledger" / "ledger.sqlite")
    league.hansa("client", "ledger", "reconcile", ledger, "--receipt", str(receipt))
    assert train(league, "reconciled")["state"] == "done"
    assert "all in order" in league.hansa("client", "ledger", "verify", ledger, "--receipt", str(receipt))
    assert [body["run"] for body in league.charges(WEST)] == ["before", "rotated", "reconciled"]


def test_no_log_on_either_side_names_a_customer_or_what_was_bought(league):
    rows = (league.folder / "stores" / WEST / "verkauf.csv").read_text().splitlines()[1:]
    private = {value for row in rows for value in row.split(";")[:2]}
    assert len(private) > 100
    logs = [
        path
        for place in (league.shop(WEST), league.folder / "lost", league.coordinator)
        for path in (place / "logs").rglob("*")
        if path.is_file() and path.stat().st_size
    ]
    assert {"hansa.log", "executor.log", "node.log"} <= {path.name for path in logs}
    for path in logs:
        found = set(re.findall(r"\w+", path.read_text(errors="replace"))) & private
        assert not found, (path, found)


def test_a_shop_that_has_left_starts_no_more_and_the_coordinator_lets_it_go(league):
    home = league.shop(WEST)
    card = KeyCard.from_json((home / "west.keys.json").read_text(), "card")
    league.client(WEST, "leave", "--yes")
    LeaveNotice.from_json((home / "west.leave.json").read_text(), "notice").check(card)
    assert "'hansa client rotate-keys'" in league.client(WEST, "start", expect=2)
    league.server("remove", WEST)
    assert league.processes(home) == []
    assert "removed" in league.server("roster", "--json")
    customer = league.sources[WEST].customer
    found = league.json(league.client(WEST, "recommend", "--user", customer, "--k", "3", "--json"))
    assert found, "it goes on serving"
