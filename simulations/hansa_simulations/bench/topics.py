"""A generative model of customers, fitted to real ones: federations of any size that resemble the data.

Latent Dirichlet allocation (Blei, Ng and Jordan 2003) by expectation maximisation: a customer is a mixture of
topics, a topic a distribution over items. A new customer is a sibling of a real one: its mixture is drawn
from the posterior of that customer's, and it has as many items, all different, drawn from its topics. Which
of them come early and which late is drawn item by item, as the real histories have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.metrics import Scores
from hansa.rng import Generator
from hansa.schema import Histories, IntArray, stack

PHASES = 10
"""Parts of a history, oldest first."""
CHUNK = 2_000  # customers drawn at a time
_ADJUSTMENTS = 4  # of the items' weights
_TRIES = 60  # draws of an item that a customer has already
_SMOOTHING = 3.0  # customers who have an item in no phase rather than another

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Topics:
    """The fitted model.

    Attributes:
        customers: Expected interactions of each real customer in each topic plus the prior: the parameters of
            the Dirichlet posterior of its mixture, float64 [customers, topics].
        items: Weights of the items in each topic, float64 [topics, items].
        phases: Share of each item's customers who have it in each phase, float64 [items, phases].
        lengths: int64 [customers], interactions of each real customer.
    """

    customers: Floats
    items: Floats
    phases: Floats
    lengths: IntArray

    @classmethod
    def fit(
        cls, histories: Histories, topics: int, rng: Generator, *, prior: float = 0.1, iterations: int = 40
    ) -> Topics:
        """Fit to real histories.

        Draws without replacement flatten popularity, so the items' weights are then adjusted until
        siblings of all customers have each item about as often as these have it.

        Args:
            histories: Every interaction of every customer, oldest first.
            topics: Number of topics.
            rng: Draws the start, and the siblings that weights are adjusted to.
            prior: Interactions that each customer has in each topic beforehand.
            iterations: Of expectation maximisation.
        """
        matrix = histories.matrix().copy()
        matrix.sort_indices()
        rows, columns = histories.rows_index, matrix.indices
        sold = np.bincount(histories.items, minlength=histories.n_items) + 0.1
        popularity = (sold / sold.sum()).astype(np.float32)
        mixtures = rng.dirichlet(np.ones(topics), len(histories)).astype(np.float32)
        items = popularity * rng.gamma(1.0, size=(topics, histories.n_items)).astype(np.float32)
        items /= items.sum(axis=1, keepdims=True)
        expected = mixtures
        for _ in range(iterations):
            matrix.data = 1 / _products(mixtures, items, rows, columns)
            expected = mixtures * (matrix @ items.T)
            items = items * (matrix.T @ mixtures).T + np.float32(0.01) * popularity
            items /= items.sum(axis=1, keepdims=True)
            mixtures = expected + np.float32(prior)
            mixtures /= mixtures.sum(axis=1, keepdims=True)
        made = cls(
            expected.astype(np.float64) + prior,
            items.astype(np.float64),
            _phase_shares(histories),
            histories.lengths,
        )
        for _ in range(_ADJUSTMENTS):
            siblings = made.siblings(np.arange(len(histories)), rng)
            drawn = np.bincount(siblings.items, minlength=histories.n_items) + 0.1
            made = replace(made, items=made.items * np.clip(sold / drawn, 0.5, 2.0))
        return made

    def siblings(self, customers: IntArray, rng: Generator) -> Histories:
        """One new customer for each of the real ones ``customers``, in their order."""
        items, phases = _Rows(self.items), _Rows(self.phases)
        chunks = np.array_split(customers, max(1, -(-len(customers) // CHUNK)))
        return stack([self._draw(chunk, items, phases, rng) for chunk in chunks])

    def _draw(self, parents: IntArray, items: _Rows, phases: _Rows, rng: Generator) -> Histories:
        n_items = self.items.shape[1]
        weights = rng.standard_gamma(self.customers[parents]) + 1e-12
        # A topic is as likely as its share of the mixture; adjusted items of a topic need not add up to 1.
        mixtures = _Rows(weights * self.items.sum(axis=1))
        rows = np.repeat(np.arange(len(parents)), self.lengths[parents])
        chosen = np.full(len(rows), -1, dtype=np.int64)
        taken = np.zeros((len(parents), n_items), dtype=np.bool_)
        open_ = np.arange(len(rows))
        for _ in range(_TRIES):
            item = items.draw(mixtures.draw(rows[open_], rng), rng)
            first = np.zeros(len(open_), dtype=np.bool_)
            first[np.unique(rows[open_] * n_items + item, return_index=True)[1]] = True
            new = first & ~taken[rows[open_], item]
            chosen[open_[new]] = item[new]
            taken[rows[open_[new]], item[new]] = True
            open_ = open_[~new]
            if not len(open_):
                break
        rows, chosen = rows[chosen >= 0], chosen[chosen >= 0]  # topics may offer a customer too little
        when = phases.draw(chosen, rng) + rng.random(len(chosen))
        order = np.lexsort((when, rows))
        offsets = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=len(parents)))))
        return Histories(offsets.astype(np.int64), chosen[order].astype(np.int32), n_items)


class _Rows:
    """Many discrete distributions, one a row, drawn from by inverting their cumulative sums.

    Args:
        probabilities: float64 [rows, values].
    """

    def __init__(self, probabilities: Floats) -> None:
        self._values = probabilities.shape[1]
        cumulative = np.cumsum(probabilities, axis=1)
        cumulative /= cumulative[:, -1:]
        self._flat = (cumulative + np.arange(len(cumulative))[:, None]).ravel()

    def draw(self, rows: IntArray, rng: Generator) -> IntArray:
        """A value for each of ``rows``."""
        found = np.searchsorted(self._flat, rows + rng.random(len(rows)), side="right")
        return np.asarray(np.minimum(found - rows * self._values, self._values - 1))


def _phases(lengths: IntArray) -> IntArray:
    """int64 [interactions]: the phase of each, by its place in its customer's history."""
    ends = np.cumsum(lengths)
    place = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
    return np.asarray(place * PHASES // np.repeat(lengths, lengths))


def _phase_shares(histories: Histories) -> Floats:
    """Float64 [items, phases], drawn a little towards the phases' shares of all interactions."""
    counts = np.zeros((histories.n_items, PHASES))
    np.add.at(counts, (histories.items, _phases(histories.lengths)), 1)
    counts += _SMOOTHING * counts.sum(axis=0) / counts.sum()
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _products(mixtures: Scores, items: Scores, rows: IntArray, columns: npt.NDArray[Any]) -> Scores:
    """What the model gives each interaction, float32 [interactions]; never zero."""
    by_item, size = np.ascontiguousarray(items.T), 1 << 16
    parts = [
        np.einsum("nk,nk->n", mixtures[rows[at : at + size]], by_item[columns[at : at + size]])
        for at in range(0, len(rows), size)
    ]
    return np.asarray(np.maximum(np.concatenate(parts), np.float32(1e-12)))


def whole(train: Sequence[Histories], held_out: Sequence[Histories]) -> Histories:
    """Every customer's complete history again, shop after shop."""
    early, late = stack(list(train)), stack(list(held_out))
    rows = np.concatenate([early.rows_index, late.rows_index])
    items = np.concatenate([early.items, late.items])
    order = np.argsort(rows, kind="stable")
    return Histories(early.offsets + late.offsets, items[order], early.n_items)
