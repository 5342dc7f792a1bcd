"""The noisy power method against the full matrix, and what makes it suit large catalogues."""

import numpy as np
import pytest
import torch

from hansa.dp.clipping import clipped_sum
from hansa.errors import UsageError
from hansa.metrics import evaluate
from hansa.models.base import NoisySum
from hansa.models.cooccurrence import EMBEDDINGS, Cooccurrence
from hansa.models.popularity import COUNTS
from hansa.models.subspace import BASIS, Subspace
from hansa.plan import LARGEST_MATRIX, build_method, recommended_settings, rounds_setting, variant
from hansa.rng import seeded_generator
from hansa.schema import Histories

ITEMS = 60


def tastes(customers: int, seed: int = 0) -> Histories:
    """Three groups of items; a customer buys mostly from one."""
    rng = seeded_generator(seed, "tastes")
    group = rng.integers(0, 3, (customers, 1))
    likes = np.where(np.arange(ITEMS)[None] % 3 == group, 0.4, 0.03)
    return Histories.from_pairs(*np.nonzero(rng.random((customers, ITEMS)) < likes), customers, ITEMS)


def learn(method, rows: Histories, noise: float = 0.0) -> dict[str, np.ndarray]:
    state = method.initial_state(seeded_generator(0))
    for round_, release in enumerate(method.releases(), start=1):
        total = np.zeros((release.rows, release.width), dtype=np.float32)
        clipped_sum([method.contribution(round_, release, state, rows)], 1.0, torch.from_numpy(total))
        total += (noise * seeded_generator(round_, "noise").standard_normal(total.shape)).astype(np.float32)
        state = method.update(round_, release, state, NoisySum(total, noise, len(rows)), {})
    return state


def accuracy(method, state, rows: Histories) -> float:
    kept = rows.where(np.arange(len(rows.items)) % 2 == 0)
    held = rows.where(np.arange(len(rows.items)) % 2 == 1)
    return float(np.nanmean(evaluate(lambda some: method.score(state, some), kept, held)["ndcg@10"]))


def test_it_spans_the_leading_directions_of_the_matrix() -> None:
    rows = tastes(600)
    state = learn(Subspace(ITEMS, dimensions=6, iterations=4), rows)
    matrix = rows.matrix().toarray()
    gram = (matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)).T @ matrix
    top = np.linalg.eigh(gram)[1][:, -3:]
    np.testing.assert_allclose(state[BASIS].T @ state[BASIS], np.eye(6), atol=1e-5)
    assert np.linalg.svd(state[BASIS].T @ top)[1].min() > 0.98
    random = Subspace(ITEMS, dimensions=6).initial_state(seeded_generator(0))[BASIS]
    assert np.linalg.svd(random.T @ top)[1].min() < 0.6


def test_it_ranks_about_as_well_as_the_whole_matrix_with_and_without_noise() -> None:
    rows = tastes(2000)
    for noise in (0.0, 4.0):
        ours, whole = (
            Subspace(ITEMS, dimensions=8, regularisation=20.0),
            Cooccurrence(ITEMS, regularisation=20.0),
        )
        mine = accuracy(ours, learn(ours, rows, noise), rows)
        theirs = accuracy(whole, learn(whole, rows, noise), rows)
        popular = accuracy(ours, {**learn(ours, rows), EMBEDDINGS: np.zeros((ITEMS, 8), np.float32)}, rows)
        assert mine > 0.9 * theirs > 1.1 * popular


def test_directions_that_noise_can_fake_are_dropped() -> None:
    state = learn(Subspace(ITEMS, dimensions=8, threshold=1.2), tastes(800), noise=8.0)
    assert 0 < int(state[EMBEDDINGS].any(axis=0).sum()) < 8


def test_each_customer_uses_the_whole_bound_whatever_the_basis_knows() -> None:
    method, rows = Subspace(ITEMS, dimensions=2), tastes(5)
    state = {**method.initial_state(seeded_generator(3)), COUNTS: np.ones((ITEMS, 1), np.float32)}
    squares = method.contribution(2, method.releases()[1], state, rows).squared_norms()
    np.testing.assert_allclose(squares[rows.lengths > 0], 1.0, rtol=1e-6)


def test_a_release_and_the_state_grow_with_items_times_dimensions() -> None:
    method = Subspace(1_000_000, dimensions=16)
    assert all(release.rows * release.width <= 16_000_000 for release in method.releases())
    assert sum(rows * width for rows, width in method.state_shapes().values()) <= 33_000_001


def test_later_rounds_get_more_of_the_budget_and_all_together_the_whole() -> None:
    multipliers = [release.noise_multiplier for release in Subspace(50, growth=2.0).releases()]
    assert sum(value**-2 for value in multipliers) == pytest.approx(1)
    assert multipliers[1] > multipliers[2] > multipliers[3]


@pytest.mark.parametrize("wrong", [{"dimensions": 0}, {"vocabulary": -1}, {"growth": 0.0}, {"cap": 0}])
def test_impossible_settings_are_refused(wrong) -> None:
    with pytest.raises(UsageError, match="method settings of subspace"):
        build_method("subspace", 50, wrong)


def test_it_takes_the_place_of_a_matrix_that_would_be_too_large() -> None:
    assert variant("cooccurrence", {}, 50_000, 4.0, 20_000) == ("cooccurrence", None)  # a small vocabulary
    assert variant("cooccurrence", {}, LARGEST_MATRIX, None, 20_000) == ("cooccurrence", None)
    assert variant("cooccurrence", {"vocabulary": 500}, 50_000, None, 20_000) == ("cooccurrence", None)
    assert variant("dpsgd", {}, 50_000, None, 20_000) == ("dpsgd", None)
    for epsilon, customers in ((None, 20_000), (4.0, 10_000_000)):
        name, why = variant("cooccurrence", {}, 50_000, epsilon, customers)
        assert name == "subspace"
        assert "method.vocabulary" in why
        assert (
            build_method(name, 50_000, recommended_settings(name, epsilon, customers)).size > LARGEST_MATRIX
        )


def test_rounds_are_counts_and_blocks() -> None:
    method = build_method("subspace", 50, rounds_setting("subspace", 5))
    assert [release.name for release in method.releases()] == ["counts"] + ["block"] * 4
    with pytest.raises(UsageError, match="at least 2"):
        rounds_setting("subspace", 1)
