import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.metrics import (
    METRICS,
    evaluate,
    evaluate_candidates,
    evaluate_scores,
    holm,
    top_k,
    worse_than,
)
from hansa.rng import seeded_generator
from hansa.schema import Histories


def histories(rows: list[list[int]], n_items: int) -> Histories:
    pairs = [(u, i) for u, row in enumerate(rows) for i in row]
    users, items = zip(*pairs, strict=True) if pairs else ((), ())
    return Histories.from_pairs(np.array(users, int), np.array(items, int), len(rows), n_items)


def test_golden_case() -> None:
    # Ranking of unseen items: 2, 0, 4, 3; item 1 is seen.
    scores = np.array([[3.0, 9.0, 5.0, 1.0, 2.0]], dtype=np.float32)
    found = evaluate_scores(scores, histories([[1]], 5), histories([[0, 3]], 5))
    expected = (1 / np.log2(3) + 1 / np.log2(5)) / (1 + 1 / np.log2(3))
    assert found["ndcg@10"][0] == pytest.approx(expected)
    assert found["recall@20"][0] == 1
    assert found["hr@10"][0] == 1


def test_recall_is_divided_by_at_most_twenty() -> None:
    scores = -np.arange(60, dtype=np.float32)[None]
    found = evaluate_scores(scores, histories([[]], 60), histories([list(range(10, 50))], 60))
    assert found["recall@20"][0] == pytest.approx(10 / 20)
    assert found["hr@10"][0] == 0
    assert found["ndcg@10"][0] == 0


def brute_force(scores: np.ndarray, seen: set[int], wanted: set[int]) -> tuple[float, float, float]:
    order = sorted((i for i in range(len(scores)) if i not in seen), key=lambda i: (-scores[i], i))
    gains = [1 / np.log2(r + 2) for r, i in enumerate(order[:10]) if i in wanted]
    ideal = sum(1 / np.log2(r + 2) for r in range(min(10, len(wanted))))
    recall = len(wanted & set(order[:20])) / min(20, len(wanted))
    return sum(gains) / ideal, recall, float(bool(gains))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 50), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_equals_brute_force_with_ties(n_items: int, levels: int, seed: int) -> None:
    rng = seeded_generator(seed, "test")
    values = np.array([-2.5, -1.0, -0.0, 0.0, 3.0], dtype=np.float32)[:levels]
    scores = rng.choice(values, (4, n_items))
    parts = rng.integers(0, 3, (4, n_items))
    parts[:, rng.integers(n_items)] = 2  # everybody has something held out
    seen = [list(np.flatnonzero(row == 1)) for row in parts]
    wanted = [list(np.flatnonzero(row == 2)) for row in parts]
    found = evaluate_scores(scores, histories(seen, n_items), histories(wanted, n_items))
    for u in range(4):
        expected = brute_force(scores[u], set(seen[u]), set(wanted[u]))
        assert [found[name][u] for name in METRICS] == pytest.approx(expected)


def test_ties_go_by_position_and_nan_comes_last() -> None:
    scores = np.array([[np.nan, 1.0, 2.0, 1.0, -np.inf, 2.0]], dtype=np.float32)
    assert top_k(scores, histories([[]], 6), 5).tolist() == [[2, 5, 1, 3, 0]]


def test_short_lists_are_padded_and_seen_items_never_listed() -> None:
    scores = np.ones((1, 4), dtype=np.float32)
    assert top_k(scores, histories([[0, 2]], 4), 10).tolist() == [[1, 3, -1, -1]]


def test_large_positions_survive_the_packing() -> None:
    n_items = 100_000
    scores = np.zeros((1, n_items), dtype=np.float32)
    scores[0, [99_999, 5, 70_001]] = [3.4e38, -3.4e38, 1e-45]
    assert top_k(scores, histories([[]], n_items), 3).tolist() == [[99_999, 70_001, 0]]


def test_chunks_do_not_change_the_result() -> None:
    rng = seeded_generator(1, "test")
    n_items, n = 3000, 900  # several chunks
    scores = rng.normal(size=(n, n_items)).astype(np.float32)
    pairs = rng.integers(0, n_items, (n, 6))
    train = histories([list(row[:3]) for row in pairs], n_items)
    held = histories([list(set(row[3:]) - set(row[:3])) for row in pairs], n_items)
    whole = evaluate_scores(scores, train, held)
    served = iter(range(n))
    chunked = evaluate(lambda h: np.stack([scores[next(served)] for _ in range(len(h))]), train, held)
    for name in METRICS:
        np.testing.assert_array_equal(whole[name], chunked[name])
        assert np.isnan(whole[name]).sum() == np.sum(held.lengths == 0)


def test_is_fast_enough_for_movielens() -> None:
    rng = seeded_generator(2, "test")
    scores = rng.normal(size=(2000, 3706)).astype(np.float32)
    train = histories([[0, 1]] * 2000, 3706)
    held = histories([[2, 3]] * 2000, 3706)
    start = time.perf_counter()
    evaluate_scores(scores, train, held)
    assert time.perf_counter() - start < 3  # a third of ml-1m takes about 0.1 s on an idle core


def test_candidates_are_ranked_pessimistically() -> None:
    scores = np.array([[1.0, 1.0, 0.5, 2.0]] * 2, dtype=np.float32)
    ids = np.array([[7, 1, 2, 3], [7, 7, 2, 3]])  # the second list repeats the test item
    found = evaluate_candidates(scores, ids)
    np.testing.assert_allclose(found["ndcg@10"], [1 / np.log2(4), 1 / np.log2(3)])
    assert found["hr@10"].tolist() == [1, 1]


def test_constant_or_missing_scores_earn_nothing_among_candidates() -> None:
    ids = np.arange(100)[None]
    assert evaluate_candidates(np.zeros((1, 100), dtype=np.float32), ids)["hr@10"][0] == 0
    assert evaluate_candidates(np.full((1, 100), np.nan, dtype=np.float32), ids)["recall@20"][0] == 0


@pytest.mark.parametrize("skewed", [False, True])
def test_bootstrap_is_calibrated(skewed: bool) -> None:
    rng = seeded_generator(3, "test")
    p = []
    for _ in range(400):
        noise = rng.exponential(size=60) - 1 if skewed else rng.normal(size=60)
        p.append(worse_than(noise, np.zeros(60), rng, resamples=400))
    assert np.mean(np.array(p) <= 0.05) <= 0.09
    assert np.mean(np.array(p) <= 0.05) >= 0.01


def test_bootstrap_finds_a_loss_and_not_a_gain() -> None:
    rng = seeded_generator(4, "test")
    alone = rng.random(100)
    assert worse_than(alone - 0.1 + rng.normal(0, 0.1, 100), alone, rng) < 1e-3
    assert worse_than(alone + 0.01, alone, rng) == 1
    assert worse_than(alone, alone, rng) == 1


def test_few_customers_are_little_evidence() -> None:
    rng = seeded_generator(5, "test")
    assert worse_than(np.zeros(4), np.ones(4), rng) == 0.5**4
    assert worse_than(np.array([np.nan]), np.ones(1), rng) == 1


def test_holm_golden_case() -> None:
    assert holm([0.04, 0.001, 0.012, 0.03], level=0.05).tolist() == [False, True, True, False]
    assert holm([0.012, 0.001], level=0.01).tolist() == [False, True]
    assert holm([]).tolist() == []
