"""What customers get: the shop's own exact model blended with the league's, as lists with reasons.

**Guarantee:** with ``shared_only`` a list is a function of the league's released model, the public
catalogue, the shop's codes and the requester's own history: other customers have no influence on it beyond
what left their shop through the door, at the epsilon that was charged for it (one customer of one shop, added
or removed). Without it lists, reasons and the weight use exact local data, and are not private towards the
shop's own customers and staff.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hansa.metrics import Scorer, Scores, top_k
from hansa.models.base import Method, State
from hansa.models.content import Content
from hansa.models.cooccurrence import FLOOR, LEAST
from hansa.models.mixture import mix, standardise
from hansa.models.own import OwnModel
from hansa.models.popularity import COUNTS
from hansa.schema import Histories, IntArray
from hansa_client.serving.reasons import Parts, Reason, popular, reasons

Mask = npt.NDArray[np.bool_]
LEAST_SPREAD = 1e-6
"""Scores that differ by less say nothing."""
SINGLES = 200
"""Best sellers whose average stands for what any item adds: what goes with everything goes with nothing."""


@dataclass(frozen=True)
class Ranked:
    """An item in a list.

    Attributes:
        item: Its position in the catalogue.
        score: What it is ranked by.
        reason: Why.
    """

    item: int
    score: float
    reason: Reason


@dataclass(frozen=True)
class Scored:
    """Scores of customers and what they are made of; a model that does not serve has no part.

    Attributes:
        total: What ranks, float32 [customers, items].
        own: The own model's part, float32 [customers, items].
        league: The league's part, likewise.
        own_scale: What turns the own model's scores into its part, float32 [customers], up to a constant.
        league_scale: The same for the league's.
    """

    total: Scores
    own: Scores | None = None
    league: Scores | None = None
    own_scale: Scores | None = None
    league_scale: Scores | None = None


@dataclass(frozen=True)
class Serving:
    """Everything that answers a request.

    Attributes:
        n_items: Size of the catalogue.
        own: The shop's own model; None with ``shared_only``.
        method: How the league learnt; None before its first model.
        state: The public state of its model.
        weight: Share of the league's model in [0, 1].
        sold: Which items may be listed, bool [items]; None: all.
        content: What the public catalogue says of items; None: nothing.
    """

    n_items: int
    own: OwnModel | None
    method: Method | None = None
    state: State | None = None
    weight: float = 0.0
    sold: Mask | None = None
    content: Content | None = None

    @property
    def shared_only(self) -> bool:
        """Whether nothing but public state and the requester's own history serves."""
        return self.own is None

    def score(self, histories: Histories) -> Scored:
        """The scores that rank: exactly those of ``hansa.recommend.Blend``, and their parts."""
        own = None if self.own is None else self.own.score(histories)
        league = self._league(histories) if own is None or self.weight > 0 else None
        return _blended(own, league, self.weight)

    def _league(self, histories: Histories) -> Scores:
        assert self.method is not None
        assert self.state is not None
        return self.method.score(self.state, histories)

    def lists(
        self, histories: Histories, k: int, *, again: bool = False, allowed: Mask | None = None
    ) -> list[list[Ranked]]:
        """The best items of each customer, best first; customers without history get what is popular.

        Args:
            histories: Customers' rows.
            k: Most items in a list.
            again: Whether items that a customer has had are listed.
            allowed: Which items may be listed besides being sold, bool [items]; None: all.
        """
        warm = np.flatnonzero(histories.lengths)
        result = [self._popular(k, allowed)] * len(histories) if len(warm) < len(histories) else []
        known = histories.select(warm)
        scored = self.score(known)
        listed = self._best(scored.total, nobody(len(known), self.n_items) if again else known, k, allowed)
        found = [self._explained(known, scored, row, listed[row]) for row in range(len(known))]
        if not result:
            return found
        for row, answer in zip(warm, found, strict=True):
            result[row] = answer
        return result

    def popular(self) -> Scored:
        """What ranks for somebody unknown: z-scored log counts of shop and league at the blend's weight."""
        own = league = None
        if self.own is not None:
            own = np.log1p(self.own.counts)[None]
        if self.state is not None and (own is None or self.weight > 0):
            league = self._league(nobody(1, self.n_items))
            if COUNTS in self.state:
                least = float(self.state[FLOOR][0, 0]) if FLOOR in self.state else LEAST
                league = np.log(np.maximum(self.state[COUNTS].T, max(least, 1e-3)))
        return _blended(own, league, self.weight)

    def _popular(self, k: int, allowed: Mask | None) -> list[Ranked]:
        scored = self.popular()
        items = self._best(scored.total, nobody(1, self.n_items), k, allowed)[0]
        items = items[items >= 0]
        parts = _picked(scored, 0, items)
        whys = [
            popular(*(None if part is None else float(part[place]) for part in parts))
            for place in range(len(items))
        ]
        return _ranked(items, scored.total[0, items], whys)

    def related(self, items: Sequence[int], k: int) -> tuple[list[Ranked], str]:
        """What goes with a set of items: what they add to scores, beside what best sellers add on average.

        Where neither model knows them, what resembles them in the public catalogue.

        Args:
            items: Positions in the catalogue, distinct.
            k: Most items in the list.

        Returns:
            The list, and where it comes from: ``interactions``, ``catalogue``, or ``nothing`` if empty.
        """
        basket = Histories(np.array([0, len(items)]), np.array(items, dtype=np.int32), self.n_items)
        own = league = None
        if self.own is not None:
            own = _beside(self.own.score, basket, self.own.counts)
        if self.state is not None and (self.own is None or self.weight > 0):
            counts = self.state[COUNTS][:, 0] if COUNTS in self.state else np.zeros(self.n_items)
            league = _beside(self._league, basket, counts)
        if own is not None or league is not None:
            weight = self.weight if own is not None and league is not None else float(own is None)
            scored = _blended(own, league, weight)
            chosen = self._best(np.where(scored.total > 0, scored.total, -np.inf), basket, k, None)[0]
            answer = self._explained(basket, scored, 0, chosen)
            if answer:
                return answer, "interactions"
        alike = self.content.resembling(basket) if self.content is not None else None
        if alike is None:
            return [], "nothing"
        chosen = self._best(np.where(alike > 0, alike, np.float32(-np.inf)), basket, k, None)[0]
        chosen = chosen[chosen >= 0]
        why = Reason((), "league", "alike in the catalogue")
        return _ranked(chosen, alike[0, chosen], [why] * len(chosen)), "catalogue" if len(
            chosen
        ) else "nothing"

    def _best(self, scores: Scores, seen: Histories, k: int, allowed: Mask | None) -> IntArray:
        """The best allowed items of every customer, int64 [customers, k], padded with -1."""
        masks = [mask for mask in (self.sold, allowed) if mask is not None]
        if masks:
            scores = np.where(np.logical_and.reduce(masks), scores, np.float32(-np.inf))
        listed = top_k(scores, seen, k)
        reached = np.take_along_axis(scores, np.maximum(listed, 0), axis=1)
        return np.where(np.isneginf(reached), -1, listed)

    def _explained(self, histories: Histories, scored: Scored, row: int, items: IntArray) -> list[Ranked]:
        """One customer's list with reasons."""
        items = items[items >= 0]
        one = histories.select(np.array([row]))
        own, league = _picked(scored, row, items)
        own_added = league_added = None
        if own is not None and self.own is not None and scored.own_scale is not None:
            own_added = self.own.contributions(one, items) * scored.own_scale[row]
        if league is not None and self.method is not None and scored.league_scale is not None:
            assert self.state is not None
            league_added = self.method.contributions(self.state, one, items) * scored.league_scale[row]
        whys = reasons(one.row(0).astype(np.int64), items, Parts(own, league, own_added, league_added))
        return _ranked(items, scored.total[row, items], whys)


def nobody(customers: int, n_items: int) -> Histories:
    """Rows of customers who have had nothing."""
    return Histories(np.zeros(customers + 1, dtype=np.int64), np.empty(0, dtype=np.int32), n_items)


def _blended(own: Scores | None, league: Scores | None, weight: float) -> Scored:
    """As ``hansa.recommend.Blend``, with the parts of both models.

    Args:
        own: float32 [customers, items]; None: it does not serve.
        league: Likewise.
        weight: Of the league's, where both serve.
    """
    if own is None or league is None:
        alone = own if own is not None else league
        assert alone is not None
        part, scale = standardise(alone), _scale(alone)
        if own is not None:
            return Scored(alone, own=part, own_scale=scale)
        return Scored(alone, league=part, league_scale=scale)
    first, second = standardise(own), standardise(league)
    mine, theirs = np.float32(1 - weight), np.float32(weight)
    return Scored(
        mix(first, second, weight),
        own=first * mine,
        league=second * theirs,
        own_scale=_scale(own) * mine,
        league_scale=_scale(league) * theirs,
    )


def _scale(scores: Scores) -> Scores:
    spread = scores.std(axis=1, dtype=np.float64)
    scale: Scores = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 1e-12).astype(np.float32)
    return scale


def _beside(scorer: Scorer, basket: Histories, counts: npt.NDArray[np.floating]) -> Scores | None:
    """What a basket adds to scores beside what one best seller does on average; None: nothing at all."""
    scores = scorer(basket)
    if float((scores - scorer(nobody(1, basket.n_items))).std()) <= LEAST_SPREAD:
        return None
    best = np.argsort(-counts, kind="stable")[:SINGLES].astype(np.int32)
    singles = Histories(np.arange(len(best) + 1, dtype=np.int64), best, basket.n_items)
    beside: Scores = scores - scorer(singles).mean(axis=0, keepdims=True)
    return beside


def _picked(scored: Scored, row: int, items: IntArray) -> tuple[Scores | None, Scores | None]:
    own, league = (None if part is None else part[row, items] for part in (scored.own, scored.league))
    return own, league


def _ranked(items: IntArray, scores: Scores, whys: Sequence[Reason]) -> list[Ranked]:
    return [Ranked(int(i), float(s), why) for i, s, why in zip(items, scores, whys, strict=True)]
