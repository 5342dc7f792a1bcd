import json
import stat

import numpy as np
import pytest

from hansa.errors import UsageError
from hansa.models.content import Content
from hansa.models.ials import Ials
from hansa.models.own import OwnModel, fit_own
from hansa.recommend import fit_blend
from hansa.schema import Catalogue, Histories
from hansa_client.serving import knowledge
from hansa_client.serving.knowledge import blend_weight, forget, learn, opened
from hansa_client.serving.own_file import load_own, save_own
from hansa_client.serving.vault import receive_model, versions


@pytest.mark.parametrize("customers", [25, 200])
def test_an_own_model_comes_back_from_its_file(customers, tastes, catalogue, tmp_path) -> None:
    rows = tastes(customers)  # few: the dual form of EASE
    rows = rows.where(rows.items < 55)  # some items nobody has had: the catalogue places them
    model = fit_own(rows, content=Content.of(catalogue)).model
    save_own(model, tmp_path / "own")
    found = load_own(tmp_path / "own")
    assert type(found.personal) is type(model.personal)
    np.testing.assert_array_equal(found.score(rows), model.score(rows))
    assert found.kind == model.kind == "ease"
    np.testing.assert_array_equal(found.refit(rows).score(rows), model.refit(rows).score(rows))
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o600


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_other_kinds_come_back_as_well(weight, tastes, tmp_path) -> None:
    rows = tastes(80)
    counts = np.bincount(rows.items, minlength=60).astype(np.float32)
    model = OwnModel(Ials.fit(rows), counts, weight, 1.0)
    save_own(model, tmp_path / "own")
    found = load_own(tmp_path / "own")
    assert found.kind == model.kind == ("popularity" if weight == 1 else "ials")
    np.testing.assert_array_equal(found.score(rows), model.score(rows))


def test_what_is_learnt_comes_back_and_is_for_the_owner_alone(
    tastes, made_data, serving_home, catalogue
) -> None:
    assert opened(serving_home, catalogue) is None
    rows = tastes(80)
    known, fitted = learn(serving_home, made_data(rows), catalogue)
    again = opened(serving_home, catalogue)
    assert again == known
    np.testing.assert_array_equal(again.own.score(rows), fitted.model.score(rows))
    np.testing.assert_array_equal(again.histories.items, rows.items)
    np.testing.assert_array_equal(again.histories.offsets, rows.offsets)
    assert again.customers == [f"c{row:02}" for row in range(80)]
    np.testing.assert_array_equal(again.history("c07").row(0), rows.row(7))
    assert again.history("nobody") is None
    for path in [serving_home.vault, *serving_home.vault.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_it_is_learnt_anew_only_when_something_has_changed(
    tastes, made_data, serving_home, catalogue
) -> None:
    known, fitted = learn(serving_home, made_data(tastes(40)), catalogue)
    assert fitted is not None
    assert learn(serving_home, made_data(tastes(40)), catalogue) == (known, None)
    changed, fitted = learn(serving_home, made_data(tastes(40, seed=1)), catalogue)
    assert fitted is not None
    folders = [path for path in (serving_home.vault / "own").iterdir() if path.is_dir()]
    assert [path.name for path in folders] == [changed.facts.folder]
    renamed = Catalogue(catalogue.item_ids[::-1], catalogue.details)
    assert opened(serving_home, renamed) is None


def test_customers_without_history_keep_their_place(made_data, serving_home, catalogue) -> None:
    rows = Histories.from_pairs([1, 1, 3], [5, 4, 9], 5, 60)
    known, _ = learn(serving_home, made_data(rows), catalogue)
    assert known.histories.lengths.tolist() == [0, 2, 0, 1, 0]
    assert known.history("c01").row(0).tolist() == [5, 4]
    assert known.history("c02").row(0).tolist() == []


@pytest.mark.parametrize("customers", [0, 3])
def test_a_shop_without_any_interaction_serves_the_league(
    customers, tastes, made_data, serving_home, catalogue, league_plan, learn_plan, make_card
) -> None:
    none = Histories(np.zeros(customers + 1, dtype=np.int64), np.empty(0, dtype=np.int32), 60)
    known, _ = learn(serving_home, made_data(none), catalogue)
    plan = league_plan()
    state = learn_plan(plan, tastes(100))
    receive_model(serving_home, make_card(state, plan), state)
    assert blend_weight(known, versions(serving_home)[0], state) == (1.0, True)


def test_the_weight_is_that_of_the_simulation_and_chosen_once(
    tastes, made_data, serving_home, catalogue, league_plan, learn_plan, make_card
) -> None:
    plan, rows = league_plan(), tastes(50)
    state = learn_plan(plan, tastes(300, seed=1))
    receive_model(serving_home, make_card(state, plan), state)
    (version,) = versions(serving_home)
    known, fitted = learn(serving_home, made_data(rows), catalogue)
    wanted = fit_blend(plan.learner, state, fit_own(rows, content=Content.of(catalogue))).weight
    assert wanted > 0
    assert blend_weight(known, version, state) == (wanted, True)  # the trial is fitted anew
    assert blend_weight(known, version, state) == (wanted, False)
    (serving_home.vault / "own" / known.facts.folder / "weights.json").unlink()
    assert blend_weight(known, version, state, fitted) == (wanted, True)


def test_forgotten_customers_leave_no_trace(tastes, made_data, serving_home, catalogue) -> None:
    rows = tastes(60)
    learn(serving_home, made_data(rows), catalogue)
    before = opened(serving_home, catalogue).own
    (serving_home.vault / "own" / "known-crashed").mkdir()
    assert forget(serving_home, ["nobody"]) == 0
    assert not (serving_home.vault / "own" / "known-crashed").exists()
    assert forget(serving_home, ["c03", "c59", "nobody"]) == 2
    known = opened(serving_home, catalogue)
    rest = rows.select(np.array([row for row in range(60) if row not in (3, 59)]))
    assert known.history("c03") is None
    assert known.history("c04").row(0).tolist() == rows.row(4).tolist()
    np.testing.assert_array_equal(known.own.score(rest), before.refit(rest).score(rest))
    assert len([path for path in (serving_home.vault / "own").iterdir() if path.is_dir()]) == 1
    assert forget(serving_home, known.customers) == 58
    assert opened(serving_home, catalogue).customers == []


def test_of_another_catalogue_everything_is_forgotten(tastes, made_data, serving_home, catalogue) -> None:
    learn(serving_home, made_data(tastes(30)), Catalogue(catalogue.item_ids[::-1]))
    (serving_home.vault / "others").write_text("stay")
    assert forget(serving_home, ["c01"]) == 0
    assert [path.name for path in serving_home.vault.iterdir()] == ["others"]
    assert forget(serving_home, ["c01"]) == 0


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"folder": 1}'])
def test_a_damaged_vault_is_learnt_anew(content, tastes, made_data, serving_home, catalogue) -> None:
    learn(serving_home, made_data(tastes(30)), catalogue)
    (serving_home.vault / "own" / "current.json").write_text(content)
    assert opened(serving_home, catalogue) is None
    learn(serving_home, made_data(tastes(30)), catalogue)
    facts = json.loads((serving_home.vault / "own" / "current.json").read_text())
    assert facts["version"] == knowledge._FORMAT
    assert facts["customers"] == 30


@pytest.mark.parametrize("name", ["own.safetensors", "histories.parquet"])
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"else")])
def test_damaged_files_are_one_line(name, damage, tastes, made_data, serving_home, catalogue) -> None:
    known, _ = learn(serving_home, made_data(tastes(30)), catalogue)
    damage(serving_home.vault / "own" / known.facts.folder / name)
    known = opened(serving_home, catalogue)
    with pytest.raises(UsageError, match="run again, or remove it"):
        _ = known.own if name.startswith("own") else known.history("c01")
    with pytest.raises(UsageError, match="run again, or remove it"):
        _ = known.own if name.startswith("own") else known.customers
