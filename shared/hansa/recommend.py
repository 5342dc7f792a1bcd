"""What a shop serves: its own exact model blended with the league's private one.

The weight is chosen at the shop, without noise, on interactions held back from its own model; it
never leaves the shop. Where the shared model does not convince, the shop serves its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hansa.metrics import Scorer, Scores, Values, evaluate_scores, top_k
from hansa.models.mixture import mix, standardise
from hansa.models.own import FittedOwn
from hansa.schema import Histories

__all__ = ["WEIGHTS", "Blend", "blend_scores", "choose_weight", "fit_blend", "top_k", "trial_values"]

WEIGHTS = tuple(step / 10 for step in range(11))
PRIOR_WEIGHT = 0.5
"""The public weight that shops start from: both models count alike until the shop's own data says more."""
PRIOR_CUSTOMERS = 20
"""How many customers' evidence that start is worth."""
CHUNK_CELLS = 1 << 22


def blend_scores(own: Scores, shared: Scores, weight: float) -> Scores:
    """The z-scored sum (1 - w) z(own) + w z(shared) for each customer.

    Items outside the shared vocabulary (NaN) keep their own score. The shared scores are put on
    the scale that the own scores have on the same items, or head items would lose against these.

    Args:
        own: float32 [customers, items].
        shared: float32 [customers, items], NaN where the shared model has no score.
        weight: w, the share of the shared model in [0, 1].
    """
    base = standardise(own)
    if weight == 0:
        return base
    scaled = standardise(shared)
    known = ~np.isnan(scaled)
    if not known.all():
        count = np.maximum(known.sum(axis=1, keepdims=True), 1)
        mean = np.where(known, base, 0).sum(axis=1, keepdims=True) / count
        spread = np.sqrt((np.where(known, base - mean, 0) ** 2).sum(axis=1, keepdims=True) / count)
        scaled = (mean + spread * scaled).astype(np.float32)
    return mix(base, scaled, weight)


@dataclass(frozen=True)
class Blend:
    """A scorer that serves a shop's customers.

    Attributes:
        weight: Share of the shared model in [0, 1]; 0 serves the own model.
        shared: The league's model, NaN outside its vocabulary.
        own: The shop's model.
    """

    weight: float
    shared: Scorer
    own: Scorer

    def score(self, histories: Histories) -> Scores:
        """float32 [customers, items]; with a weight of 0 the ranking is the own model's."""
        own = self.own(histories)
        return own if self.weight == 0 else blend_scores(own, self.shared(histories), self.weight)


def fit_blend(shared: Scorer, own: FittedOwn) -> Blend:
    """Choose the weight on the held-back interactions of ``own`` and blend with the full model.

    The trial own model has not seen them; the shared scorer is given the kept history only.

    Args:
        shared: The league's model.
        own: A fitted own model with its split.
    """
    return Blend(choose_weight(trial_values(shared, own)), shared, own.model.score)


def trial_values(shared: Scorer, own: FittedOwn) -> Values:
    """ndcg@10 on the held-back interactions at each of ``WEIGHTS``: float64 [weights, customers]."""
    kept, held = own.split.kept, own.split.held
    size = max(1, CHUNK_CELLS // max(1, kept.n_items))
    parts = []
    for known, wanted in zip(kept.chunks(size), held.chunks(size), strict=True):
        mine, theirs = own.trial.score(known), shared(known)
        blends = (blend_scores(mine, theirs, weight) for weight in WEIGHTS)
        parts.append(np.stack([evaluate_scores(blend, known, wanted)["ndcg@10"] for blend in blends]))
    return np.concatenate(parts, axis=1)


def choose_weight(values: Values) -> float:
    """The weight to serve, given a metric at each weight for each customer.

    The largest mean, less the best mean times (w - prior)^2 ``PRIOR_CUSTOMERS`` / n: a few customers
    cannot tell weights apart, so a small shop stays near the prior, and a large one, own model or
    league's alone included, goes where its data points. Without any gain the own model is served.

    Args:
        values: float64 [weights, customers] in the order of ``WEIGHTS``; NaN is left out.
    """
    known = values[:, ~np.isnan(values).any(axis=0)]
    if not known.size:
        return 0.0
    means = known.mean(axis=1)
    pull = (np.asarray(WEIGHTS) - PRIOR_WEIGHT) ** 2 * PRIOR_CUSTOMERS / known.shape[1]
    best = int(np.argmax(means - means.max() * pull))
    return WEIGHTS[best] if means[best] > means[0] else 0.0
