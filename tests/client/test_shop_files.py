import os

import numpy as np
import pytest

from hansa.dp.ledger import Budget, Ledger
from hansa.errors import UsageError
from hansa.plan import make_plan
from hansa.records import Request
from hansa.rng import Source
from hansa.schema import Histories
from hansa_client.rounds.training import consider, contribute
from hansa_client.shop import LocalShop
from hansa_client.shop_files import SHOPS, PlanFolder, load_shop, restore_books, save_shop, simulated_folder

PLAN = make_plan(
    run="town/2026 \N{SNOWMAN}",
    method="popularity",
    settings={},
    n_items=6,
    dp="local",
    epsilon=2.0,
    delta=1e-5,
    shops=1,
    customers=10,
)


def shop(ceiling=2.0):
    histories = Histories.from_pairs([0, 0, 1, 2], [5, 1, 1, 0], n_customers=3, n_items=6)
    noise, coins = Source(7, ("noise", 3)), Source(7, ("coins", 3))
    return LocalShop("s", histories, Ledger(Budget(ceiling, 1e-5)), 10, noise=noise, coins=coins)


def ask(round_):
    body, state = ("", PLAN.learner.initial_state(Source(0).generator(0))) if round_ else ("", {})
    return Request(PLAN.run, round_, body or PLAN.model_dump_json(), state)


def test_a_shop_comes_back_whole(tmp_path):
    saved = shop()
    save_shop(saved, tmp_path / "0")
    loaded = load_shop(tmp_path / "0")
    assert loaded.name == saved.name
    assert loaded.histories.n_items == 6
    np.testing.assert_array_equal(loaded.histories.offsets, saved.histories.offsets)
    np.testing.assert_array_equal(loaded.histories.items, saved.histories.items)
    assert (loaded.customers, loaded.allowed) == (saved.customers, saved.allowed)
    assert (loaded.noise, loaded.coins) == (saved.noise, saved.coins)
    assert loaded.performance == saved.performance
    assert loaded.ledger.ceiling == saved.ledger.ceiling
    assert dict(loaded.plans) == {}


def test_an_accepted_plan_is_on_the_disk_before_the_answer(tmp_path, monkeypatch):
    synced, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), sync(handle)))
    plans = PlanFolder(tmp_path / "plans")
    plans[PLAN.run] = PLAN
    (file,) = (tmp_path / "plans").iterdir()
    assert synced == [file.stat().st_ino, file.parent.stat().st_ino]
    assert file.stat().st_mode & 0o077 == 0
    assert plans[PLAN.run].digest == PLAN.digest


def test_a_shop_without_customers_can_be_saved(tmp_path):
    empty = shop()
    empty.histories = Histories.from_pairs([], [], 0, 6)
    save_shop(empty, tmp_path / "0")
    assert len(load_shop(tmp_path / "0").histories) == 0


def test_a_plan_accepted_in_one_process_is_served_in_another_and_charged_once(tmp_path):
    save_shop(shop(), tmp_path / "0")
    assert consider(load_shop(tmp_path / "0"), ask(0)).accepted
    release = contribute(load_shop(tmp_path / "0"), ask(1)).release
    again = contribute(load_shop(tmp_path / "0"), ask(1))
    assert not again.accepted
    assert again.reason == "round 1 was paid for and is not paid again"

    here = shop()
    assert consider(here, ask(0)).accepted
    np.testing.assert_array_equal(contribute(here, ask(1)).release, release)

    outside = shop()
    restore_books(outside, tmp_path / "0")
    assert outside.ledger.reservations == here.ledger.reservations
    assert dict(outside.plans) == {PLAN.run: PLAN}


def test_budget_spent_before_the_run_still_counts(tmp_path):
    spender = shop()
    assert consider(spender, ask(0)).accepted
    save_shop(spender, tmp_path / "0")
    second = make_plan(**{**PLAN.model_dump(exclude={"version", "noise_scale"}), "run": "b", "epsilon": 2.0})
    answer = consider(load_shop(tmp_path / "0"), Request("b", 0, second.model_dump_json(), {}))
    assert not answer.accepted
    assert answer.reason == "the plan does not fit the shop's budget"


def test_only_a_node_of_the_simulation_runtime_follows_the_run_configuration(tmp_path):
    simulated = {"partition-id": 4, "num-partitions": 9}
    assert simulated_folder(simulated, {SHOPS: str(tmp_path)}) == tmp_path / "4"
    assert simulated_folder(simulated, {}) is None
    assert simulated_folder({**simulated, "shop": "mine"}, {SHOPS: str(tmp_path)}) is None
    assert simulated_folder({}, {SHOPS: str(tmp_path)}) is None


def test_another_folder_is_refused_in_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"not the folder of a simulated shop"):
        load_shop(tmp_path)
