"""Dishonest shops: what they send to spoil what a league learns, or to have an item recommended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hansa.dp.private_sum import Release, Table
from hansa.models.base import State
from hansa.models.cooccurrence import PAIRS, Cooccurrence
from hansa.models.popularity import COUNTS
from hansa.plan import Plan
from hansa.records import Request
from hansa.rng import Generator, seeded_generator
from hansa.schema import Histories
from hansa_simulations.engine import Forge

HUGE, LOUD, FLIP, HIDDEN = 1e6, 1e3, 10.0, 3.0


@dataclass(frozen=True)
class Aim:
    """What a dishonest shop knows and wants.

    Attributes:
        plan: The run's plan; its method releases counts and pairs.
        target: The item that it wants recommended.
        seed: Of what it draws.
    """

    plan: Plan
    target: int
    seed: int

    def raised(self, release: Release, state: State, honest: Table, amount: float) -> Table:
        """The honest release with ``amount`` more at the target, alone and beside every other item."""
        learner = self.plan.learner
        sent: Table = honest.copy()
        if release.name == COUNTS:
            sent[self.target] += np.float32(amount)
        elif release.name == PAIRS and isinstance(learner, Cooccurrence):
            place = np.flatnonzero(learner.chosen(state) == self.target)
            first, second = np.triu_indices(learner.size, 1)
            sent[np.isin(first, place) | np.isin(second, place)] += np.float32(amount)
        return sent


Forgery = Callable[[Aim, Release, State, Table, Generator], Table]


@dataclass(frozen=True)
class Attack:
    """One way to be dishonest.

    Attributes:
        name: For tables.
        what: The same in a sentence.
        forgery: What is sent in place of a release, given the honest one; None: the honest one.
        invents: Whether the shop invents its customers.
    """

    name: str
    what: str
    forgery: Forgery | None = None
    invents: bool = False

    def forge(self, aim: Aim, position: int) -> Forge | None:
        """What the shop at ``position`` does to its releases; None: it sends what its client computes."""
        forgery = self.forgery
        if forgery is None:
            return None

        def forge(request: Request, honest: Table) -> Table:
            rng = seeded_generator(aim.seed, "dishonest", self.name, position, request.round)
            return forgery(aim, aim.plan.releases[request.round - 1], request.state, honest, rng)

        return forge

    def histories(self, aim: Aim, honest: Histories) -> Histories:
        """What the shop trains on: as many customers as it has, invented ones if it invents them."""
        return invented(honest, aim.target) if self.invents else honest


def invented(honest: Histories, target: int) -> Histories:
    """As many customers, each with the target and one of the items that the shop sells most."""
    customers = len(honest)
    sold = np.bincount(honest.items, minlength=honest.n_items)
    sold[target] = -1
    best = np.argsort(-sold, kind="stable")[:20]
    items = np.stack([best[np.arange(customers) % len(best)], np.full(customers, target)], axis=1)
    return Histories.from_pairs(np.repeat(np.arange(customers), 2), items.ravel(), customers, honest.n_items)


def _hidden(aim: Aim, release: Release, state: State, honest: Table, rng: Generator) -> Table:
    one = release.noise_multiplier * release.bound or float(honest.std())
    return aim.raised(release, state, honest, HIDDEN * one)


ATTACKS = (
    Attack("none", "every shop is honest"),
    Attack(
        "not finite",
        "NaN in every entry",
        lambda aim, release, state, honest, rng: honest * np.float32("nan"),
    ),
    Attack(
        "huge",
        f"normal noise of deviation {HUGE:,.0f} in every entry",
        lambda aim, release, state, honest, rng: (HUGE * rng.standard_normal(honest.shape)).astype(
            np.float32
        ),
    ),
    Attack(
        "opposite",
        f"its honest release times -{FLIP:g}",
        lambda aim, release, state, honest, rng: honest * np.float32(-FLIP),
    ),
    Attack(
        "loud promotion",
        f"{LOUD:,.0f} more at the promoted item, alone and beside every other",
        lambda aim, release, state, honest, rng: aim.raised(release, state, honest, LOUD),
    ),
    Attack(
        "hidden promotion",
        f"{HIDDEN:g} deviations of its noise (without noise, of its entries) more at the same places",
        _hidden,
    ),
    Attack(
        "invented customers",
        "an honest client on as many invented customers, each with the promoted item and a best seller",
        invents=True,
    ),
)
