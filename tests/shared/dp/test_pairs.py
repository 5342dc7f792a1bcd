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


def packed(rows: Histories, bound: float = 1.0, recency: float = 0.0) -> np.ndarray:
    total = torch.zeros(packed_rows(ITEMS), 1, dtype=torch.float64)
    return clipped_sum([PairContributions(rows, recency)], bound, total.float()).numpy()


def dense(rows: Histories, recency: float) -> np.ndarray:
    total = np.zeros((ITEMS, ITEMS))
    for row in rows.matrix(recency).toarray().astype(np.float64):
        pairs = np.outer(row, row) * (1 - np.eye(ITEMS))
        total += pairs / (np.linalg.norm(pairs) or 1.0)
    return total


@pytest.mark.parametrize("recency", [0.0, 0.25, 2.0])
def test_the_sum_is_the_dense_one(recency: float) -> None:
    rows = histories(40)
    np.testing.assert_allclose(
        unpack(packed(rows, recency=recency), ITEMS), dense(rows, recency), rtol=3e-5, atol=1e-6
    )


@pytest.mark.parametrize("recency", [0.0, 0.25, 2.0])
def test_every_customer_with_a_pair_moves_the_sum_by_the_whole_bound(recency: float) -> None:
    rows = histories(25)
    everybody = packed(rows, recency=recency).astype(np.float64)
    for customer in range(25):
        others = packed(rows.select(np.delete(np.arange(25), customer)), recency=recency).astype(np.float64)
        moved = np.linalg.norm(everybody - others)
        expected = 1.0 if len(rows.row(customer)) > 1 else 0.0
        assert moved == pytest.approx(expected, abs=1e-4)
        assert moved <= 1.0 + 1e-6


def test_a_smaller_bound_scales_the_sum() -> None:
    rows = histories(10)
    np.testing.assert_allclose(packed(rows, 0.25), 0.25 * packed(rows), rtol=1e-4, atol=1e-7)


def test_noise_of_the_triangle_is_smaller_in_the_matrix() -> None:
    noise = seeded_generator(3).standard_normal((packed_rows(400), 1)).astype(np.float32)
    matrix = unpack(noise, 400)
    assert (matrix == matrix.T).all()
    assert not np.diag(matrix).any()
    assert matrix[np.triu_indices(400, 1)].std() == pytest.approx(0.5**0.5, rel=0.02)
