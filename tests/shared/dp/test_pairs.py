"""Packed co-occurrence against dense matrices."""

import numpy as np
import pytest
import torch

import hansa.dp.pairs as pairs
from hansa.dp.clipping import clip, clipped_sum
from hansa.dp.pairs import PairContributions, packed_rows, unpack
from hansa.rng import seeded_generator
from hansa.schema import Histories

ITEMS = 9


def histories(customers: int, seed: int = 0) -> Histories:
    rng = seeded_generator(seed, "pairs")
    had = rng.random((customers, ITEMS)) < rng.random((customers, 1))
    had[0] = False
    users, items = np.nonzero(had)
    order = rng.permutation(len(users))
    return Histories.from_pairs(users[order], items[order], customers, ITEMS)


POWERS = [(0.0, 0.0), (0.25, 0.5), (2.0, 0.0), (0.0, 1.0)]


def packed(rows: Histories, bound: float = 1.0, powers: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    total = torch.zeros(packed_rows(ITEMS), 1, dtype=torch.float64)
    return clipped_sum([PairContributions(rows, *powers)], bound, total.float()).numpy()


def matrices(rows: Histories, recency: float, nearness: float) -> list[np.ndarray]:
    """Each customer's matrix, entry by entry."""
    found = []
    for customer in range(len(rows)):
        row, matrix = rows.row(customer), np.zeros((ITEMS, ITEMS))
        for a, first in enumerate(row[::-1]):
            for b, second in enumerate(row[::-1]):
                if a != b:
                    matrix[first, second] = ((1 + a) * (1 + b)) ** -recency * abs(a - b) ** -nearness
        found.append(matrix / (np.linalg.norm(matrix) or 1.0))
    return found


@pytest.mark.parametrize("powers", POWERS)
def test_the_sum_is_the_dense_one(powers: tuple[float, float]) -> None:
    rows = histories(40)
    np.testing.assert_allclose(
        unpack(packed(rows, powers=powers), ITEMS), sum(matrices(rows, *powers)), rtol=3e-5, atol=1e-6
    )


@pytest.mark.parametrize("powers", POWERS)
def test_every_customer_with_a_pair_moves_the_sum_by_the_whole_bound(powers: tuple[float, float]) -> None:
    rows = histories(25)
    everybody = packed(rows, powers=powers).astype(np.float64)
    for customer in range(25):
        others = packed(rows.select(np.delete(np.arange(25), customer)), powers=powers).astype(np.float64)
        moved = np.linalg.norm(everybody - others)
        expected = 1.0 if len(rows.row(customer)) > 1 else 0.0
        assert moved == pytest.approx(expected, abs=1e-4)
        assert moved <= 1.0 + 1e-6


@pytest.mark.parametrize("powers", POWERS)
def test_each_customer_s_own_matrix_times_a_vector(powers: tuple[float, float]) -> None:
    rows = histories(20)
    vectors = seeded_generator(4).standard_normal((20, ITEMS)).astype(np.float32)
    expected = [matrix @ vector for matrix, vector in zip(matrices(rows, *powers), vectors, strict=True)]
    np.testing.assert_allclose(PairContributions(rows, *powers).times(vectors), expected, atol=1e-5)


def test_a_smaller_bound_scales_the_sum() -> None:
    rows = histories(10)
    np.testing.assert_allclose(packed(rows, 0.25), 0.25 * packed(rows), rtol=1e-4, atol=1e-7)


def test_noise_of_the_triangle_is_smaller_in_the_matrix() -> None:
    noise = seeded_generator(3).standard_normal((packed_rows(400), 1)).astype(np.float32)
    matrix = unpack(noise, 400)
    assert (matrix == matrix.T).all()
    assert not np.diag(matrix).any()
    assert matrix[np.triu_indices(400, 1)].std() == pytest.approx(0.5**0.5, rel=0.02)


def test_a_customer_with_a_repeated_item_counts_as_nothing() -> None:
    good = [1, 4, 2]
    offsets = np.array([0, 3, 7, 9], dtype=np.int64)
    rows = Histories(offsets, np.array([*good, 0, 1, 0, 1, 5, 5], dtype=np.int32), ITEMS)
    alone = Histories(np.array([0, 3]), np.array(good, dtype=np.int32), ITEMS)
    np.testing.assert_array_equal(packed(rows), packed(alone))


@pytest.mark.parametrize("at_a_time", [1, 30, 1 << 16])
@pytest.mark.parametrize("powers", POWERS)
def test_groups_are_every_customer_s_pairs(
    powers: tuple[float, float], at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "_PAIRS", at_a_time)
    rows = histories(20)
    (kept,), scale = clip([PairContributions(rows, *powers)], 0.5)
    total, squares = np.zeros((packed_rows(ITEMS), 1)), []
    for group in kept.groups(scale):
        places = list(zip(group.owners.tolist(), group.spots.tolist(), strict=True))
        assert len(set(places)) == len(places)
        assert not group.block.numel()
        np.add.at(total, group.spots.numpy(), group.values.numpy())
        squares.append(
            np.bincount(group.owners.numpy(), group.values.numpy()[:, 0] ** 2, minlength=len(group.block))
        )
    np.testing.assert_allclose(total, packed(rows, 0.5, powers), rtol=1e-5, atol=1e-6)
    # Customers without a pair at the edges of a group may be missing from it.
    norms = np.sqrt(np.concatenate(squares))
    assert (norms > 0).sum() == (rows.lengths > 1).sum()
    np.testing.assert_allclose(norms[norms > 0], 0.5, rtol=1e-4)
    assert norms.max() <= 0.5


def test_groups_have_nothing_of_a_customer_with_a_repeated_item() -> None:
    rows = Histories(np.array([0, 3, 5]), np.array([1, 4, 2, 5, 5], dtype=np.int32), ITEMS)
    (kept,), scale = clip([PairContributions(rows)], 1.0)
    assert sum(len(group.values) for group in kept.groups(scale)) == 3
