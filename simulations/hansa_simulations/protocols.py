"""What is held out of each customer's history, and against which items it is ranked.

``last20``, ``random20`` and ``last1`` rank every item that the customer has not had in training;
``loo99`` ranks the held-out item against 99 that the customer has never had (He et al., Neural
Collaborative Filtering, WWW 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hansa.errors import UsageError, one_of
from hansa.rng import Generator
from hansa.schema import Histories, IntArray, ItemArray

PROTOCOLS = ("last20", "random20", "last1", "loo99")
MIN_INTERACTIONS = 3
NEGATIVES = 99
_CHUNK = 20_000  # customers whose negatives are drawn at a time, for the sake of memory

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """Disjoint parts of the same customers' histories, in the same order of customers.

    Attributes:
        train: What may be learnt from.
        held_out: What is to be predicted.
        validation: For ``last1``, the second newest interaction: for tuning only.
    """

    train: Histories
    held_out: Histories
    validation: Histories | None = None


def split(histories: Histories, protocol: str, rng: Generator, flagged: Mask | None = None) -> Split:
    """Hold out the newest or random interactions of each customer.

    ``last20`` and ``random20`` hold out max(1, floor(n / 5)) of n interactions, ``last1`` and ``loo99`` one.

    Args:
        histories: Rows oldest first, each of at least ``MIN_INTERACTIONS``.
        protocol: One of ``PROTOCOLS``.
        rng: Draws the ``random20`` part.
        flagged: bool [interactions], for ``loo99``: the data set's own test interactions; customers
            without exactly one lose their newest.

    Raises:
        UsageError: Unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise one_of("--protocol", protocol, PROTOCOLS)
    row = histories.rows_index
    age = histories.offsets[1:][row] - 1 - np.arange(len(row))  # 0 is the newest
    held_out_counts = np.maximum(histories.lengths // 5, 1)
    if protocol == "last20":
        held_out = age < held_out_counts[row]
    elif protocol == "random20":
        shuffled = np.lexsort((rng.random(len(row)), row))  # shuffles within each row
        held_out = np.zeros(len(row), dtype=np.bool_)
        held_out[shuffled[age < held_out_counts[row]]] = True
    else:
        held_out = age == 0
    if protocol == "loo99" and flagged is not None:
        once = np.bincount(row, weights=flagged, minlength=len(histories)) == 1
        held_out = np.where(once[row], flagged, held_out)
    validation = (age == 1) if protocol == "last1" else np.zeros(len(row), dtype=np.bool_)
    return Split(
        _part(histories, ~(held_out | validation)),
        _part(histories, held_out),
        _part(histories, validation) if protocol == "last1" else None,
    )


def _part(histories: Histories, mask: Mask) -> Histories:
    """The marked interactions of every customer."""
    offsets = np.concatenate(([0], np.cumsum(mask)))[histories.offsets].astype(np.int64)
    return Histories(offsets, histories.items[mask], histories.n_items)


def draw_candidates(histories: Histories, held_out: Histories, rng: Generator) -> ItemArray:
    """``loo99``: each customer's held-out item, then 99 distinct items never had, drawn uniformly.

    Args:
        histories: Everything each customer has had.
        held_out: One interaction a customer.
        rng: Draws the items.

    Returns:
        int32 [customers, 100].

    Raises:
        UsageError: A customer who has had all but fewer than 99 items.
    """
    n_items = histories.n_items
    fewest = n_items - int(histories.lengths.max(initial=0))
    if fewest < NEGATIVES:
        raise UsageError(
            f"--protocol loo99: needs {NEGATIVES} items new to a customer, one has {fewest}; use last1"
        )
    drawn = [_never_had(chunk, rng) for chunk in histories.chunks(_CHUNK)]
    return np.hstack([held_out.items[:, None], np.vstack(drawn)])


def _never_had(histories: Histories, rng: Generator) -> ItemArray:
    """int32 [customers, 99]: distinct items that each customer has not had."""
    n_items = histories.n_items
    had = np.sort(histories.rows_index * n_items + histories.items)
    drawn = np.full((len(histories), NEGATIVES), -1, dtype=np.int32)
    rows, slots = np.nonzero(drawn < 0)
    while len(rows):
        drawn[rows, slots] = rng.integers(n_items, size=len(rows), dtype=np.int32)
        # Redraw what the customer has had and what another slot of the same row already holds.
        keys = rows * n_items + drawn[rows, slots]
        at = np.minimum(np.searchsorted(had, keys), len(had) - 1)
        wrong = (had[at] == keys) | _repeats(drawn, rows, slots)
        rows, slots = rows[wrong], slots[wrong]
    return drawn


def _repeats(drawn: ItemArray, rows: IntArray, slots: IntArray) -> Mask:
    """Which of the named slots hold an item that another slot of their row holds too."""
    touched, at = np.unique(rows, return_inverse=True)
    values = drawn[touched]
    order = np.argsort(values, axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    same = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.zeros(values.shape, dtype=np.bool_)
    repeated[:, 1:] |= same
    repeated[:, :-1] |= same
    result = np.empty_like(repeated)
    np.put_along_axis(result, order, repeated, axis=1)
    return result[at, slots]
