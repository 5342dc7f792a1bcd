"""What a shop serves: its own exact model blended with the league's private one.

The weight is chosen at the shop, without noise, on interactions held back from its own model; it
never leaves the shop. Where the shared model does not convince, the shop serves its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hansa.metrics import Scorer, Scores, Values, evaluate_scores, top_k
from hansa.models.base import Method, State
from hansa.models.mixture import mix, standardise
from hansa.models.own import FittedOwn
from hansa.schema import Histories

__all__ = ["WEIGHTS", "Blend", "blend_scores", "choose_weight", "fit_blend", "top_k", "trial_values"]

WEIGHTS = tuple(step / 10 for step in range(11))
PRIOR_WEIGHT = 0.6
"""The public weight that shops start from, until their own data say more."""
WEIGHT_CUSTOMERS = 200
"""How many customers' evidence that weight is worth."""
PRIOR_GAIN = 0.1
"""The gain, relative to the own model, that shops expect of a league before they have seen any."""
GAIN_CUSTOMERS = 20
"""How many customers' evidence that gain is worth."""
LEAST_GAIN = 0.01
"""What a shop must expect to gain, relative to the own model: a slice says no more about what comes."""
CHUNK_CELLS = 1 << 22


def blend_scores(own: Scores, shared: Scores, weight: float) -> Scores:
    """The z-scored sum (1 - w) z(own) + w z(shared) for each customer.

    Args:
        own: float32 [customers, items].
        shared: float32 [customers, items].
        weight: w, the share of the shared model in [0, 1].
    """
    return mix(standardise(own), standardise(shared), weight)


@dataclass(frozen=True)
class Blend:
    """A scorer that serves a shop's customers.

    Attributes:
        weight: Share of the shared model in [0, 1]; 0 serves the own model.
        shared: The league's model.
        own: The shop's model.
    """

    weight: float
    shared: Scorer
    own: Scorer

    def score(self, histories: Histories) -> Scores:
        """float32 [customers, items]; with a weight of 0 the ranking is the own model's."""
        own = self.own(histories)
        return own if self.weight == 0 else blend_scores(own, self.shared(histories), self.weight)


def fit_blend(method: Method, state: State, own: FittedOwn) -> Blend:
    """Choose the weight on the held-back interactions of ``own`` and blend with the full model.

    The trial own model has not seen them, and each customer's are taken out of the shared model as well as
    its method can (``Method.score_before``).

    Args:
        method: How the league learnt.
        state: What it has learnt.
        own: A fitted own model with its split.
    """

    def shared(histories: Histories) -> Scores:
        return method.score(state, histories)

    def before(kept: Histories, whole: Histories) -> Scores:
        return method.score_before(state, kept, whole)

    return Blend(choose_weight(trial_values(before, own)), shared, own.model.score)


def trial_values(shared: Callable[[Histories, Histories], Scores], own: FittedOwn) -> Values:
    """ndcg@10 on the held-back interactions at each of ``WEIGHTS``: float64 [weights, customers].

    Args:
        shared: Scores of customers' kept rows, given also the whole.
        own: A fitted own model with its split.
    """
    kept, held, whole = own.split.kept, own.split.held, own.split.whole
    size = max(1, CHUNK_CELLS // max(1, kept.n_items))
    parts = []
    for known, wanted, had in zip(kept.chunks(size), held.chunks(size), whole.chunks(size), strict=True):
        mine, theirs = own.trial.score(known), shared(known, had)
        blends = (blend_scores(mine, theirs, weight) for weight in WEIGHTS)
        parts.append(np.stack([evaluate_scores(blend, known, wanted)["ndcg@10"] for blend in blends]))
    return np.concatenate(parts, axis=1)


def choose_weight(values: Values) -> float:
    """The weight to serve, given a metric at each weight for each customer.

    Of the weights above 0 the one with the largest mean, less the best mean times (w - prior)^2
    ``WEIGHT_CUSTOMERS`` / n: a few customers cannot tell weights apart, so a small shop stays near the prior
    and a large one goes where its data point. It is served if its gain over the own model, averaged with the
    prior gain by numbers of customers, is above ``LEAST_GAIN``; if not, and where nothing can be judged, the
    own model is.

    Args:
        values: float64 [weights, customers] in the order of ``WEIGHTS``; NaN is left out.
    """
    known = values[:, ~np.isnan(values).any(axis=0)]
    if not known.size:
        return 0.0
    means, n = known.mean(axis=1), known.shape[1]
    pull = (np.asarray(WEIGHTS) - PRIOR_WEIGHT) ** 2 * WEIGHT_CUSTOMERS / n
    best = 1 + int(np.argmax((means - means.max() * pull)[1:]))
    gain = (n * (means[best] - means[0]) + GAIN_CUSTOMERS * PRIOR_GAIN * means[0]) / (n + GAIN_CUSTOMERS)
    return WEIGHTS[best] if gain > LEAST_GAIN * means[0] else 0.0
