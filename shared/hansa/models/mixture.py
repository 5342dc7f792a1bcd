"""Score lists of different models on one scale."""

from __future__ import annotations

import numpy as np

from hansa.metrics import Scores


def standardise(scores: Scores) -> Scores:
    """Each row with mean 0 and standard deviation 1; a constant row becomes 0.

    Args:
        scores: float32 [customers, items].
    """
    centred = scores - scores.mean(axis=1, keepdims=True, dtype=np.float32)
    spread = np.sqrt(np.einsum("ui,ui->u", centred, centred)[:, None] / scores.shape[1]).astype(np.float32)
    centred /= np.where(spread > 1e-12, spread, np.float32(np.inf))
    result: Scores = centred
    return result


def mix(first: Scores, second: Scores, weight: float) -> Scores:
    """(1 - weight) ``first`` + weight ``second`` of standardised scores.

    Args:
        first: float32 [customers, items].
        second: float32 [customers, items] or [1, items].
        weight: Share of ``second``, in [0, 1].
    """
    if weight == 0:
        return first
    step: Scores = second - first
    step *= np.float32(weight)
    step += first
    return step
