"""Whole numbers from real contributions: the mean is kept, and the bound holds whatever the coins."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.dp.clipping import DenseContributions, OuterContributions, RowContributions, clipped_sum
from hansa.dp.integers import IntegerSkellam
from hansa.dp.pairs import PairContributions, packed_rows
from hansa.dp.rounding import integer_sum
from hansa.rng import seeded_generator
from hansa.schema import Histories

ROWS, WIDTH = 9, 3
ALMOST_ONE = 1 - 2.0**-24


class Coins:
    """All coins the same: the extremes that fair ones hardly ever show, and for everybody alike."""

    def __init__(self, coin):
        self.coin = coin

    def random(self, size, dtype):
        return np.full(size, self.coin, dtype=dtype)


def mechanism(rows=ROWS, width=WIDTH, bound=1.0):
    return IntegerSkellam(bound, 1.0, rows * width)


def summed(contributions, the_mechanism, coins, rows=ROWS, width=WIDTH):
    total = torch.zeros(rows, width, dtype=torch.int64)
    return integer_sum([contributions], the_mechanism, total, coins).numpy()


def squares(whole):
    return sum(int(v) ** 2 for v in whole.ravel())


def dense(values):
    return DenseContributions(torch.as_tensor(values))


def spread(values):
    """One customer with these values, a row each, in every form."""
    values = torch.as_tensor(values, dtype=torch.float32)
    count = len(values)
    nobody, places = torch.zeros(count, dtype=torch.int64), torch.arange(count)
    half = count // 2
    return {
        "rows": RowContributions(1, nobody, places, values[:, None]),
        "repeats": RowContributions(
            1, nobody.repeat(2), places.repeat(2), torch.cat([3 * values, -2 * values])[:, None].double()
        ),
        "outer": OuterContributions(values[None], torch.ones(1, 1)),
        "extra": OuterContributions(
            values[None, :half],
            torch.ones(1, 1),
            places[:half],
            (nobody[half:], places[half:], values[half:]),
        ),
        "dense": dense(values[None, :, None]),
    }


FORMS = ["rows", "repeats", "outer", "extra", "dense"]


@pytest.mark.parametrize("form", FORMS)
def test_the_mean_is_the_contribution(form):
    """Five deviations in each of 40 entries, of 1/2 at most: false alarm below 3e-5 with fresh seeds."""
    draw = seeded_generator(4)
    values = draw.standard_normal(40).astype(np.float32)
    values[:5] = [0, 1, -1, 0.5, -0.5]
    the_mechanism, times = IntegerSkellam(16.0, 1.0, 40), 1500
    coins = seeded_generator(5)
    sums = [summed(spread(values)[form], the_mechanism, coins, 40, 1) for _ in range(times)]
    quanta = values.astype(np.float64) / the_mechanism.quantum
    found = np.mean(sums, axis=0)[:, 0]
    part = quanta - np.floor(quanta)
    assert (np.abs(found - quanta) < 5 * np.sqrt(part * (1 - part) / times) + 1e-3).all()
    assert (np.abs(np.array(sums)[:, :, 0] - quanta) < 1 + 1e-3).all()


def test_rounding_to_the_nearest_would_not_keep_it():
    """A control: small entries of many customers would vanish."""
    values = np.full((2000, 50, 1), 0.3, dtype=np.float32)
    the_mechanism = IntegerSkellam(4096.0, 1.0, 50)
    assert the_mechanism.quantum == 1.0
    found = summed(dense(values), the_mechanism, seeded_generator(0), 50, 1)
    assert abs(found.mean() - 600) < 5 * math.sqrt(2000 * 0.21 / 50)
    assert not np.rint(values).any()


@pytest.mark.parametrize("form", FORMS)
def test_what_comes_out_above_the_bound_is_rounded_towards_zero(form):
    """All coins up: 400 entries of 204.8 quanta become 205 each, above the bound; so 204."""
    the_mechanism = IntegerSkellam(1.0, 1.0, 400)
    contributions = spread(np.full(400, 5.0))[form]
    assert 400 * 205**2 > the_mechanism.squared > 400 * 204**2
    up = summed(contributions, the_mechanism, Coins(ALMOST_ONE), 400, 1)
    np.testing.assert_array_equal(up, 204)
    down = summed(contributions, the_mechanism, Coins(0.0), 400, 1)
    np.testing.assert_array_equal(down, 204)
    np.testing.assert_array_equal(
        summed(spread(np.full(400, -5.0))[form], the_mechanism, Coins(0.0), 400, 1), -204
    )


def test_the_fallback_is_for_one_customer_only():
    values = np.full((3, 400, 1), 5.0, dtype=np.float32)
    values[1] = 0.01
    values[2] = 0.0
    the_mechanism = IntegerSkellam(1.0, 1.0, 400)
    found = summed(dense(values), the_mechanism, Coins(ALMOST_ONE), 400, 1)
    np.testing.assert_array_equal(found, 204 + math.ceil(0.01 * the_mechanism.scale))


def adversarial(entries, scale):
    """Values in quanta, of norm ``scale`` or more, or whose roundings add the most."""
    each = scale / math.sqrt(entries)
    one = np.zeros(entries)
    one[entries // 2] = 1e9
    nearly = np.full(entries, 0.5)
    nearly[0] = math.sqrt(max(0.0, scale**2 - entries / 4))
    yield from (one, np.full(entries, each), np.full(entries, 1.001 * each), nearly, -nearly)
    yield np.where(np.arange(entries) % 2, each, -each)
    yield np.full(entries, 0.5)
    yield np.full(entries, math.floor(each) + 0.5)
    yield np.full(entries, math.floor(each) + 1e-6)
    yield np.full(entries, -math.floor(each) - 0.5)


@pytest.mark.parametrize("entries", [2, 17, 400, 30_000])
@pytest.mark.parametrize("coins", [0.0, 0.5, ALMOST_ONE, "fair"])
def test_no_customer_is_above_the_integer_bound(entries, coins):
    the_mechanism = IntegerSkellam(2.0, 1.0, entries)
    for number, quanta in enumerate(adversarial(entries, the_mechanism.scale)):
        for form, contributions in spread(quanta * the_mechanism.quantum).items():
            thrown = seeded_generator(number, form) if coins == "fair" else Coins(coins)
            found = summed(contributions, the_mechanism, thrown, entries, 1)
            assert squares(found) <= the_mechanism.squared
            assert np.abs(found).sum() <= the_mechanism.absolute
            assert squares(found) > 0 or quanta.max() <= 0.5 or coins != "fair"


def test_the_bound_test_can_fail():
    """A control: rounding away from zero alone passes the bound."""
    for entries in (400, 30_000):
        the_mechanism = IntegerSkellam(2.0, 1.0, entries)
        worst = max(squares(np.ceil(np.abs(q))) for q in list(adversarial(entries, the_mechanism.scale))[1:2])
        assert worst > the_mechanism.squared


BAD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("form", FORMS)
def test_customers_that_are_not_finite_contribute_zero(form, bad):
    values = np.ones(20)
    values[7] = bad
    the_mechanism = IntegerSkellam(1.0, 1.0, 20)
    assert not summed(spread(values)[form], the_mechanism, seeded_generator(0), 20, 1).any()


@pytest.mark.parametrize("bad", BAD)
def test_they_spoil_nobody_else_s(bad):
    values = seeded_generator(1).standard_normal((5, ROWS, WIDTH)).astype(np.float32)
    without = np.delete(values, 2, axis=0)
    values[2, 3, 1] = bad
    np.testing.assert_array_equal(
        summed(dense(values), mechanism(), Coins(0.4)), summed(dense(without), mechanism(), Coins(0.4))
    )


@pytest.mark.parametrize(("one", "other"), [(1e100, 1e100), (1e100, 1e-100), (1e38, 1e38), (3e38, 1e-38)])
@pytest.mark.parametrize("extra", [False, True])
def test_huge_factors_keep_to_the_bound(one, other, extra):
    """Of float32 some are infinite, and their scales zero."""
    nobody = torch.zeros(1, dtype=torch.int64)
    contributions = OuterContributions(
        torch.full((1, 2), one, dtype=torch.float64),
        torch.full((1, WIDTH), other, dtype=torch.float64),
        torch.tensor([0, 2]),
        (nobody, nobody + 5, torch.tensor([one], dtype=torch.float64)) if extra else None,
    )
    the_mechanism = mechanism()
    found = summed(contributions, the_mechanism, seeded_generator(0))
    assert squares(found) <= the_mechanism.squared


def test_huge_float32_contributions_still_count():
    contributions = OuterContributions(torch.full((1, ROWS), 1e38), torch.full((1, WIDTH), 1e38))
    found = summed(contributions, mechanism(), seeded_generator(0))
    assert squares(found) == pytest.approx(mechanism().scale ** 2, rel=1e-2)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1.0, 1e30])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), coin=st.sampled_from([0.0, 0.25, 0.5, ALMOST_ONE]))
def test_a_customer_moves_the_sum_by_its_own_vector_within_the_bound(seed, coin, size):
    """With the same coins for everybody, so that the others' whole numbers are the same."""
    draw = seeded_generator(seed)
    owners = torch.from_numpy(draw.integers(0, 5, 60))
    rows = torch.from_numpy(draw.integers(0, ROWS, 60))
    values = torch.from_numpy(size * draw.standard_normal((60, WIDTH)))
    the_mechanism = mechanism()

    def total(keep):
        contributions = RowContributions(5, owners[keep], rows[keep], values[keep])
        return summed(contributions, the_mechanism, Coins(coin))

    everybody = total(torch.ones(60, dtype=torch.bool))
    for customer in range(5):
        moved = everybody - total(owners != customer)
        assert squares(moved) <= the_mechanism.squared
        np.testing.assert_array_equal(moved, total(owners == customer))


def test_how_repeats_are_added_depends_on_nobody_else():
    """Huge ones that cancel, with a small one between: in another order the small one is lost."""
    draw = seeded_generator(3)
    mine = torch.tensor([[1e17], [1.0], [-1e17], [3.0], [5.0], [1e17], [-1e17], [2.0]], dtype=torch.float64)
    the_mechanism, orders = IntegerSkellam(100.0, 1.0, ROWS), set()
    for others in (0, 1, 5, 20, 100, 300, 1000):
        owners = torch.from_numpy(np.concatenate([np.zeros(len(mine), int), draw.integers(1, 9, others)]))
        rows = torch.from_numpy(np.concatenate([np.full(len(mine), 4), draw.integers(0, ROWS, others)]))
        place = torch.from_numpy(np.sort(draw.permutation(len(owners))[: len(mine)]))
        rest = torch.ones(len(owners), dtype=torch.bool)
        rest[place] = False
        order = torch.empty(len(owners), dtype=torch.int64)
        order[place] = torch.arange(len(mine))
        order[rest] = torch.arange(len(mine), len(owners))
        values = torch.cat([mine, torch.zeros(others, 1, dtype=torch.float64)])
        contributions = RowContributions(9, owners[order], rows[order], values[order])
        found = summed(contributions, the_mechanism, Coins(0.5), width=1)
        orders.add(int(found[4, 0]))
    assert len(orders) == 1


def test_chunks_add_up_to_what_was_there_already():
    values = seeded_generator(1).standard_normal((6, ROWS, WIDTH)).astype(np.float32)
    whole = summed(dense(values), mechanism(), Coins(0.3))
    total = torch.full((ROWS, WIDTH), 7, dtype=torch.int64)
    integer_sum([dense(values[:2]), dense(values[2:])], mechanism(), total, Coins(0.3))
    np.testing.assert_array_equal(total.numpy() - 7, whole)


@pytest.mark.parametrize("customers", [1, 300])
def test_the_sum_is_the_clipped_one_but_for_rounding(customers):
    draw = seeded_generator(8)
    values = (draw.standard_normal((customers, ROWS, WIDTH)) * draw.random((customers, 1, 1))).astype(
        np.float32
    )
    found = summed(dense(values), mechanism(), seeded_generator(0)) * mechanism().quantum
    exact = clipped_sum([dense(values)], 1.0, torch.zeros(ROWS, WIDTH, dtype=torch.float64)).numpy()
    assert np.abs(found - exact).max() < 6 * mechanism().quantum * math.sqrt(customers / 4) + 1e-5
    assert np.abs(exact).max() > 0.05


def test_pairs_are_rounded_too():
    rows = Histories(np.array([0, 0, 1, 3, 8]), np.array([2, 1, 4, 0, 3, 5, 8, 7], dtype=np.int32), ROWS)
    size = packed_rows(ROWS)
    the_mechanism = IntegerSkellam(1.0, 1.0, size)
    for coin in (0.0, 0.5, ALMOST_ONE):
        found = summed(PairContributions(rows), the_mechanism, Coins(coin), size, 1)
        exact = clipped_sum([PairContributions(rows)], 1.0, torch.zeros(size, 1, dtype=torch.float64))
        assert np.abs(found * the_mechanism.quantum - exact.numpy()).max() < 2.1 * the_mechanism.quantum


def test_nobody_adds_nothing():
    nothing = torch.zeros(0, dtype=torch.int64)
    for empty in (
        RowContributions(0, nothing, nothing, torch.zeros(0, WIDTH)),
        RowContributions(3, nothing, nothing, torch.zeros(0, WIDTH)),
        OuterContributions(torch.zeros(0, ROWS), torch.zeros(0, WIDTH)),
        dense(np.zeros((0, ROWS, WIDTH))),
        dense(np.zeros((4, ROWS, WIDTH))),
    ):
        assert not summed(empty, mechanism(), seeded_generator(0)).any()
