"""Score lists of different models on one scale."""

from __future__ import annotations

import numpy as np

from hansa.metrics import Scores


def standardise(scores: Scores) -> Scores:
    """Each row with mean 0 and standard deviation 1; a constant row becomes 0; NaN stays NaN.

    Args:
        scores: float32 [customers, items]; NaN marks items that a model cannot score.
    """
    known = ~np.isnan(scores)
    partial = not known.all()
    filled = np.where(known, scores, np.float32(0)) if partial else scores
    count = np.maximum(known.sum(axis=1, keepdims=True), 1) if partial else scores.shape[1]
    centred = filled - (filled.sum(axis=1, keepdims=True) / count).astype(np.float32)
    if partial:
        centred[~known] = 0
    spread = np.sqrt(np.einsum("ui,ui->u", centred, centred)[:, None] / count).astype(np.float32)
    centred /= np.where(spread > 1e-12, spread, np.float32(np.inf))
    if partial:
        centred[~known] = np.nan
    result: Scores = centred
    return result


def mix(first: Scores, second: Scores, weight: float) -> Scores:
    """(1 - weight) ``first`` + weight ``second`` of standardised scores; where ``second`` is NaN, ``first``.

    Args:
        first: float32 [customers, items], no NaN.
        second: float32 [customers, items] or [1, items].
        weight: Share of ``second``, in [0, 1].
    """
    if weight == 0:
        return first
    step: Scores = np.where(np.isnan(second), first, second) - first
    step *= np.float32(weight)
    step += first
    return step
