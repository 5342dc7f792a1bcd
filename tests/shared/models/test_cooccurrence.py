"""The one-shot method against EASE and against its promises."""

import numpy as np
import pytest
import torch

from hansa.dp.clipping import clipped_sum
from hansa.dp.pairs import unpack
from hansa.metrics import evaluate
from hansa.models.base import NoisySum
from hansa.models.cooccurrence import EMBEDDINGS, PAIRS, Cooccurrence
from hansa.models.ease import PrimalEase
from hansa.models.hybrid import Hybrid
from hansa.recommended import recommended_settings
from hansa.rng import seeded_generator
from hansa.schema import Histories, stack

ITEMS = 24


def test_without_noise_it_ranks_as_ease_on_the_positive_part_of_the_normalised_pairs(tastes, learn) -> None:
    rows = tastes(300, items=ITEMS, liked=0.5, other=0.04)
    method = Cooccurrence(
        ITEMS, vocabulary=ITEMS, regularisation=5.0, popularity_weight=0.0, recency=0.0, nearness=0.0
    )
    scores = method.score(learn(method, rows), rows)
    matrix = rows.matrix().toarray()
    lengths = matrix.sum(axis=1)
    pairs = np.maximum(lengths * (lengths - 1), 1)
    gram = (matrix / pairs[:, None] ** 0.5).T @ matrix
    np.fill_diagonal(gram, 0)
    values, vectors = np.linalg.eigh(gram)
    positive = (vectors * np.maximum(values, 0)) @ vectors.T
    expected = PrimalEase.from_gram(positive.astype(np.float32), 5.0).score(rows)
    unseen = matrix == 0  # a customer's own items are never ranked
    for mine, theirs, free in zip(scores, expected, unseen, strict=True):
        if (~free).any():
            assert np.corrcoef(mine[free], theirs[free])[0, 1] > 0.999


def test_the_threshold_drops_directions_that_noise_can_fake(tastes, learn) -> None:
    rows, kept = tastes(400, items=ITEMS, liked=0.5, other=0.04), {}
    for threshold in (0.0, 0.8):
        method = Cooccurrence(ITEMS, vocabulary=ITEMS, threshold=threshold, regularisation=5.0)
        state = learn(method, rows, noise=6.0)
        kept[threshold] = int((state[EMBEDDINGS] != 0).any(axis=0).sum())
    assert 0 < kept[0.8] < kept[0.0]


def test_items_outside_the_vocabulary_are_scored_by_their_counts_alone(tastes, learn) -> None:
    method = Cooccurrence(ITEMS, vocabulary=10, popularity_weight=0.5)
    rows = tastes(200, items=ITEMS, liked=0.5, other=0.04)
    state = learn(method, rows)
    scores = method.score(state, rows)
    counts = state["counts"][:, 0]
    outside = np.setdiff1d(np.arange(ITEMS), method.chosen(state))
    assert counts[outside].max() <= np.delete(counts, outside).min()
    order = outside[np.argsort(-counts[outside])]
    assert (np.diff(scores[:, order], axis=1) < 0).all()


def test_older_items_fade_in_the_query_and_by_half_the_power_in_pairs(learn) -> None:
    rows = Histories.from_pairs([0, 0, 0], [3, 1, 2], 1, 4)  # 2 is the newest
    method = Cooccurrence(4, vocabulary=4, recency=1.0)
    release = method.releases()[1]
    state = learn(method, rows)
    total = np.zeros((release.rows, 1), dtype=np.float32)
    clipped_sum([method.contribution(2, release, state, rows)], 1.0, torch.from_numpy(total))
    weights, place = np.array([0, 2**-0.5, 1, 3**-0.5]), np.array([9, 1, 0, 2])
    apart = np.abs(np.subtract.outer(place, place)) + np.eye(4)
    expected = np.outer(weights, weights) * apart**-0.5 * (1 - np.eye(4))
    np.testing.assert_allclose(unpack(total, 4), expected / np.linalg.norm(expected), rtol=1e-4)
    faded = method.personal(state, rows.matrix(1.0))
    assert not np.allclose(faded, method.personal(state, rows.matrix()))


def test_what_a_customer_added_can_be_taken_out_again(tastes, learn) -> None:
    """The held-back item's score with it in the model, without it to first order, and really without."""
    rows = tastes(2000, items=ITEMS, liked=0.5, other=0.04)
    kept, held = rows.where(rows.ages > 0), rows.where(rows.ages == 0)
    method = Cooccurrence(ITEMS, vocabulary=ITEMS, regularisation=100.0)
    state, errors, leaks = learn(method, rows), [], []
    remembered = method.remembered(state, kept, rows)
    remembering = method.personal(state, kept.matrix(method.recency))
    for customer in range(0, 2000, 150):
        others, item = np.arange(2000) != customer, held.row(customer)
        alone = kept.select(~others)
        without = learn(method, stack([rows.select(others), alone]))
        exact = method.personal(without, alone.matrix(method.recency))[0, item]
        leaks += list(remembering[customer, item] - exact)
        errors += list(remembering[customer, item] - remembered[customer, item] - exact)
    assert np.mean(leaks) > 0
    assert np.abs(errors).mean() < 0.2 * np.abs(leaks).mean()


def test_it_finds_the_tastes_through_noise(tastes, learn) -> None:
    rows = tastes(2000, items=ITEMS, liked=0.5, other=0.04)
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
    assert (pairs.name, pairs.rows) == (PAIRS, sizes[0] * (sizes[0] - 1) // 2)


def test_public_state_grows_with_the_vocabulary_and_not_with_catalogue_times_rank() -> None:
    shapes = Cooccurrence(1_000_000, vocabulary=300).state_shapes()
    assert sum(rows * width for rows, width in shapes.values()) < 1_000_000 + 300 * 300 + 2


def test_noise_alone_ends_at_the_radius_that_the_threshold_counts_in() -> None:
    items = 400
    noise = 3.0
    for threshold, some in ((0.8, True), (1.1, False)):
        method = Cooccurrence(items, vocabulary=items, threshold=threshold)
        release = method.releases()[1]
        total = noise * seeded_generator(1).standard_normal((release.rows, 1)).astype(np.float32)
        state = method.initial_state(seeded_generator(0))
        state = method.update(2, release, state, NoisySum(total, noise, 1), {})
        assert state[EMBEDDINGS].any() == some


def test_a_model_is_judged_without_what_it_remembers(tastes, learn) -> None:
    rows = tastes(100, items=ITEMS, liked=0.5, other=0.04)
    kept = rows.where(rows.ages > 0)
    method = Cooccurrence(ITEMS, vocabulary=ITEMS)
    state = learn(method, rows)
    personal = method.personal(state, kept.matrix(method.recency))
    expected = method.over_catalogue(state, personal - method.remembered(state, kept, rows))
    np.testing.assert_allclose(method.score_before(state, kept, rows), expected, atol=1e-5)
    assert not np.allclose(method.score_before(state, kept, rows), method.score(state, kept), atol=1e-3)
    hybrid = Hybrid(ITEMS, vocabulary=ITEMS, refinement_share=0.0)
    refined = hybrid.initial_state(seeded_generator(0)) | state
    np.testing.assert_allclose(hybrid.score_before(refined, kept, rows), expected, atol=1e-3)
