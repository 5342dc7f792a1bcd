import json
import re
import stat

import numpy as np
import polars as pl
import pytest

from hansa.cli import main
from hansa.models.content import Content
from hansa.models.own import fit_own
from hansa.recommend import fit_blend, top_k
from hansa.schema import Histories
from hansa_client.commands.serving import lines
from hansa_client.data.exclusions import Exclusions, forget
from hansa_client.serving import export as export_module
from hansa_client.serving.assortment import Assortment
from hansa_client.serving.vault import receive_model


class Shop:
    """A shop's folder, and the histories that its data file says.

    Args:
        home: The folder.
        rows: The histories of customers c00, c01 and so on.
    """

    def __init__(self, home, rows) -> None:
        self.home = home
        self.become(rows)

    def become(self, rows, code="i{:02}") -> None:
        self.rows = rows
        table = {
            "user_id": [f"c{row:02}" for row in rows.rows_index],
            "item_id": [code.format(item) for item in rows.items],
            "timestamp": 1_700_000_000 - rows.ages * 60,
        }
        pl.DataFrame(table).write_csv(self.home.root / "interactions.csv")


@pytest.fixture
def shop(serving_home, tastes, monkeypatch):
    """A shop of fifty customers."""
    monkeypatch.setenv("HANSA_SHOP", str(serving_home.root))
    return Shop(serving_home, tastes(50))


@pytest.fixture(scope="module")
def league(league_plan, learn_plan, tastes):
    plan = league_plan()
    return plan, learn_plan(plan, tastes(300, seed=1))


@pytest.fixture
def joined(shop, league, make_card):
    """The same shop with two versions of the league's model."""
    plan, state = league
    other = {**state, "counts": state["counts"][::-1].copy()}
    receive_model(shop.home, make_card(other, plan, "v1", 1), other)
    receive_model(shop.home, make_card(state, plan, "v2", 2), state)
    return shop


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = main(["client", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def document(run):
    def call(*arguments):
        code, out, err = run(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    return call


def codes(answer):
    return [row["item"] for row in answer["recommendations"]]


def test_before_the_first_model_the_own_one_serves_and_says_so(shop, run, document, catalogue) -> None:
    code, out, err = run("recommend", "--user", "c03", "--k", "5")
    assert code == 0
    assert [line.split(";")[0] for line in err.splitlines()] == [
        "hansa: reading the shop's data, once",
        "hansa: fitting the shop's own model on 50 customers",
    ]
    table, basis = out.splitlines()[:-1], out.splitlines()[-1]
    assert basis == (
        "(the shop's own model alone: no model of the league has arrived yet, data up to 2023-11-14)"
    )
    assert re.match(r"1 +i\d\d +Title \d+ +\d\.\d\d +\w", table[1])
    assert len(table) == 6
    answer = document("recommend", "--user", "c03", "--k", "5")
    model = fit_own(shop.rows, content=Content.of(catalogue)).model
    wanted = top_k(model.score(shop.rows), shop.rows, 5)[3]
    assert codes(answer) == [catalogue.item_ids[item] for item in wanted]
    assert answer["model"] is None
    assert answer["weight"] == 0


def test_the_blend_serves_what_the_simulation_measures(joined, document, run, league, catalogue) -> None:
    _, _, err = run("refresh")
    assert "model v2: its share of what is served is" in err
    plan, state = league
    blend = fit_blend(plan.learner, state, fit_own(joined.rows, content=Content.of(catalogue)))
    wanted = top_k(blend.score(joined.rows), joined.rows, 20)
    for row in (0, 3, 17):
        answer = document("recommend", "--user", f"c{row:02}")
        assert codes(answer) == [catalogue.item_ids[item] for item in wanted[row]]
        assert (answer["model"], answer["weight"]) == ("v2", blend.weight)
        assert answer["notes"] == []
    assert {"own", "league"} & {row["knowledge"] for row in answer["recommendations"]}
    assert any(len(row["because"]) == 2 for row in answer["recommendations"])


def test_again_and_category_and_somebody_unknown(joined, document, run) -> None:
    had = {f"i{item:02}" for item in joined.rows.row(3)}
    assert not had & set(codes(document("recommend", "--user", "c03", "--k", "60")))
    assert had < set(codes(document("recommend", "--user", "c03", "--k", "60", "--again")))
    answer = document("recommend", "--user", "c03", "--category", "tools", "--k", "60")
    assert {int(code[1:]) % 3 for code in codes(answer)} == {2}
    assert answer["notes"] == [f"no more than {len(answer['recommendations'])} items are left to list"]
    unknown = document("recommend", "--user", "stranger", "--k", "3")
    assert unknown["notes"] == ["no item of the catalogue is known of this customer: these are popular"]
    assert {row["reason"].split()[0] for row in unknown["recommendations"]} == {"popular"}
    code, out, err = run("recommend", "--user", "c03", "--category", "Foo")
    assert (code, out) == (2, "")
    assert "some begin with it: food|bread" in err


def test_similar_and_together(joined, document, run) -> None:
    answer = document("similar", "--item", "i04", "--k", "5")
    assert sum(int(code[1:]) % 3 == 1 for code in codes(answer)) >= 4
    assert answer["recommendations"][0]["reason"].startswith("often had with Title 4 (")
    answer = document("together", "--items", "i04, i07,i04", "--k", "5")
    assert answer["items"] == ["i04", "i07"]
    assert sum(int(code[1:]) % 3 == 1 for code in codes(answer)) >= 4
    for arguments, says in [
        (["similar", "--item", "j4"], "item 'j4': means no item of the league's catalogue; give"),
        (["together", "--items", "i04,i"], "codes that begin with it: i00, i01, i02, ...;"),
        (["together", "--items", " , "], "--items: no code"),
    ]:
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert says in err
        assert len(err.splitlines()) == 1 or "reading the shop's data" in err


def test_a_shop_speaks_its_own_codes_and_lists_what_it_sells(joined, document) -> None:
    pairs = [f"SKU-{item},i{item:02}" for item in range(30)]
    (joined.home.root / "map.csv").write_text("\n".join(["code,item_id", *pairs]))
    with joined.home.settings.open("a") as file:
        file.write('\n[catalogue]\nmapping = "map.csv"\n')
    joined.become(joined.rows, "SKU-{}")
    answer = document("recommend", "--user", "c03", "--k", "60")
    assert all(code in {f"SKU-{item}" for item in range(30)} for code in codes(answer))
    assert len(answer["recommendations"]) == 30 - (joined.rows.row(3) < 30).sum()
    assert codes(document("similar", "--item", "SKU-4", "--k", "1"))[0].startswith("SKU-")


def changed_but_for(row, rows, tastes):
    """Other customers' data are all others, and there is one more of them."""
    others = tastes(len(rows) + 1, seed=5)
    keep, theirs = rows.rows_index == row, others.rows_index != row
    return Histories.from_pairs(
        np.concatenate([others.rows_index[theirs], rows.rows_index[keep]]),
        np.concatenate([others.items[theirs], rows.items[keep]]),
        len(others),
        60,
    )


def test_shared_only_does_not_change_with_other_customers(joined, document, tmp_path, tastes) -> None:
    questions = [
        ("recommend", "--user", "c03", "--k", "60"),
        ("recommend", "--user", "c03", "--again"),
        ("recommend", "--user", "stranger"),
        ("similar", "--item", "i04"),
        ("together", "--items", "i04,i05"),
    ]

    def ask(serve):
        answers = [document(*question, "--serve", serve) for question in questions]
        out = tmp_path / f"{serve}.parquet"
        document("export", "--out", out, "--serve", serve)
        table = pl.read_parquet(out).filter(pl.col("customer") == "c03")
        return [[answer["recommendations"], answer["weight"]] for answer in answers], table.rows()

    before = {serve: ask(serve) for serve in ("shared-only", "blend")}
    joined.become(changed_but_for(3, joined.rows, tastes))
    document("refresh")
    after = {serve: ask(serve) for serve in ("shared-only", "blend")}
    assert after["shared-only"] == before["shared-only"]
    for one, other in zip(before["blend"][0], after["blend"][0], strict=True):
        assert one != other  # so that the comparison above says something
    assert before["blend"][1] != after["blend"][1]


def test_shared_only_of_the_settings_holds_for_every_command(joined, document, run) -> None:
    text = joined.home.settings.read_text()
    joined.home.settings.write_text(text.replace("keep = 2", "shared_only = true\nkeep = 2"))
    answer = document("recommend", "--user", "c03")
    assert answer["shared_only"] is True
    assert answer["weight"] == 1
    assert answer["basis"] == "the league's model v2 and the customer's own history alone"
    assert {row["knowledge"] for row in answer["recommendations"]} == {"league"}
    assert "own history alone" in run("refresh")[1]


def test_shared_only_needs_a_model_and_a_right_word(shop, run) -> None:
    code, _, err = run("recommend", "--user", "c03", "--serve", "shared-only")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "no model of the league has arrived yet" in err
    code, _, err = run("recommend", "--user", "c03", "--serve", "shared")
    assert code == 2
    assert "use one of: blend, shared-only" in err


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_export_writes_every_customers_list(kind, joined, document, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(export_module, "CHUNK_CELLS", 7 * 60)
    monkeypatch.setattr(export_module, "PIECE_ROWS", 40)
    out = tmp_path / f"lists.{kind}"
    said = document("export", "--out", out, "--k", "5")
    assert said["customers"] == 50
    table = pl.read_parquet(out) if kind == "parquet" else pl.read_csv(out)
    assert table.columns == ["customer", "rank", "item", "score", "reason"]
    assert table["customer"].unique(maintain_order=True).to_list() == [f"c{row:02}" for row in range(50)]
    assert table["rank"].to_list() == [1, 2, 3, 4, 5] * 50
    for user in ("c00", "c06", "c07", "c49"):
        answer = document("recommend", "--user", user, "--k", "5")
        rows = table.filter(pl.col("customer") == user)
        assert rows["item"].to_list() == codes(answer)
        assert rows["reason"].to_list() == [row["reason"] for row in answer["recommendations"]]
        np.testing.assert_allclose(
            rows["score"], [row["score"] for row in answer["recommendations"]], atol=1e-4
        )
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name != "shop"] == [out.name]


@pytest.mark.parametrize(("own", "sizes"), [(True, {7, 1}), (False, {1})])
def test_only_with_shared_only_customers_are_scored_one_by_one(
    own, sizes, tastes, catalogue, monkeypatch
) -> None:
    """A rounding may depend on the others that are scored at the same time."""
    monkeypatch.setattr(export_module, "CHUNK_CELLS", 7 * 60)
    rows, seen = tastes(50), []

    class Serving:
        n_items, shared_only = 60, not own

        def lists(self, histories, k, again):
            seen.append(len(histories))
            return [[]] * len(histories)

    class Counter:
        serving, assortment = Serving(), Assortment.plain(catalogue)

        class known:  # noqa: N801
            customers, histories = [f"c{row}" for row in range(50)], rows

    assert list(export_module.tables(Counter(), 5)) == []
    assert set(seen) == sizes
    assert sum(seen) == 50


def test_export_names_what_is_wrong_with_its_file(joined, run, tmp_path) -> None:
    for out, says in [(tmp_path / "x.xlsx", ".parquet or .csv"), (tmp_path / "no" / "x.csv", "may write")]:
        code, printed, err = run("export", "--out", out)
        assert (code, printed) == (2, "")
        assert says in err.splitlines()[-1]


def test_export_of_a_shop_without_customers_is_a_table_without_rows(joined, document, tmp_path) -> None:
    joined.become(Histories(np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int32), 60))
    assert document("export", "--out", tmp_path / "x.parquet")["customers"] == 0
    assert pl.read_parquet(tmp_path / "x.parquet").columns == list(export_module.SCHEMA)
    assert codes(document("recommend", "--user", "c03"))  # the league's popularity


def test_models_are_listed_pinned_and_rolled_back(joined, document, run) -> None:
    _, out, _ = run("models")
    assert out == run("models", "list")[1]
    assert re.search(r"^\* +v2 +2025-11-02", out, re.MULTILINE)
    assert [row["version"] for row in document("models", "list")["versions"]] == ["v2", "v1"]
    newest = document("recommend", "--user", "c03")
    assert run("models", "rollback")[1].startswith("v1 serves")
    found = document("models", "list")
    assert found["serving"] == "v1"
    assert [row["in_use"] for row in found["versions"]] == [False, True]
    older = document("recommend", "--user", "c03")
    assert older["model"] == "v1"
    assert codes(older) != codes(newest)
    assert run("models", "use", "newest")[:2] == (0, "v2 serves\n")
    assert document("recommend", "--user", "c03") == newest
    code, _, err = run("models", "use", "v7")
    assert code == 2
    assert "kept: v2, v1" in err


def test_models_before_the_first(shop, run) -> None:
    assert "no model of the league has arrived yet" in run("models")[1]
    assert run("models", "rollback")[0] == 2
    assert run("models", "use", "newest")[0] == 0


def test_refresh_does_nothing_twice(joined, document, run, tastes) -> None:
    first = document("refresh")
    assert (first["fitted"], first["customers"], first["model"]) == (True, 50, "v2")
    again = document("refresh")
    assert again == {**first, "fitted": False}
    joined.become(tastes(51, seed=2))
    assert document("refresh")["customers"] == 51
    assert "nothing has changed" in run("refresh")[1]


def test_who_opts_out_is_forgotten_by_what_serves(joined, document) -> None:
    before = document("recommend", "--user", "c03")
    Exclusions(joined.home).add(["c03"])
    assert forget(joined.home, ["c03"])["hansa_client.serving.knowledge"] == 1
    after = document("recommend", "--user", "c03")
    assert after["notes"][0].startswith("no item of the catalogue is known of this customer")
    assert after["recommendations"] != before["recommendations"]
    assert document("refresh")["customers"] == 49
    files = list(joined.home.vault.rglob("*.parquet"))
    assert files
    assert all("c03" not in pl.read_parquet(path)["customer"].to_list() for path in files)


def test_a_model_that_was_changed_serves_nobody(joined, run) -> None:
    (joined.home.models / "v2" / "model.safetensors").write_bytes(b"else")
    code, out, err = run("recommend", "--user", "c03")
    assert (code, out) == (4, "")
    assert "another file than was received" in err.splitlines()[-1]


def test_a_table_has_no_characters_that_a_terminal_obeys() -> None:
    assert lines([["a", "\x1b[31mred\n"], ["long", "b"]]) == ["a      [31mred", "long  b"]
