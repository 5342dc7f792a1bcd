"""What the public catalogue says of items that a model does not know: neighbours by their public details.

A catalogue is public, so what is made of it costs no epsilon. Items without interactions, which a model
scores all alike, are ordered by the scores of the known items that they resemble.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp
import torch

from hansa.metrics import Scores
from hansa.models.mixture import standardise
from hansa.schema import Catalogue, Histories, IntArray

Mask = npt.NDArray[np.bool_]

NEIGHBOURS = 50
"""Nearest items kept for each item."""
FIELDS = {"category": 1.0, "title": 1.0, "brand": 0.2, "price": 0.2}
"""Weight of each detail in the squared length of an item's features."""
SHRINKAGE = 1.0
"""How much similarity to known items it takes for half of the way to them."""
LIFT = 0.1
"""Share of that way which an unknown item goes: enough for an order, too little to overtake known items."""
RESEMBLANCE = 0.3
"""Weight of resemblance to the customer's own items, beside the model of a few customers."""
RESEMBLANCE_CUSTOMERS = 50
"""Customers at which that weight has halved."""
PRICES = 10
"""Price buckets, of equally many items each."""
CHUNK_CELLS = 1 << 23


def features(details: pl.DataFrame) -> sp.csr_array:
    """Items' details as weighted TF-IDF features (Salton and Buckley 1988): float32 [items, features].

    A category is a feature as a whole and by its parts between bars; a title is its words; a price its
    bucket. Each detail an item has is scaled to the square root of its weight; a row has length 1, or 0.
    """
    blocks = [
        np.float32(weight**0.5) * _normalised(_tf_idf(_tokens(name, details[name])))
        for name, weight in FIELDS.items()
        if name in details.columns
    ]
    if not blocks:
        return sp.csr_array((len(details), 0), dtype=np.float32)
    return _normalised(sp.csr_array(sp.hstack(blocks, format="csr")))


def _tokens(name: str, column: pl.Series) -> list[list[str]]:
    if name == "price":
        ranks = column.cast(pl.Float64, strict=False).rank("max")
        buckets = (ranks / max(1.0, float(ranks.max() or 1)) * PRICES).ceil()  # type: ignore[arg-type]
        return [[] if bucket is None else [str(bucket)] for bucket in buckets]
    texts = [text.lower() for text in column.cast(pl.String).fill_null("")]
    if name == "title":
        return [re.findall(r"\w+", text) for text in texts]
    if name == "category":
        return [list({text, *text.split("|")} - {""}) for text in texts]
    return [[text] if text else [] for text in texts]


def _tf_idf(tokens: list[list[str]]) -> sp.csr_array:
    """Each distinct token of an item once, weighted by ln(items / items that have it)."""
    held = Counter(token for item in tokens for token in set(item))
    column = {token: number for number, token in enumerate(sorted(held))}
    inverse = {token: np.log((1 + len(tokens)) / count) for token, count in held.items()}
    rows = [sorted(set(item)) for item in tokens]
    data = np.array([inverse[token] for row in rows for token in row], dtype=np.float32)
    indices = np.array([column[token] for row in rows for token in row], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, rows)])
    return sp.csr_array((data, indices, offsets), shape=(len(tokens), len(column)))


def _normalised(rows: sp.csr_array) -> sp.csr_array:
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return sp.csr_array(sp.diags_array(scale) @ rows, dtype=np.float32)


@dataclass(frozen=True)
class Placement:
    """Where items that a model does not know go: near what they resemble.

    Attributes:
        unknown: Positions of the unknown items, int64 [unknown].
        weights: Shares of the known neighbours in each of them, float32 [unknown, items]; a row adds up to
            less than 1, the less it resembles anything known.
        similar: Similarities of all neighbours, float32 [unknown, items].
        resemblance: Weight of what resembles a customer's own items.
    """

    unknown: IntArray
    weights: sp.csr_array
    similar: sp.csr_array
    resemblance: float = 0.0

    def apply(self, scores: Scores, histories: Histories) -> Scores:
        """``scores`` with those of unknown items moved a little towards their neighbours'.

        With v the weights, s_c becomes s_c + ``LIFT`` (sum_j v_cj (s_j - s_c) + b r_c), r the z-scored sum
        of c's similarities to the customer's own items, b the ``resemblance``. What is unknown gets an order
        from what is known, and stays about where the model has put it.

        Args:
            scores: float32 [customers, items], z-scored.
            histories: Of the same customers.
        """
        if not self.similar.nnz:
            return scores
        own = scores[:, self.unknown]
        moved = (self.weights @ np.ascontiguousarray(scores.T)).T - own * self.weights.sum(axis=1)
        if self.resemblance:
            alike = np.asarray((histories.matrix() @ self.similar.T).toarray(), dtype=np.float32)
            moved += np.float32(self.resemblance) * standardise(alike)
        placed = scores.copy()
        placed[:, self.unknown] = own + np.float32(LIFT) * moved
        return placed


@dataclass(frozen=True)
class Content:
    """Items' nearest neighbours by their public details.

    Attributes:
        neighbours: Cosine similarities above 0, float32 [items, items], at most ``NEIGHBOURS`` in a row and
            none on the diagonal.
    """

    neighbours: sp.csr_array

    @classmethod
    def of(cls, catalogue: Catalogue) -> Content | None:
        """The nearest neighbours of every item; None where the catalogue tells nothing of its items."""
        table = features(catalogue.details)
        if not table.nnz:
            return None
        turned = sp.csr_array(table.T)
        size = max(1, CHUNK_CELLS // len(catalogue))
        parts = [
            _nearest(table[start : start + size], turned, start) for start in range(0, len(catalogue), size)
        ]
        return cls(sp.csr_array(sp.vstack(parts, format="csr")))

    def placement(self, known: Mask, customers: int | None = None) -> Placement:
        """Where the items go that are not ``known``, bool [items].

        The weight of a known item j for an unknown one c is w_cj / (sum of w_c over known items +
        ``SHRINKAGE``), w the similarities.

        Args:
            known: Which items the model knows.
            customers: Those whose interactions the model has learnt from: few say little of what a customer
                likes, and resemblance to the customer's own items more. None leaves resemblance out.
        """
        unknown = np.flatnonzero(~known)
        similar = self.neighbours[unknown]
        near = similar @ sp.diags_array(known.astype(np.float32))
        shares = sp.diags_array(1 / (near.sum(axis=1) + np.float32(SHRINKAGE)))
        weight = 0.0 if customers is None else RESEMBLANCE / (1 + (customers / RESEMBLANCE_CUSTOMERS) ** 2)
        return Placement(unknown, sp.csr_array(shares @ near, dtype=np.float32), similar, weight)

    def resembling(self, histories: Histories) -> Scores:
        """Summed similarity to each customer's own items, without a model: float32 [customers, items]."""
        return np.asarray((histories.matrix() @ self.neighbours.T).toarray(), dtype=np.float32)


def _nearest(rows: sp.csr_array, turned: sp.csr_array, start: int) -> sp.csr_array:
    """The nearest of all items for ``rows``, those from ``start`` on; ``turned`` are everybody's features."""
    similar = torch.from_numpy(np.asarray((rows @ turned).toarray(), dtype=np.float32))
    own = torch.arange(len(similar))
    similar[own, start + own] = 0
    values, columns = similar.topk(min(NEIGHBOURS, similar.shape[1]))
    offsets = np.arange(len(similar) + 1) * values.shape[1]
    found = sp.csr_array((values.numpy().ravel(), columns.numpy().ravel(), offsets), shape=similar.shape)
    found.eliminate_zeros()
    return found
