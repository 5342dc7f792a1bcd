from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hansa.dp.clipping as clipping
from hansa.dp.clipping import (
    ROUNDING_SLACK,
    DenseContributions,
    OuterContributions,
    RowContributions,
    clip,
    clipped_sum,
)
from hansa.rng import seeded_generator

ROWS, WIDTH = 9, 3
BOUNDS = st.floats(1e-3, 1e3)


def row_contributions(seed, customers, entries, size=1.0):
    """Random entries, many (customer, row) pairs twice or more, and customers without any."""
    draw = seeded_generator(seed, "rows")
    return RowContributions(
        customers,
        torch.from_numpy(draw.integers(0, max(1, customers - 1), entries)),
        torch.from_numpy(draw.integers(0, ROWS, entries)),
        torch.from_numpy(size * draw.standard_normal((entries, WIDTH))),
    )


def outer_contributions(seed, customers, extras, some_rows, size=1.0):
    """Random outer products, optionally on rows 1, 4, 6 only, with extra entries on other rows."""
    draw = seeded_generator(seed, "outer")
    rows = [1, 4, 6] if some_rows else list(range(ROWS))
    coefficients = size * draw.standard_normal((customers, len(rows)))
    if customers > 1:
        coefficients[1] = 0.0
    extra = None
    if extras:
        others = [row for row in range(ROWS) if row not in rows] or [0]
        pairs = [(c, r) for c in range(customers) for r in others if draw.random() < 0.4]
        if not some_rows:
            coefficients[:, 0] = 0.0
        extra = (
            torch.tensor([c for c, _ in pairs], dtype=torch.int64),
            torch.tensor([r for _, r in pairs], dtype=torch.int64),
            torch.from_numpy(size * draw.standard_normal(len(pairs))),
        )
    return OuterContributions(
        torch.from_numpy(coefficients),
        torch.from_numpy(draw.standard_normal((customers, WIDTH))),
        torch.tensor(rows) if some_rows else None,
        extra,
    )


def dense(contributions):
    """The same as float64 [customers, rows, width], entry by entry."""
    if isinstance(contributions, RowContributions):
        table = np.zeros((contributions.n_customers, ROWS, contributions.values.shape[1]))
        for c, r, v in zip(contributions.customers, contributions.rows, contributions.values, strict=True):
            table[c, r] += v.double().numpy()
        return table
    coefficients, factors = contributions.coefficients.double(), contributions.factors.double().numpy()
    table = np.zeros((*coefficients.shape[:1], ROWS, factors.shape[1]))
    rows = range(ROWS) if contributions.rows is None else contributions.rows.tolist()
    for c in range(len(coefficients)):
        for j, r in enumerate(rows):
            table[c, r] += float(coefficients[c, j]) * factors[c]
    if contributions.extra is not None:
        for c, r, v in zip(*contributions.extra, strict=True):
            table[c, r] += float(v) * factors[c]
    return table


def dense_clipped(table, bound):
    norms = np.sqrt((table**2).sum(axis=(1, 2)))
    scales = np.minimum(1.0, (1 - ROUNDING_SLACK) * bound / np.maximum(norms, 1e-300))
    return table * scales[:, None, None]


def norm(array):
    return float(np.linalg.norm(np.asarray(array, dtype=np.float64)))


def zeros(width=WIDTH):
    return torch.zeros(ROWS, width, dtype=torch.float64)


@given(seed=st.integers(0, 10**6), customers=st.integers(1, 6), entries=st.integers(0, 40), bound=BOUNDS)
def test_rows_equal_the_dense_computation(seed, customers, entries, bound):
    contributions = row_contributions(seed, customers, entries)
    table = dense(contributions)
    np.testing.assert_allclose(contributions.squared_norms(), (table**2).sum(axis=(1, 2)), rtol=1e-10)
    total = clipped_sum([contributions], bound, zeros())
    np.testing.assert_allclose(total, dense_clipped(table, bound).sum(axis=0), rtol=1e-10, atol=1e-10)


@given(
    seed=st.integers(0, 10**6),
    customers=st.integers(1, 6),
    extras=st.booleans(),
    some_rows=st.booleans(),
    bound=BOUNDS,
)
def test_outer_products_equal_the_dense_computation(seed, customers, extras, some_rows, bound):
    contributions = outer_contributions(seed, customers, extras, some_rows)
    table = dense(contributions)
    np.testing.assert_allclose(
        contributions.squared_norms(), (table**2).sum(axis=(1, 2)), rtol=1e-10, atol=1e-300
    )
    total = clipped_sum([contributions], bound, zeros())
    np.testing.assert_allclose(total, dense_clipped(table, bound).sum(axis=0), rtol=1e-10, atol=1e-10)


def test_the_dense_computation_tells_unmerged_repeats_from_merged_ones():
    both = torch.zeros(2, dtype=torch.int64)
    twice = RowContributions(1, both, both, torch.full((2, 1), 3.0, dtype=torch.float64))
    assert float(twice.squared_norms()) == 36.0  # unmerged it would be 18
    apart = RowContributions(1, both, torch.tensor([0, 1]), torch.full((2, 1), 3.0, dtype=torch.float64))
    assert float(apart.squared_norms()) == 18.0


def test_opposite_repeats_cancel():
    both = torch.zeros(2, dtype=torch.int64)
    contributions = RowContributions(1, both, both, torch.tensor([[1e6], [-1e6]]))
    assert float(contributions.squared_norms()) == 0.0
    assert norm(clipped_sum([contributions], 1.0, torch.zeros(ROWS, 1))) == 0.0


def test_equal_rows_of_different_customers_are_not_merged():
    """Keys of (customer, row) must not collide: customer 0 row 8 against customer 1 row 0, and so on."""
    pairs = [(c, r) for c in range(4) for r in range(ROWS)] * 2
    customers, rows = (torch.tensor(column) for column in zip(*pairs, strict=True))
    values = torch.arange(len(pairs), dtype=torch.float64)[:, None]
    contributions = RowContributions(4, customers, rows, values)
    table = dense(contributions)
    np.testing.assert_allclose(contributions.squared_norms(), (table**2).sum(axis=(1, 2)), rtol=1e-12)
    scale = torch.tensor([1.0, 10.0, 100.0, 1000.0], dtype=torch.float64)
    total = zeros(1)
    contributions.add_to(total, scale)
    np.testing.assert_allclose(total, (table * scale.numpy()[:, None, None]).sum(axis=0), rtol=1e-12)


@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["rows", "outer"]),
    size=st.sampled_from([1e-30, 1e-3, 1.0, 1e3, 1e30]),
    bound=st.sampled_from([1e-3, 1.0, 50.0]),
)
def test_removing_one_customer_moves_the_sum_by_at_most_the_bound(seed, kind, size, bound):
    everybody = (
        row_contributions(seed, 5, 30, size)
        if kind == "rows"
        else outer_contributions(seed, 5, True, True, size)
    )
    whole = clipped_sum([everybody], bound, zeros())
    for customer in range(5):
        rest = clipped_sum([without(everybody, customer)], bound, zeros())
        moved = norm(whole - rest)
        assert moved <= bound
        full = norm(dense(everybody)[customer])
        assert moved == pytest.approx(min(full, (1 - ROUNDING_SLACK) * bound), rel=1e-6, abs=1e-12)


def without(contributions, customer):
    if isinstance(contributions, RowContributions):
        keep = contributions.customers != customer
        return RowContributions(
            contributions.n_customers,
            contributions.customers[keep],
            contributions.rows[keep],
            contributions.values[keep],
        )
    coefficients = contributions.coefficients.clone()
    coefficients[customer] = 0.0
    extra = tuple(part[contributions.extra[0] != customer] for part in contributions.extra)
    return OuterContributions(coefficients, contributions.factors, contributions.rows, extra)


def test_the_removal_test_catches_clipping_of_the_whole_batch():
    """A control: one norm for the batch instead of one a customer lets a large one move the others."""
    everybody = row_contributions(0, 5, 30, 100.0)
    everybody = RowContributions(
        5, everybody.customers, everybody.rows, everybody.values * (1.0 + everybody.customers[:, None] ** 3)
    )

    def wrong(contributions):
        table = dense(contributions).sum(axis=0)
        return table / norm(table) * 3.0  # a batch of up to 5 customers with bound 1 may well be 3 long

    assert max(norm(wrong(everybody) - wrong(without(everybody, c))) for c in range(5)) > 1.0


@pytest.mark.parametrize("entries", [1, 500, 100_000])
@pytest.mark.parametrize("form", ["rows", "extra", "coefficients"])
def test_float32_rounding_never_lifts_a_long_contribution_above_the_bound(entries, form):
    ones = torch.full((entries, 1), 3.0 / entries**0.5)
    nobody, places = torch.zeros(entries, dtype=torch.int64), torch.arange(entries)
    contributions = {
        "rows": RowContributions(1, nobody, places, ones),
        "extra": OuterContributions(
            torch.zeros(1, 1), torch.ones(1, 1), torch.tensor([entries]), (nobody, places, ones[:, 0])
        ),
        "coefficients": OuterContributions(ones.T, torch.ones(1, 1)),
    }[form]
    total = clipped_sum([contributions], 1.0, torch.zeros(entries + (form == "extra"), 1))
    assert 1 - 3 * ROUNDING_SLACK < norm(total) <= 1.0


def test_coefficients_whose_squares_vanish_in_float32_stay_below_the_bound():
    """exp(-51) as in a saturated softmax: its square is zero in float32, 200,000 of them are not."""
    coefficients = torch.full((1, 200_000), 2.6e-23)
    coefficients[0, 0] = 5.5e-20
    contributions = OuterContributions(coefficients, torch.ones(1, 4)).normalised()
    assert norm(clipped_sum([contributions], 1.0, torch.zeros(200_000, 4))) <= 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["coefficients", "factors", "extra", "values"])
def test_what_is_not_finite_counts_as_zero_and_spoils_nothing(bad, where):
    everybody = row_contributions(1, 5, 30) if where == "values" else outer_contributions(1, 5, True, True)
    victim = int(everybody.customers[0]) if where == "values" else int(everybody.extra[0][0])
    expected = clipped_sum([without(everybody, victim)], 1.0, zeros())
    if where == "values":
        everybody.values[0, 1] = bad
    elif where == "extra":
        everybody.extra[2][0] = bad
    else:
        getattr(everybody, where)[victim, 1] = bad
    total = clipped_sum([everybody], 1.0, zeros())
    np.testing.assert_allclose(total, expected, atol=1e-12)
    assert norm(expected) > 0.1


def test_huge_but_finite_contributions_are_clipped_like_any_other():
    contributions = RowContributions(
        1, torch.zeros(1, dtype=torch.int64), torch.tensor([2]), torch.tensor([[3e38]])
    )
    assert norm(clipped_sum([contributions], 1.0, torch.zeros(ROWS, 1))) == pytest.approx(1.0, rel=1e-4)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 30), max_size=3))
def test_chunks_and_what_is_there_already_add_up(seed, cuts):
    contributions = row_contributions(seed, 30, 60)
    edges = [0, *sorted(cuts), 30]
    parts = []
    for low, high in pairwise(edges):
        mine = (contributions.customers >= low) & (contributions.customers < high)
        parts.append(
            RowContributions(
                high - low,
                contributions.customers[mine] - low,
                contributions.rows[mine],
                contributions.values[mine],
            )
        )
    whole = clipped_sum([contributions], 0.7, torch.ones(ROWS, WIDTH, dtype=torch.float64))
    pieces = clipped_sum(parts, 0.7, torch.ones(ROWS, WIDTH, dtype=torch.float64))
    np.testing.assert_allclose(whole, pieces, atol=1e-12)


def test_nobody_contributes_nothing():
    nobody = RowContributions(0, *(torch.zeros(0, dtype=torch.int64),) * 2, torch.zeros(0, WIDTH))
    assert norm(clipped_sum([nobody], 1.0, torch.zeros(ROWS, WIDTH))) == 0.0
    nobody = OuterContributions(torch.zeros(0, ROWS), torch.zeros(0, WIDTH))
    assert norm(clipped_sum([nobody, nobody.normalised()], 1.0, torch.zeros(ROWS, WIDTH))) == 0.0


@given(seed=st.integers(0, 10**6), extras=st.booleans(), size=st.sampled_from([1e-9, 1.0, 1e9]))
def test_normalised_keeps_directions_at_norm_one(seed, extras, size):
    contributions = outer_contributions(seed, 4, extras, True, size)
    before, after = dense(contributions), dense(contributions.normalised())
    for old, new in zip(before, after, strict=True):
        length = norm(old)
        np.testing.assert_allclose(new, old / length if length > 0 else 0 * old, rtol=1e-9, atol=1e-15)


def grouped(contributions, scale, width=WIDTH):
    """Every customer's own entries by ``groups``: float64 [customers, rows, width]; no place twice."""
    tables = []
    for group in contributions.groups(scale):
        table = np.zeros((len(group.block), ROWS, width))
        rows = np.arange(group.block.shape[1]) if group.rows is None else group.rows.numpy()
        assert len(np.unique(rows)) == len(rows)
        table[:, rows] = group.block.double().numpy()
        owners, spots = group.owners.numpy(), group.spots.numpy()
        assert len({*zip(owners.tolist(), spots.tolist(), strict=True)}) == len(owners)
        for owner, spot, value in zip(owners, spots, group.values.double().numpy(), strict=True):
            assert not table[owner, spot].any()
            table[owner, spot] = value
        tables.append(table)
    return np.concatenate(tables) if tables else np.zeros((0, ROWS, width))


def forms(seed, customers):
    draw = seeded_generator(seed, "dense")
    yield row_contributions(seed, customers, 40)
    for extras in (False, True):
        for some_rows in (False, True):
            yield outer_contributions(seed, customers, extras, some_rows)
    yield DenseContributions(torch.from_numpy(draw.standard_normal((customers, ROWS, WIDTH))))


@pytest.mark.parametrize("cache", [1, 40, 1 << 18])
@given(seed=st.integers(0, 10**6), customers=st.integers(1, 7), bound=BOUNDS)
@settings(max_examples=25)
def test_groups_are_every_customer_s_part_of_the_sum(cache, seed, customers, bound):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clipping, "_IN_CACHE", cache)
        for contributions in forms(seed, customers):
            (kept,), scale = clip([contributions], bound)
            found = grouped(kept, scale)
            assert len(found) == customers
            total = clipped_sum([contributions], bound, zeros())
            np.testing.assert_allclose(found.sum(axis=0), total, rtol=1e-5, atol=1e-5 * bound)
            for customer, table in enumerate(found):
                alone = zeros()
                kept.add_to(alone, torch.eye(customers, dtype=torch.float64)[customer] * scale)
                np.testing.assert_allclose(table, alone, rtol=1e-5, atol=1e-6 * bound)
                assert norm(table) <= bound


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_groups_have_nothing_of_customers_that_are_not_finite(bad):
    for contributions in forms(1, 5):
        if isinstance(contributions, RowContributions):
            victim = int(contributions.customers[0])
            contributions.values[0, 1] = bad
        elif isinstance(contributions, OuterContributions):
            victim = 2
            contributions.factors[victim, 1] = bad
        else:
            victim = 2
            contributions.values[victim, 4, 1] = bad
        (kept,), scale = clip([contributions], 1.0)
        found = grouped(kept, scale)
        assert np.isfinite(found).all()
        assert not found[victim].any()
        assert np.abs(np.delete(found, victim, axis=0)).max() > 0.1


def test_groups_of_nobody():
    nobody = RowContributions(0, *(torch.zeros(0, dtype=torch.int64),) * 2, torch.zeros(0, WIDTH))
    for empty in (nobody, OuterContributions(torch.zeros(0, ROWS), torch.zeros(0, WIDTH))):
        assert not len(grouped(empty, torch.zeros(0, dtype=torch.float64)))
