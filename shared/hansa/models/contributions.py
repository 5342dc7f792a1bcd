"""What each item that a customer has had adds to the scores of others: the ground of a reason."""

from __future__ import annotations

import numpy as np

from hansa.metrics import Scorer, Scores
from hansa.schema import Histories, IntArray

MOST_LEFT_OUT = 30
"""How many of a customer's items, newest first, are left out in turn; each costs a scoring."""


def left_out(scorer: Scorer, history: Histories, listed: IntArray) -> Scores:
    """What a history adds to scores, shared out among its items: for models that are not linear in it.

    The whole is the score beside that of an empty history. It is shared out in proportion to how much
    lower the score were without each item, as far as it were lower at all.

    Args:
        scorer: The model.
        history: One customer.
        listed: Positions of items.

    Returns:
        float32 [items had, listed]; 0 for all but the newest ``MOST_LEFT_OUT``.
    """
    had = history.row(0)
    result = np.zeros((len(had), len(listed)), dtype=np.float32)
    first = max(0, len(had) - MOST_LEFT_OUT)
    tried = len(had) - first
    if not tried or not len(listed):
        return result
    rows = np.repeat(had[None], tried, axis=0)
    kept = rows != had[first:, None]
    offsets = np.arange(tried + 1, dtype=np.int64) * (len(had) - 1)
    without = scorer(Histories(offsets, rows[kept], history.n_items))[:, listed]
    nothing = Histories(np.zeros(2, dtype=np.int64), had[:0], history.n_items)
    scores = scorer(history)[:, listed]
    lower = np.maximum(scores - without, 0)
    sums = lower.sum(axis=0)
    shares = np.divide(lower, sums, out=np.zeros_like(lower), where=sums > 0)
    result[first:] = shares * (scores - scorer(nothing)[:, listed])
    return result
