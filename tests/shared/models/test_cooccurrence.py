"""The one-shot method against EASE and against its promises."""

import numpy as np
import pytest
import torch

from hansa.dp.clipping import clipped_sum
from hansa.metrics import evaluate
from hansa.models.base import NoisySum
from hansa.models.cooccurrence import EMBEDDINGS, PAIRS, Cooccurrence, output_table
from hansa.models.ease import PrimalEase
from hansa.plan import recommended_settings
from hansa.rng import seeded_generator
from hansa.schema import Histories

ITEMS = 24


def tastes(customers: int, seed: int = 0) -> Histories:
    """Three groups of items; a customer buys mostly from one."""
    rng = seeded_generator(seed, "tastes")
    group = rng.integers(0, 3, (customers, 1))
    likes = np.where(np.arange(ITEMS)[None] % 3 == group, 0.5, 0.04)
    return Histories.from_pairs(*np.nonzero(rng.random((customers, ITEMS)) < likes), customers, ITEMS)


def learn(method: Cooccurrence, rows: Histories, noise: float = 0.0) -> dict[str, np.ndarray]:
    state = method.initial_state(seeded_generator(0))
    for round_, release in enumerate(method.releases(), start=1):
        total = np.zeros((release.rows, release.width), dtype=np.float32)
        clipped_sum([method.contribution(round_, release, state, rows)], 1.0, torch.from_numpy(total))
        total += (noise * seeded_generator(round_, "noise").standard_normal(total.shape)).astype(np.float32)
        state = method.update(round_, release, state, NoisySum(total, noise, len(rows)), {})
    return state


def test_without_noise_it_ranks_as_ease_on_the_normalised_matrix() -> None:
    rows = tastes(300)
    method = Cooccurrence(ITEMS, vocabulary=ITEMS, regularisation=5.0, popularity_weight=0.0)
    scores = method.score(learn(method, rows), rows)
    matrix = rows.matrix().toarray()
    gram = (matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)).T @ matrix
    expected = PrimalEase.from_gram(gram.astype(np.float32), 5.0).score(rows)
    unseen = matrix == 0  # a customer's own items are never ranked
    for mine, theirs, free in zip(scores, expected, unseen, strict=True):
        if (~free).any():
            assert np.corrcoef(mine[free], theirs[free])[0, 1] > 0.999


def test_the_threshold_drops_directions_that_noise_can_fake() -> None:
    rows, kept = tastes(400), {}
    for threshold in (0.0, 0.8):
        method = Cooccurrence(ITEMS, vocabulary=ITEMS, threshold=threshold, regularisation=5.0)
        state = learn(method, rows, noise=6.0)
        kept[threshold] = int((state[EMBEDDINGS] != 0).any(axis=0).sum())
    assert 0 < kept[0.8] < kept[0.0]


def test_items_outside_the_vocabulary_have_no_score() -> None:
    method = Cooccurrence(ITEMS, vocabulary=10)
    rows = tastes(200)
    scores = method.score(learn(method, rows), rows)
    counts = np.bincount(rows.items, minlength=ITEMS)
    assert np.isnan(scores).sum() == (ITEMS - 10) * len(rows)
    assert counts[~np.isnan(scores[0])].min() >= np.sort(counts)[ITEMS - 12]


def test_it_finds_the_tastes_through_noise() -> None:
    rows = tastes(2000)
    method = Cooccurrence(ITEMS, vocabulary=ITEMS, regularisation=20.0)
    state = learn(method, rows, noise=4.0)
    kept = rows.where(np.arange(len(rows.items)) % 2 == 0)
    held = rows.where(np.arange(len(rows.items)) % 2 == 1)
    model = np.nanmean(evaluate(lambda some: method.score(state, some), kept, held)["ndcg@10"])
    counts = np.bincount(rows.items, minlength=ITEMS).astype(np.float32)
    popular = evaluate(lambda some: np.repeat(counts[None], len(some), 0), kept, held)["ndcg@10"]
    assert model > 1.1 * np.nanmean(popular)


def test_the_vocabulary_grows_with_the_budget_and_the_release_with_the_vocabulary() -> None:
    sizes = [recommended_settings("cooccurrence", epsilon, 2400)["vocabulary"] for epsilon in (1, 4, 16)]
    assert sizes == sorted(sizes)
    assert sizes[1] == pytest.approx(2 * sizes[0], abs=2)
    pairs = Cooccurrence(3000, vocabulary=sizes[0]).releases()[1]
    assert (pairs.name, pairs.rows) == (PAIRS, sizes[0] * (sizes[0] + 1) // 2)


def test_public_state_grows_with_the_vocabulary_and_not_with_catalogue_times_rank() -> None:
    shapes = Cooccurrence(1_000_000, vocabulary=300).state_shapes()
    assert sum(rows * width for rows, width in shapes.values()) < 1_000_000 + 300 * 300 + 2


def test_the_leading_dimension_counts_as_much_as_it_is_told():
    table = np.array([[0.6, 0.3], [0.5, -0.4]], dtype=np.float32)
    full, half = output_table(table), output_table(table, 0.5)
    np.testing.assert_allclose(full[0], table[0] / (1 - 0.45), rtol=1e-6)
    np.testing.assert_array_equal(half[:, 0], full[:, 0] / 2)
    np.testing.assert_array_equal(half[:, 1], full[:, 1])
