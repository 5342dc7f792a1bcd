"""What a federation is compared with: popularity, each shop alone, and everybody's data pooled.

All three are exact and not private, so they exist in simulations only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hansa.metrics import Scorer, Scores
from hansa.models.content import Content
from hansa.models.own import FittedOwn, OwnModel, fit_own
from hansa.rng import Generator, seeded_generator
from hansa.schema import Histories, Shop, stack
from hansa_simulations.parallel import over_shops


@dataclass(frozen=True)
class References:
    """The fitted references.

    Attributes:
        popularity: Ranks by the counts of all shops, the same for every customer.
        alone: Per evaluated shop in order, what it makes of its own data.
        pooled: The same model made of everybody's data.
        notes: What a reader of the results should know.
    """

    popularity: Scorer
    alone: tuple[FittedOwn, ...]
    pooled: OwnModel
    notes: tuple[str, ...]


def fit_references(
    shops: Sequence[Shop],
    protocol: str,
    seed: int = 0,
    judged: Sequence[Shop] | None = None,
    content: Content | None = None,
) -> References:
    """Fit all references on the training histories; held-out interactions are never looked at.

    Args:
        shops: The federation.
        protocol: Its protocol; models are tuned on a like slice of the training data.
        seed: Draws the slices of ``random20``.
        judged: The shops that are evaluated, whose own models are fitted; None: all.
        content: What the public catalogue says of items without interactions.
    """
    alone = fit_alone(shops if judged is None else judged, protocol, seed, content)
    pooled = fit_pooled(shops, protocol, seed, content)
    return References(popularity(shops), alone, pooled, notes(alone, pooled))


def popularity(shops: Sequence[Shop]) -> Scorer:
    """The exact count ranking over all shops' training histories."""
    n_items = shops[0].train.n_items
    counts = np.sum([np.bincount(shop.train.items, minlength=n_items) for shop in shops], axis=0)
    return CountScorer(counts.astype(np.float32))


@dataclass(frozen=True)
class CountScorer:
    """Scores every customer alike.

    Attributes:
        counts: float32 [items].
    """

    counts: Scores

    def __call__(self, histories: Histories) -> Scores:
        """float32 [customers, items]."""
        return np.repeat(self.counts[None], len(histories), axis=0)


def fit_alone(
    shops: Sequence[Shop], protocol: str, seed: int = 0, content: Content | None = None
) -> tuple[FittedOwn, ...]:
    """Each shop's own model, with the trial that its blend weight may be chosen with."""

    def fit(shop: Shop) -> FittedOwn:
        return fit_own(shop.train, slice_generator(protocol, seed, shop.name), content)

    return tuple(over_shops(fit, shops))


def fit_pooled(
    shops: Sequence[Shop], protocol: str, seed: int = 0, content: Content | None = None
) -> OwnModel:
    """The same model on everybody's data, tuned likewise."""
    everybody = stack([shop.train for shop in shops])
    return OwnModel.fit(everybody, slice_generator(protocol, seed, "pooled"), content)


def slice_generator(protocol: str, seed: int, name: str) -> Generator | None:
    """What draws the tuning slice: nothing (the newest interactions) unless the protocol is random."""
    return seeded_generator(seed, "tuning slice", name) if protocol == "random20" else None


def notes(alone: Sequence[FittedOwn], pooled: OwnModel) -> tuple[str, ...]:
    """One line for each reference whose personal part is not EASE for want of memory."""
    fallen = [
        ("alone", sum(own.model.kind == "ials" for own in alone)),
        ("pooled", int(pooled.kind == "ials")),
    ]
    return tuple(
        f"{name}: iALS instead of EASE in {count} model{'s' if count > 1 else ''}, too large for it"
        for name, count in fallen
        if count
    )
