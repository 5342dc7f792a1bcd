"""Sums, products and solutions: right, and to the last bit the same in any company."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.dp.rowwise import Grid, root, row_sums, solve
from hansa.rng import seeded_generator


def drawn(*shape, seed=0):
    return torch.from_numpy(seeded_generator(seed, "rowwise").standard_normal(shape))


@given(rows=st.integers(0, 5), width=st.integers(0, 140), more=st.integers(0, 140))
def test_row_sums_are_those_of_the_rows_and_padding_changes_no_bit(rows, width, more):
    values = drawn(rows, width) * 10.0 ** (6 * drawn(rows, width, seed=1))
    found = row_sums(values.clone())
    assert found.shape == (rows,)
    for row, total in zip(values, found, strict=True):
        size = float(row.abs().sum())
        assert float(total) == pytest.approx(math.fsum(row.tolist()), abs=1e-15 * size + 1e-300)
    padded = torch.nn.functional.pad(values, (0, more, 0, 2))
    np.testing.assert_array_equal(row_sums(padded)[:rows].numpy(), found.numpy())


def test_row_sums_need_not_be_those_of_torch():
    """The control: torch's own depend on how far a row is padded."""
    values = drawn(64, 1000).float()
    assert (values.sum(dim=1) != torch.nn.functional.pad(values, (0, 500)).sum(dim=1)).any()


def test_roots_are_correctly_rounded():
    values = drawn(1001).square()
    assert root(values).tolist() == [math.sqrt(value) for value in values.tolist()]


@pytest.mark.parametrize(("items", "width"), [(1, 1), (300, 17), (5000, 3), (40, 300)])
def test_products_are_those_of_the_table_and_no_order_changes_a_bit(items, width):
    table, vectors = drawn(items, width).float() * 3, drawn(70, width, seed=1).float()
    table[:, 0] *= 1e-3  # a column of its own scale
    grid = Grid.of(table, width)
    found = grid.products(vectors)
    expected = vectors.double() @ table.double().T
    assert float((found - expected).abs().max()) <= 3e-6 * width**0.5 * (1 + float(expected.abs().max()))
    turned = torch.from_numpy(seeded_generator(2).permutation(width))
    shuffled = Grid(grid.numbers[:, turned], grid.unit[turned], grid.bits)
    assert torch.equal(shuffled.products(vectors[:, turned]), found)
    assert torch.equal(torch.cat([grid.products(row[None]) for row in vectors]), found)
    out = torch.zeros(70, items + 5)
    grid.products(vectors, out=out[:, :items])
    assert torch.equal(out[:, :items], found)
    assert not out[:, items:].any()
    owners, rows = torch.arange(70).repeat_interleave(items), torch.arange(items).repeat(70)
    assert torch.equal(grid.products_with(vectors, owners, rows).view(70, items), found)


def test_moments_are_exact_sums():
    grid = Grid.of(drawn(200, 6).float(), 150)
    rows = torch.from_numpy(seeded_generator(1).integers(0, 200, (40, 150)))
    kept = drawn(40, 150, seed=3) > 0
    kept[:, 100:] &= torch.arange(40)[:, None] % 3 == 0
    squares, sums = grid.moments(rows, kept)
    for customer in range(40):
        had = grid.numbers[rows[customer][kept[customer]]].to(torch.int64)
        exact = (had.T @ had).double() * (grid.unit[:, None] * grid.unit)
        assert torch.equal(squares[customer], exact)
        assert torch.equal(sums[customer], had.sum(dim=0).double() * grid.unit)


@pytest.mark.parametrize("terms", [1, 2, 500, 3000, 10**7])
def test_sums_of_as_many_products_as_were_asked_for_fit_into_a_float64(terms):
    grid = Grid.of(drawn(9, 2).float(), terms)
    assert terms * 2 ** (2 * grid.bits) <= 2**53
    assert grid.bits <= 24
    assert float(grid.numbers.abs().max()) == 2**grid.bits
    assert torch.equal(grid.numbers, grid.numbers.round())


def test_tables_without_numbers_of_size_are_harmless():
    for table in (torch.zeros(4, 3), torch.full((4, 3), 3e38), torch.full((4, 3), 1e-45)):
        assert not Grid.of(table, 3).products(torch.ones(2, 3)).isnan().any()


@pytest.mark.parametrize("size", [1, 2, 9, 40])
def test_solutions_solve(size):
    factors = drawn(30, size + 3, size)
    systems = (factors.mT @ factors + torch.eye(size)).float()
    right = drawn(30, size, seed=5).float()
    before = systems.clone(), right.clone()
    found = solve(systems, right)
    expected = torch.linalg.solve(systems.double(), right.double())
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=2e-4)
    assert torch.equal(systems, before[0])
    assert torch.equal(right, before[1])
    assert torch.equal(torch.cat([solve(systems[k : k + 1], right[k : k + 1]) for k in range(30)]), found)


def test_a_singular_system_is_no_error():
    assert solve(torch.zeros(2, 3, 3), torch.ones(2, 3)).shape == (2, 3)
