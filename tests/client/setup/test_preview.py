import json
import stat
import threading

import numpy as np
import pytest

from hansa.cli import main
from hansa.dp.accounting import epsilon
from hansa.dp.ledger import Budget, Ledger
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import UsageError
from hansa.plan import make_plan
from hansa.records import Request, answer_to_content
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa_client import app as client_app
from hansa_client.keys import make_key, make_node_key
from hansa_client.rounds.training import consider, contribute
from hansa_client.setup.configuring import Configuring
from hansa_client.setup.preview import next_release, preview, write_values
from hansa_client.shop import LocalShop
from hansa_client.shop_files import PlanFolder
from hansa_simulations.engine import run_in_process
from hansa_simulations.members import simulated_members, simulated_roster

ITEMS, SHOPS = 30, 3
METHODS = {
    "popularity": {},
    "cooccurrence": {"vocabulary": 12},
    "hybrid": {"vocabulary": 12, "refinement_share": 0.2, "refinement_rounds": 1, "dimensions": 4},
    "subspace": {"vocabulary": 12, "dimensions": 4},
    "dpals": {"vocabulary": 12, "dimensions": 4},
    "dpsgd": {"dimensions": 4, "gradient_rounds": 2},
}


def plan(method="cooccurrence", dp="local", **changed):
    roster = simulated_roster(SHOPS, 5).digest if dp == "distributed" else ""
    return make_plan(
        **{
            "run": "r",
            "method": method,
            "settings": METHODS[method],
            "n_items": ITEMS,
            "dp": dp,
            "epsilon": 8.0,
            "delta": 1e-5,
            "shops": SHOPS,
            "customers": 1000,
            "roster": roster,
            **changed,
        }
    )


def shop(the_plan, position=0, ceiling=8.0):
    items = seeded_generator(position, "items").integers(0, ITEMS, 48)
    ledger, member = Ledger(Budget(ceiling, 1e-5)), None
    if the_plan.roster:
        member = simulated_members(the_plan, 5)[position]
        ledger.approve(the_plan.roster, member.vouched)
    histories = Histories.from_pairs(np.repeat(np.arange(6), 8), items, 7, ITEMS)  # the last has nothing
    return LocalShop(f"s{position}", histories, ledger, 7, allowed=("local", "distributed"), member=member)


def leaving(answer):
    """Names, types, shapes and bytes of the arrays of a reply."""
    arrays = answer_to_content(answer)["release"]
    return {name: (array.dtype, tuple(array.shape), len(array.data)) for name, array in arrays.items()}


@pytest.mark.parametrize("method", METHODS)
def test_what_leaves_under_local_has_the_previews_shape_type_and_size(method):
    the_plan = plan(method)
    the_shop = shop(the_plan)
    assert consider(the_shop, Request("r", 0, the_plan.model_dump_json(), {})).accepted
    state = the_plan.learner.initial_state(seeded_generator(0))
    for round_ in range(1, len(the_plan.releases) + 1):
        seen = preview(the_shop, the_plan, round_)
        charged = the_shop.ledger.reservations["r"].charged
        answer = contribute(the_shop, Request("r", round_, "", state))
        assert answer.accepted
        ((_, (dtype, shape, size)),) = leaving(answer).items()
        assert f"release ({dtype} {list(shape)})" == seen.record
        assert shape == seen.shape
        assert seen.bytes == answer.release.nbytes
        assert 0 < size - seen.bytes < 200  # NumPy's head
        assert (seen.made.shape, seen.made.dtype) == (answer.release.shape, answer.release.dtype)
        assert charged < the_shop.ledger.reservations["r"].charged


@pytest.mark.parametrize("method", ["popularity", "cooccurrence", "dpsgd"])
def test_what_leaves_masked_has_the_previews_size(method, monkeypatch):
    the_plan = plan(method, "distributed")
    shops = [shop(the_plan, position) for position in range(SHOPS)]
    seen = [preview(shops[0], the_plan, round_) for round_ in range(1, len(the_plan.releases) + 1)]
    left, answer_stage, lock = {}, client_app.answer_stage, threading.Lock()

    def spy(the_shop, stage, request, kept):
        answer, after = answer_stage(the_shop, stage, request, kept)
        if answer.residues is not None and the_shop.name == "s0":
            with lock:
                left[len(left) + 1] = leaving(answer)
        return answer, after

    monkeypatch.setattr(client_app, "answer_stage", spy)
    run_in_process(the_plan, shops, seed=1, roster=simulated_roster(SHOPS, 5))
    assert len(left) == len(seen)
    for number, found in enumerate(seen, start=1):
        assert left[number] == {"residues": ("uint8", (found.bytes,), found.bytes)}
        assert found.record.startswith(f"residues (uint8 [{found.bytes}], modulo 2^")


@pytest.mark.parametrize("dp", ["local", "distributed"])
def test_numbers_are_those_of_the_plan_and_nothing_is_charged(dp):
    the_plan = plan(dp=dp)
    the_shop = shop(the_plan)
    before = the_shop.ledger.entries()
    seen = preview(the_shop, the_plan, 2)
    assert the_shop.ledger.entries() == before
    release = the_plan.releases[1]
    assert (seen.name, seen.shape, seen.bound) == (release.name, (release.rows, release.width), release.bound)
    assert seen.epsilon == epsilon(release.event, 1e-5)
    assert seen.plan_epsilon == epsilon(the_plan.event(), 1e-5)
    people = seen.customers
    assert (people.all, people.counted) == (7, 6)
    assert 0 < people.leaving <= seen.bound
    noise = (seen.made - seen.exact).astype(float)
    assert noise.std() == pytest.approx(seen.deviation, rel=0.5)
    assert np.linalg.norm(seen.exact) <= people.counted * seen.bound
    assert json.loads(json.dumps(seen.to_json()))["customers"]["counted"] == 6
    assert "made" not in seen.to_json()


def test_a_release_that_the_ledger_refuses_is_shown_and_said_so():
    the_plan = plan()
    assert preview(shop(the_plan), the_plan).refusal is None
    assert "the ceiling is 2" in preview(shop(the_plan, ceiling=2.0), the_plan).refusal


@pytest.mark.parametrize(
    ("changed", "round_", "said"),
    [
        ({"n_items": 40}, 1, "40 items"),
        ({}, 3, "rounds 1 to 2"),
        ({"dp": "none", "epsilon": None}, 1, "dp none"),
    ],
)
def test_what_cannot_be_previewed_is_one_line(changed, round_, said):
    with pytest.raises(UsageError, match=said):
        preview(shop(plan()), plan(**changed), round_)


def test_the_next_release_is_the_first_that_is_not_charged():
    the_plan = plan("dpsgd")
    the_shop = shop(the_plan)
    assert next_release(the_shop) is None
    consider(the_shop, Request("r", 0, the_plan.model_dump_json(), {}))
    state = the_plan.learner.initial_state(seeded_generator(0))
    for round_ in (1, 2, 3):
        assert next_release(the_shop) == (the_plan, round_)
        contribute(the_shop, Request("r", round_, "", state))
    assert next_release(the_shop) is None


def test_the_numbers_go_into_a_private_file_only_if_asked_for(tmp_path):
    seen = preview(shop(plan()), plan())
    path = tmp_path / "private.npz"
    write_values(path, seen)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with np.load(path) as found:
        assert all(name.startswith("PRIVATE") for name in found)
        assert str(found["PRIVATE"]).startswith("PRIVATE: never")
        assert (found["PRIVATE_without_noise"] == seen.exact).all()
        assert (found["PRIVATE_with_noise"] == seen.made).all()
    with pytest.raises(UsageError, match="--values"):
        write_values(tmp_path / "no" / "x.npz", seen)


# The command


@pytest.fixture
def folder(invited):
    rows = "\n".join(f"c{k % 9},i{k % 4},{k}" for k in range(40))
    (invited.root / "interactions.csv").write_text("user_id,item_id,timestamp\n" + rows)
    invited.key.parent.mkdir(mode=0o700)
    make_key(invited.key)
    make_node_key(invited.node_key)
    Configuring(invited, {"approvals.dp": ["local"], "budget.epsilon": 8.0}).run()
    return invited


def test_the_command_shows_the_accepted_plans_next_release(folder, capsys):
    the_plan = replace_items(plan("popularity"), 4)
    LedgerFile(folder.ledger).reserve("r", the_plan.steps, {"plan": the_plan.digest})
    PlanFolder(folder.plans)["r"] = the_plan
    entries = LedgerFile(folder.ledger).entries()
    values = folder.root / "values.npz"
    assert main(["client", "preview", "--home", str(folder.root), "--values", str(values)]) == 0
    said = capsys.readouterr().out
    assert "the accepted plan r" in said
    assert "counts [4 x 1] as release (float32 [4, 1]): 16 bytes" in said
    assert "PRIVATE" in said
    assert values.exists()
    assert LedgerFile(folder.ledger).entries() == entries


def test_the_command_describes_a_plan_that_somebody_thinks_of(folder, capsys, tmp_path):
    asked = ["client", "preview", "--home", str(folder.root), "--json"]
    given = ["--method", "popularity", "--epsilon", "2", "--dp", "distributed", "--shops", "5"]
    assert main([*asked, *given]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert (seen["method"], seen["dp"], seen["customers"]["all"]) == ("popularity", "distributed", 9)
    assert seen["plan_epsilon"] == pytest.approx(2, rel=0.01)
    (tmp_path / "plan.json").write_text(replace_items(plan("dpsgd"), 4).model_dump_json())
    assert main([*asked, "--plan", str(tmp_path / "plan.json"), "--round", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["stand_in"] is True
    assert main([*asked, "--plan", str(tmp_path / "none.json")]) == 2


def replace_items(the_plan, items):
    return type(the_plan)(**{**the_plan.model_dump(), "n_items": items})
