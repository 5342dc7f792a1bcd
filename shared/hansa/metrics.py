"""Ranking metrics per customer, and the paired comparison of two models at one shop.

All figures rank every item that the customer has not had (``evaluate``), or one held-out item
among sampled others (``evaluate_candidates``). Ties are broken by item position, or against the
held-out item where candidates are ranked, so a constant scorer earns nothing by luck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from hansa.rng import Generator
from hansa.schema import Histories, IntArray

Scores = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
Scorer = Callable[[Histories], Scores]
"""Scores of all catalogue items given customers' histories: float32 [customers, items]."""

METRICS = ("ndcg@10", "recall@20", "hr@10")
DEPTH = 20
CHUNK_CELLS = 1 << 20
"""Scores ranked at a time: the working set stays within a few tens of MB."""

_DISCOUNT = 1.0 / np.log2(np.arange(2, DEPTH + 2))
_IDEAL = np.cumsum(_DISCOUNT)
_POSITION_BITS = 21
_NOWHERE = -(2.0**53)


def top_k(scores: Scores, seen: Histories, k: int) -> IntArray:
    """The ``k`` best unseen items of every customer, best first.

    Equal scores are ordered by item position. NaN counts as the lowest score.

    Args:
        scores: float32 [customers, items].
        seen: Histories of the same customers, whose items are left out.
        k: Length of the lists.

    Returns:
        int64 [customers, min(k, items)], padded with -1 where too few items are unseen.
    """
    n_items = scores.shape[1]
    k = min(k, n_items)
    # One sortable number a cell: the score's bits, monotone in the score, above the position's;
    # 53 bits, so that float64, whose selection torch does fastest, holds them exactly.
    bits = np.where(np.isnan(scores), np.float32(-np.inf), scores + np.float32(0)).view(np.int32)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)) * float(1 << _POSITION_BITS)
    keys += np.arange(n_items - 1, -1, -1)
    keys[seen.rows_index, seen.items] = _NOWHERE
    best = torch.topk(torch.from_numpy(keys), k, sorted=True).values.numpy()
    position = n_items - 1 - np.mod(best, 1 << _POSITION_BITS)
    return np.where(best == _NOWHERE, -1, position).astype(np.int64)


def evaluate(scorer: Scorer, train: Histories, held_out: Histories) -> dict[str, Values]:
    """Full-rank metrics of a scorer; customers are scored in chunks of bounded memory.

    ``ndcg@10`` has binary gains and is divided by the best possible value, ``recall@20`` is
    divided by min(held out, 20), ``hr@10`` is 1 if any held-out item is among the ten.

    Args:
        scorer: Called with pieces of ``train``.
        train: What the scorer may know of each customer; never ranked.
        held_out: What is to be found, same customers in the same order.

    Returns:
        For each of ``METRICS`` float64 [customers], NaN for a customer with nothing held out.
    """
    size = max(1, CHUNK_CELLS // max(1, train.n_items))
    pieces = zip(train.chunks(size), held_out.chunks(size), strict=True)
    parts = [evaluate_scores(scorer(known), known, wanted) for known, wanted in pieces]
    return {name: np.concatenate([part[name] for part in parts] or [np.empty(0)]) for name in METRICS}


def evaluate_scores(scores: Scores, train: Histories, held_out: Histories) -> dict[str, Values]:
    """As ``evaluate``, for scores float32 [customers, items] that exist already."""
    size = max(1, CHUNK_CELLS // max(1, train.n_items))
    hits = np.zeros((len(train), DEPTH), dtype=np.bool_)
    start = 0
    for known, wanted in zip(train.chunks(size), held_out.chunks(size), strict=True):
        stop = start + len(known)
        listed = top_k(scores[start:stop], known, DEPTH)
        relevant = np.zeros((len(known), train.n_items + 1), dtype=np.bool_)
        relevant[wanted.rows_index, wanted.items] = True  # the last column answers for padding
        hits[start:stop, : listed.shape[1]] = np.take_along_axis(relevant, listed, axis=1)
        start = stop
    return _from_hits(hits, held_out.lengths)


def _from_hits(hits: npt.NDArray[np.bool_], wanted: IntArray) -> dict[str, Values]:
    """Metrics from hits [customers, DEPTH] in rank order and the number of held-out items."""
    some = wanted > 0
    safe = np.where(some, wanted, 1)
    ndcg = hits[:, :10] @ _DISCOUNT[:10] / _IDEAL[np.minimum(safe, 10) - 1]
    recall = hits.sum(axis=1) / np.minimum(safe, DEPTH)
    hit = hits[:, :10].any(axis=1).astype(np.float64)
    values = zip(METRICS, (ndcg, recall, hit), strict=True)
    return {name: np.where(some, value, np.nan) for name, value in values}


def evaluate_candidates(scores: Scores, candidates: IntArray) -> dict[str, Values]:
    """Metrics of the item in column 0 ranked among the other columns.

    Ties count against it. A candidate with the very id of column 0 (some published lists of
    negatives hold the test item) counts neither for nor against it.

    Args:
        scores: float32 [customers, candidates].
        candidates: integers of the same shape, the item ids.
    """
    target = np.nan_to_num(scores[:, :1], nan=-np.inf)
    ahead = (np.nan_to_num(scores, nan=-np.inf) >= target) & (candidates != candidates[:, :1])
    rank = ahead.sum(axis=1)
    hits = rank[:, None] == np.arange(DEPTH)
    return _from_hits(hits, np.ones(len(rank), dtype=np.int64))


def worse_than(model: Values, alone: Values, rng: Generator, resamples: int = 20_000) -> float:
    """One-sided p-value of "the model is worse than alone" over a shop's customers.

    Paired studentised bootstrap of the mean difference (Efron & Tibshirani 1993, algorithm
    16.2). n customers never give more evidence than n coins: the value is at least 2^-n.

    Args:
        model: [customers] one metric; NaN (nothing held out) is left out.
        alone: [customers] the same metric of the rival.
        rng: Source of the resamples.
        resamples: Number of bootstrap samples; the smallest p-value is about its inverse.
    """
    difference = (model - alone)[~np.isnan(model - alone)]
    n = len(difference)
    if n == 0 or difference.mean() >= 0:
        return 1.0
    observed = _t_statistic(difference[None])[0]
    centred = difference - difference.mean()
    below = 0
    step = max(1, CHUNK_CELLS // n)
    for start in range(0, resamples, step):
        picks = rng.integers(0, n, (min(step, resamples - start), n), dtype=np.int32)
        below += int(np.count_nonzero(_t_statistic(centred[picks]) <= observed))
    return float(min(1.0, max((1 + below) / (1 + resamples), 0.5**n)))


def _t_statistic(values: Values) -> Values:
    """Mean over standard error of each row [rows, n]; a constant row gives +-inf or 0."""
    mean = values.mean(axis=1)
    error = values.std(axis=1) / np.sqrt(values.shape[1])
    flat = np.where(np.abs(mean) > 1e-12, np.copysign(np.inf, mean), 0.0)
    return np.where(error > 1e-12, mean / np.maximum(error, 1e-12), flat)


def holm(p_values: Sequence[float], level: float = 0.01) -> npt.NDArray[np.bool_]:
    """Which hypotheses Holm's step-down procedure (1979) rejects at a family-wise level."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    passed = np.logical_and.accumulate(p[order] <= level / np.arange(len(p), 0, -1))
    rejected = np.zeros(len(p), dtype=np.bool_)
    rejected[order] = passed
    return rejected
