"""What a shop can do alone: the best of EASE, popularity and their z-scored mixture on its own data.

Items that it has never sold are ordered by what they resemble in the public catalogue.
It never leaves the shop and needs no noise. It is the reference ``alone``, fitted on everybody's
data the reference ``pooled``, and the shop's half of what it serves. Where an EASE would not fit
into memory, iALS takes its place and ``personal`` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hansa.metrics import Scores, Values, evaluate
from hansa.models.content import Content, Placement
from hansa.models.ease import Ease, EaseProblem
from hansa.models.ials import Ials
from hansa.models.mixture import mix, standardise
from hansa.models.tuning import HoldBack, climb, convincing, hold_back
from hansa.rng import Generator
from hansa.schema import Histories, IntArray

RECENCIES = (0.0, 0.25, 0.5, 1.0, 1.5)
FORETELLING = 0.25
"""Start of the recency where the newest interactions are held back: tastes drift."""
POPULARITY_WEIGHTS = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0)
GAP_FILLING = 0.35
"""Start of lambda where random interactions are held back, relative to the newest."""
JUDGES = 2_000
"""At most about this many customers judge a setting; their number bounds the cost of tuning."""


@dataclass(frozen=True)
class OwnModel:
    """(1 - w) z(personal scores) + w z(popularity), z over the catalogue for each customer.

    Attributes:
        personal: EASE, or iALS for very large data; None if it is not wanted.
        counts: Customers who had each item, float32 [items].
        popularity_weight: w in [0, 1].
        regularisation: lambda of the EASE.
        recency: How a customer's older interactions fade in the query, see ``Histories.matrix``.
        content: What the catalogue says of items without interactions; None: nothing.
        customers: Those it was fitted on.
    """

    personal: Ease | Ials | None
    counts: Scores
    popularity_weight: float
    regularisation: float
    recency: float = 0.0
    content: Content | None = None
    customers: int = 0

    @property
    def kind(self) -> str:
        """Name of what scores: ``ease``, ``ials`` or, with a weight of 1, ``popularity``."""
        if self.popularity_weight == 1 or self.personal is None:
            return "popularity"
        return "ials" if isinstance(self.personal, Ials) else "ease"

    @cached_property
    def popularity(self) -> Scores:
        """z-scored counts, float32 [1, items]."""
        return standardise(self.counts[None])

    @cached_property
    def placement(self) -> Placement | None:
        """Where items go that nobody has had."""
        return None if self.content is None else self.content.placement(self.counts > 0, self.customers)

    def score(self, histories: Histories) -> Scores:
        """float32 [customers, items], on a z-score scale."""
        scores = self._of_interactions(histories)
        return scores if self.placement is None else self.placement.apply(scores, histories)

    def _of_interactions(self, histories: Histories) -> Scores:
        if self.popularity_weight == 1 or self.personal is None:
            return np.repeat(self.popularity, len(histories), axis=0)
        personal = self.personal.score(histories, self.recency)
        return mix(standardise(personal), self.popularity, self.popularity_weight)

    def contributions(self, history: Histories, listed: IntArray) -> Scores:
        """What each item that one customer has had adds to ``score``: float32 [items had, listed].

        Exact where the personal scores are EASE's; what only resembles known items is left out.

        Args:
            history: One customer.
            listed: Positions of the items that are scored.
        """
        nothing = np.zeros((len(history.items), len(listed)), dtype=np.float32)
        if self.popularity_weight == 1 or self.personal is None:
            return nothing
        spread = float(self.personal.score(history, self.recency).std(dtype=np.float64))
        if not spread > 0:
            return nothing
        added = self.personal.contributions(history, self.recency, listed)
        scaled: Scores = added * np.float32((1 - self.popularity_weight) / spread)
        return scaled

    @classmethod
    def fit(
        cls, histories: Histories, rng: Generator | None = None, content: Content | None = None
    ) -> OwnModel:
        """Tune on a slice held back from ``histories``, then refit on all of them.

        Args:
            histories: Training rows, oldest first.
            rng: Draws the slice at random; None holds back each customer's newest fifth.
            content: What the catalogue says of items without interactions.
        """
        return fit_own(histories, rng, content).model

    def refit(self, histories: Histories) -> OwnModel:
        """The same settings fitted on other rows or more interactions."""
        fitted = _fit(histories, self.regularisation, self.popularity_weight, self.recency)
        return replace(fitted, content=self.content)


@dataclass(frozen=True)
class FittedOwn:
    """An own model, and what its settings were chosen with.

    Attributes:
        model: Fitted on everything.
        trial: The same settings fitted on ``split.kept`` alone.
        split: The training interactions in two parts.
    """

    model: OwnModel
    trial: OwnModel
    split: HoldBack


def fit_own(histories: Histories, rng: Generator | None = None, content: Content | None = None) -> FittedOwn:
    """As ``OwnModel.fit``, keeping the trial for choosing a blend."""
    split = hold_back(histories, rng)
    trial = replace(tune(split, newest=rng is None), content=content)
    return FittedOwn(trial.refit(histories), trial, split)


def tune(split: HoldBack, *, newest: bool = True) -> OwnModel:
    """The model with the settings that serve ``split.held`` best, fitted on ``split.kept`` alone.

    Args:
        split: Training interactions in two parts.
        newest: Whether the held part is the newest; only then is the future foretold, which wants
            a start of stronger regularisation than filling gaps does.
    """
    problem = EaseProblem(split.kept)
    judges = split.sample(JUDGES)

    def judge(model: OwnModel) -> Values:
        return evaluate(model.score, judges.kept, judges.held)["ndcg@10"]

    def trial(regularisation: float) -> tuple[OwnModel, Values]:
        model = _fit(problem, regularisation, 0.0, FORETELLING if newest else 0.0)
        return model, judge(model)

    start = default_regularisation(split.kept) * (1.0 if newest else GAP_FILLING)
    best, values = climb(trial, start, 2.0, 4 if problem.feasible else 0)
    for recency in RECENCIES if problem.feasible else ():
        faded = replace(best, recency=recency)
        found = judge(faded)
        if convincing(found, values, errors=0.5):
            best, values = faded, found
    best = replace(best, popularity_weight=default_popularity_weight(split.kept))
    values = judge(best)
    for weight in POPULARITY_WEIGHTS:
        mixed = replace(best, popularity_weight=weight)
        found = judge(mixed)
        if convincing(found, values):
            best, values = mixed, found
    return best


def default_regularisation(histories: Histories) -> float:
    """A public starting lambda from the size of the data: mean history length x n^0.25."""
    n = max(1, len(histories))
    return float(max(1.0, len(histories.items) / n) * n**0.25)


def default_popularity_weight(histories: Histories) -> float:
    """A public starting weight from the size of the data: 0.4 for 20 customers, 0 for 100 and more.

    Few customers know what sells, and next to nothing about what sells together.
    """
    prior = 1 / (1 + (len(histories) / 20) ** 2)
    return min(POPULARITY_WEIGHTS, key=lambda weight: abs(weight - prior))


def _fit(data: Histories | EaseProblem, regularisation: float, weight: float, recency: float) -> OwnModel:
    problem = data if isinstance(data, EaseProblem) else EaseProblem(data)
    histories = problem.histories
    counts = np.bincount(histories.items, minlength=histories.n_items).astype(np.float32)
    personal: Ease | Ials | None = None
    if weight < 1:
        personal = problem.solve(regularisation) if problem.feasible else Ials.fit(histories)
    return OwnModel(personal, counts, weight, regularisation, recency, customers=len(histories))
