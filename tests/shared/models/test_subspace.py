"""The noisy power method against the full matrix, and what makes it suit large catalogues."""

import numpy as np
import pytest

from hansa.errors import UsageError
from hansa.models.cooccurrence import EMBEDDINGS, Cooccurrence
from hansa.models.popularity import COUNTS
from hansa.models.subspace import BASIS, Subspace
from hansa.plan import build_method
from hansa.recommended import LARGEST_MATRIX, recommended_settings, rounds_setting, variant
from hansa.rng import seeded_generator

ITEMS = 60


def test_it_spans_the_leading_directions_of_the_matrix(tastes, learn) -> None:
    rows = tastes(600)
    state = learn(Subspace(ITEMS, dimensions=6, iterations=4), rows)
    matrix = rows.matrix().toarray()
    gram = (matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)).T @ matrix
    top = np.linalg.eigh(gram)[1][:, -3:]
    np.testing.assert_allclose(state[BASIS].T @ state[BASIS], np.eye(6), atol=1e-5)
    assert np.linalg.svd(state[BASIS].T @ top)[1].min() > 0.98
    random = Subspace(ITEMS, dimensions=6).initial_state(seeded_generator(0))[BASIS]
    assert np.linalg.svd(random.T @ top)[1].min() < 0.6


def test_it_ranks_about_as_well_as_the_whole_matrix_with_and_without_noise(tastes, learn, accuracy) -> None:
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


def test_directions_that_noise_can_fake_are_dropped(tastes, learn) -> None:
    state = learn(Subspace(ITEMS, dimensions=8, threshold=1.2), tastes(800), noise=8.0)
    assert 0 < int(state[EMBEDDINGS].any(axis=0).sum()) < 8


def test_each_customer_uses_the_whole_bound_whatever_the_basis_knows(tastes) -> None:
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
