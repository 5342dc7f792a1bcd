import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.errors import UsageError
from hansa.rng import seeded_generator
from hansa_simulations.datasets import RawData
from hansa_simulations.partition import DEFAULT_SHOPS, assign_shops, deal


def raw_data(users, default_shops=None, **columns):
    frame = pl.DataFrame(
        {"user_id": users, "item_id": ["x"] * len(users), "timestamp": range(len(users)), **columns}
    )
    return RawData("mine", frame, pl.DataFrame({"item_id": ["x"]}), default_shops)


def shops_of(frame):
    return dict(frame.select("user_id", "shop_id").rows())


@given(
    customers=st.integers(1, 300),
    shops=st.integers(1, 300),
    dealing=st.sampled_from(["even", "dirichlet"]),
    alpha=st.floats(0.01, 100),
    seed=st.integers(0, 9),
)
def test_every_customer_has_a_shop_and_every_shop_a_customer(customers, shops, dealing, alpha, seed):
    shops = min(shops, customers)
    sizes = np.bincount(deal(customers, shops, dealing, alpha, seeded_generator(seed)), minlength=shops)
    assert sizes.sum() == customers
    assert len(sizes) == shops
    assert sizes.min() >= 1
    if dealing == "even":
        assert sizes.max() - sizes.min() <= 1


def test_small_alpha_skews():
    def largest(alpha):
        return np.bincount(deal(1000, 10, "dirichlet", alpha, seeded_generator(0))).max()

    assert largest(0.05) > 400 > 150 > largest(1000)


@pytest.mark.parametrize("dealing", ["even", "dirichlet"])
def test_dealing_follows_the_seed_only(dealing):
    first, again, other = (deal(100, 7, dealing, 1.0, seeded_generator(seed)) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((3, 4, "even", 1.0), "4 shops are more than the 3 customers"),
        ((3, 0, "even", 1.0), "--shops: 0 is too few"),
        ((3, -2, "even", 1.0), "--shops: -2 is too few"),
        ((3, 2, "evenly", 1.0), "scenario.dealing: unknown value 'evenly'"),
        ((3, 2, "dirichlet", 0.0), "scenario.alpha: 0.0 is not a positive number"),
        ((3, 2, "dirichlet", float("nan")), "scenario.alpha: nan"),
    ],
)
def test_senseless_dealing(arguments, said):
    with pytest.raises(UsageError, match=said):
        deal(*arguments, seeded_generator(0))


@pytest.mark.parametrize(
    ("customers", "default", "asked", "expected"),
    [
        (100, None, None, DEFAULT_SHOPS),
        (100, 50, None, 50),
        (3, None, None, 3),
        (3, 50, None, 3),
        (100, 50, 4, 4),
    ],
)
def test_number_of_shops_without_shop_id(customers, default, asked, expected):
    raw = raw_data([str(user) for user in range(customers)], default)
    frame, notes = assign_shops(raw, asked)
    assert frame["shop_id"].n_unique() == expected
    assert notes == (f"shops: customers were dealt to {expected} shops (even)",)


def test_a_person_is_dealt_once_and_rows_keep_their_order():
    raw = raw_data(["b", "a", "b", "c", "a"])
    frame, _ = assign_shops(raw, 3)
    assert frame["timestamp"].to_list() == [0, 1, 2, 3, 4]
    assert len(frame.select("user_id", "shop_id").unique()) == 3
    assert sorted(shops_of(frame).values()) == ["shop-1", "shop-2", "shop-3"]


@pytest.mark.parametrize("asked", [None, 2])
def test_own_shops_are_kept(asked):
    raw = raw_data(["a", "a", "b"], shop_id=["x", "y", "y"])
    frame, notes = assign_shops(raw, asked)
    assert frame["shop_id"].to_list() == ["x", "y", "y"]
    assert notes == ()


def test_another_number_deals_people_anew_and_says_so():
    raw = raw_data(["a", "a", "b", "c"], shop_id=["x", "y", "y", "x"])
    frame, notes = assign_shops(raw, 3)
    assert notes == ("shops: the data has 2; its customers were dealt anew to 3 shops",)
    assert len(frame.select("user_id", "shop_id").unique()) == 3  # a is at one shop now


def test_more_shops_than_people_who_come_twice():
    with pytest.raises(UsageError, match="3 shops are more than the 2 customers"):
        assign_shops(raw_data(["a", "a", "b"]), 3)


def test_asked_dealing_wins_over_own_shops():
    raw = raw_data([str(user) for user in range(40)], shop_id=["x", "y"] * 20)
    frame, notes = assign_shops(raw, None, dealing="dirichlet")
    assert frame["shop_id"].n_unique() == DEFAULT_SHOPS
    assert "(dirichlet)" in notes[0]


def test_by_a_column():
    raw = raw_data(["a", "a", "b"], town=[7, 8, 8], shop_id=["x", "x", "x"])
    assert assign_shops(raw, None, dealing="column:town")[0]["shop_id"].to_list() == ["7", "8", "8"]
    assert assign_shops(raw, 2, dealing="column:town")[1] == ()
    assert "dealt anew to 1" in assign_shops(raw, 1, dealing="column:town")[1][0]


def test_by_a_column_that_is_not_there_or_has_gaps():
    with pytest.raises(UsageError, match="mine has no column 'town'"):
        assign_shops(raw_data(["a"]), None, dealing="column:town")
    with pytest.raises(UsageError, match="column 'town' of mine has empty values"):
        assign_shops(raw_data(["a", "b"], town=["x", None]), None, dealing="column:town")
