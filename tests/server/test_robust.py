import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.errors import RefusalError
from hansa.plan import Plan
from hansa.records import Answer
from hansa.rng import seeded_generator
from hansa_server.robust import TrimmedSum, noise_excess
from hansa_server.sums import TableSum


def tables(shops, rows, width=1, seed=0):
    return seeded_generator(seed, "test").standard_normal((shops, rows, width)).astype(np.float32)


def summed(values, cut):
    total = TrimmedSum(*values.shape[1:], cut)
    for table in values:
        total.add(table)
    return total.total()


def by_sorting(values, cut):
    """Definition 2 of Yin et al., as it is written."""
    shops = len(values)
    kept = np.sort(values.astype(np.float64), axis=0)[cut : shops - cut]
    return kept.mean(axis=0) * shops


@pytest.mark.parametrize(
    ("shops", "cut", "rows", "width"),
    [
        (1, 0, 3, 2),
        (3, 1, 1, 1),
        (5, 2, 4, 3),
        (10, 1, 7, 1),
        (11, 5, 70_000, 1),
        (4, 1, 0, 5),
        (30, 3, 2, 40),
    ],
)
def test_it_is_the_trimmed_mean_times_the_shops(shops, cut, rows, width):
    values = tables(shops, rows, width)
    before = values.copy()
    np.testing.assert_allclose(summed(values, cut), by_sorting(values, cut), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(values, before)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 4), st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.0, 1.0, 3.0]), min_size=9, max_size=20)
)
def test_ties_are_cut_like_other_values(cut, numbers):
    values = np.array(numbers, dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(summed(values, cut), by_sorting(values, cut), rtol=1e-6)


def test_the_order_of_shops_does_not_matter():
    values = tables(20, 50) * 10.0 ** np.arange(-5, 15)[:, None, None].astype(np.float32)
    np.testing.assert_array_equal(summed(values, 2), summed(values[::-1], 2))


def test_shops_that_agree_are_summed_as_they_are():
    values = np.full((7, 5, 2), 2.5, dtype=np.float32)
    np.testing.assert_array_equal(summed(values, 3), 17.5)


def test_with_nothing_cut_it_is_the_plain_sum():
    values = tables(9, 40, 2)
    np.testing.assert_array_equal(summed(values, 0), values.sum(axis=0, dtype=np.float64).astype(np.float32))


def test_memory_holds_what_is_cut_and_not_every_shop():
    total = TrimmedSum(1000, 1, cut=2)
    for table in tables(100, 1000):
        total.add(table)
    assert total._extremes.nbytes == 1000 * 5 * 4


@pytest.mark.parametrize("sent", [3e38, -3e38, 1e6, 0.0])
def test_up_to_as_many_dishonest_shops_as_are_cut_move_no_coordinate_out_of_the_honest_range(sent):
    honest = tables(8, 200)
    poison = np.full((2, 200, 1), sent, dtype=np.float32)
    together = np.concatenate([poison[:1], honest, poison[1:]])
    mean = summed(together, 2) / 10
    assert (mean >= honest.min(axis=0)).all()
    assert (mean <= honest.max(axis=0)).all()
    if abs(sent) > 10:
        with np.errstate(over="ignore"):
            assert (np.abs(summed(together, 0) / 10) > np.abs(honest).max()).all()
        one_more = np.concatenate([together, poison[:1]])
        with np.errstate(over="ignore"):
            assert (np.abs(summed(one_more, 2) / 11) > np.abs(honest).max()).all(), "more than are cut"


def test_huge_values_leave_no_trace_of_rounding():
    honest = tables(9, 100)
    together = np.concatenate([honest[:4], np.full((1, 100, 1), 1e30, dtype=np.float32), honest[4:]])
    ordered = np.sort(honest.astype(np.float64), axis=0)[
        1:
    ]  # the poison is cut at the top, one at the bottom
    np.testing.assert_allclose(summed(together, 1), ordered.mean(axis=0) * 10, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shops", "cut"), [(1, 1), (2, 1), (4, 2), (6, 3)])
def test_as_few_shops_as_are_cut_have_no_sum(shops, cut):
    total = TrimmedSum(3, 1, cut)
    for table in tables(shops, 3):
        total.add(table)
    assert not total.enough
    with pytest.raises(ValueError, match=f"{shops} tables, and {cut} are cut"):
        total.total()


@pytest.mark.parametrize(("shops", "cut"), [(3, 1), (10, 1), (10, 4), (50, 5), (111, 11)])
def test_the_stated_noise_is_that_of_the_trimmed_sum(shops, cut):
    entries = 20_000
    measured = summed(3.0 * tables(shops, entries, seed=7), cut).std()
    stated = 3.0 * math.sqrt(shops) * noise_excess(shops, cut)
    assert abs(measured / stated - 1) < 4 / math.sqrt(2 * entries) + 0.006
    if cut > 1:  # and the plain sum's would be wrong by more than that
        assert noise_excess(shops, cut) > 1.025


def test_the_noise_of_the_middle_of_three_is_the_known_one():
    """The variance of the middle of three normal values is 1 - sqrt(3) / pi; of many pi / 2 a mean's."""
    assert noise_excess(3, 1) == pytest.approx(math.sqrt(3 * (1 - math.sqrt(3) / math.pi)), rel=0.006)
    assert noise_excess(1001, 500) == pytest.approx(math.sqrt(math.pi / 2), rel=0.012)
    assert noise_excess(40, 0) == 1.0


def test_where_shops_differ_by_more_than_the_noise_its_deviation_stays_below_the_stated_bound():
    shops, cut, entries = 10, 2, 20_000
    apart = 100 * np.arange(shops, dtype=np.float32)[:, None, None]
    measured = summed(tables(shops, entries) + apart, cut).std() / math.sqrt(shops)
    assert measured == pytest.approx(math.sqrt(shops / (shops - 2 * cut)), rel=0.03)
    assert measured > noise_excess(shops, cut)


def round_sum(values, **changed):
    the_plan = Plan(
        **{
            "run": "r",
            "method": "popularity",
            "n_items": values.shape[1],
            "dp": "local",
            "noise_scale": 3.0,
            "delta": 1e-5,
            "shops": 10,
            "customers": 1000,
            "trim": 0.1,
            **changed,
        }
    )
    total = TableSum(the_plan, the_plan.releases[0], seeded_generator(0))
    problems = [total.add(Answer(True, release=table)) for table in values]
    answered = problems.count(None)
    return total.finish(answered), answered


def test_one_dishonest_shop_of_ten_ruins_the_plain_sum_and_not_the_trimmed_one():
    wanted = np.linspace(0, 60, 400, dtype=np.float32)[:, None]
    honest = wanted + 3 * tables(9, 400)
    poison = 1e6 * tables(1, 400, seed=1)
    together = np.concatenate([honest[:5], poison, honest[5:]])

    def agreement(**changed):
        return np.corrcoef(round_sum(together, **changed)[0].total.ravel(), wanted.ravel())[0, 1]

    assert agreement() > 0.99
    assert abs(agreement(trim=0.0)) < 0.2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_left_out_before_anything_is_cut(bad):
    together = np.concatenate([tables(9, 5), np.full((1, 5, 1), bad, dtype=np.float32)])
    noisy, answered = round_sum(together)
    assert answered == 9
    np.testing.assert_allclose(noisy.total, by_sorting(together[:9], 1), rtol=1e-5)


def test_the_method_is_told_the_noise_of_the_trimmed_sum():
    entries = 20_000
    values = 3.0 * tables(10, entries)
    trimmed, _ = round_sum(values)
    assert trimmed.total.std() == pytest.approx(trimmed.noise_deviation, rel=0.02)
    plain, _ = round_sum(values, trim=0.0)
    assert plain.noise_deviation == pytest.approx(3 * math.sqrt(10))
    assert trimmed.noise_deviation > 1.02 * plain.noise_deviation
    bare, _ = round_sum(values, dp="none", noise_scale=0.0)
    assert bare.noise_deviation == 0


def test_shops_are_cut_by_how_many_were_invited_and_not_by_how_many_answer():
    """Dishonest ones all answer: of 10 invited, one is cut at each end of 3, and 2 are too few."""
    values = tables(3, 6)
    np.testing.assert_allclose(round_sum(values)[0].total, by_sorting(values, 1), rtol=1e-5)
    with pytest.raises(RefusalError, match=r"2 shops, of which robust.trim cuts 1 at each end; it needs 3"):
        round_sum(values[:2])
