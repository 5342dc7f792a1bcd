"""Packed co-occurrence against dense matrices."""

import numpy as np
import pytest
import torch

from hansa.dp.clipping import clipped_sum
from hansa.dp.pairs import PairContributions, packed_rows, unpack
from hansa.rng import seeded_generator
from hansa.schema import Histories

ITEMS = 9


def histories(customers: int, seed: int = 0) -> Histories:
    rng = seeded_generator(seed, "pairs")
    had = rng.random((customers, ITEMS)) < rng.random((customers, 1))
    had[0] = False
    return Histories.from_pairs(*np.nonzero(had), customers, ITEMS)


def packed(rows: Histories, bound: float = 1.0) -> np.ndarray:
    total = torch.zeros(packed_rows(ITEMS), 1, dtype=torch.float64)
    return clipped_sum([PairContributions(rows)], bound, total.float()).numpy()


def dense(rows: Histories) -> np.ndarray:
    matrix = rows.matrix().toarray().astype(np.float64)
    return sum(np.outer(row, row) / max(row.sum(), 1) for row in matrix)


def test_the_sum_is_the_dense_one() -> None:
    rows = histories(40)
    np.testing.assert_allclose(unpack(packed(rows), ITEMS), dense(rows), rtol=3e-5, atol=1e-6)


def test_every_customer_with_items_moves_the_sum_by_the_whole_bound() -> None:
    rows = histories(25)
    everybody = packed(rows).astype(np.float64)
    for customer in range(25):
        others = packed(rows.select(np.delete(np.arange(25), customer))).astype(np.float64)
        moved = np.linalg.norm(everybody - others)
        expected = 1.0 if len(rows.row(customer)) else 0.0
        assert moved == pytest.approx(expected, abs=1e-4)
        assert moved <= 1.0 + 1e-6


def test_a_smaller_bound_scales_the_sum() -> None:
    rows = histories(10)
    np.testing.assert_allclose(packed(rows, 0.25), 0.25 * packed(rows), rtol=1e-4, atol=1e-7)


def test_noise_in_the_triangle_is_smaller_off_the_diagonal() -> None:
    noise = seeded_generator(3).standard_normal((packed_rows(400), 1)).astype(np.float32)
    matrix = unpack(noise, 400)
    assert (matrix == matrix.T).all()
    assert np.diag(matrix).std() == pytest.approx(1.0, rel=0.15)
    assert matrix[np.triu_indices(400, 1)].std() == pytest.approx(0.5**0.5, rel=0.02)
