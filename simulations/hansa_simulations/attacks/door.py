"""The strongest white-box test of the door: with or without one customer, from all that leaves, many times.

The adversary knows everything but one coin: the plan, the public state, all other customers. A canary
customer uses its whole bound in a coordinate of its own. Each release holds many canaries, each in with
probability 1/2: since the noise of an entry says nothing about that of another, each is a trial of its own of
"with one customer or without", and the score of a coordinate, which rises with the likelihood ratio, is the
best there is. What is asked is the shop's own code: ``contribute`` with its ledger, noise and door. The
claim is what the ledger was charged for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.dp.accounting import compose, epsilon
from hansa.dp.integers import Integers
from hansa.dp.ledger import Budget, Ledger
from hansa.dp.ledger.account import event_of
from hansa.dp.private_sum import Contribution, DpModel, Release, finish_central
from hansa.models.base import State
from hansa.models.popularity import Popularity, counts_contribution
from hansa.plan import Plan, make_plan
from hansa.records import Answer, Request
from hansa.rng import Generator, system_generator
from hansa.schema import Histories
from hansa.secagg.masks import add_packed, centre, residue_type
from hansa_client.rounds.training import contribute
from hansa_client.shop import LocalShop
from hansa_simulations.attacks.bounds import Scores, scores_bound
from hansa_simulations.attacks.results import AttackResult, Scalar

DELTA = 1e-5
SHOPS, COLLUDERS = 3, 1
_RUN = "canaries"
_HOUSEHOLD = 8  # customers of the remove-one test
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Loud(Popularity):
    """``popularity`` whose customers push as hard as they can: far beyond the bound, before clipping.

    Attributes:
        loudness: Norm of each contribution over the bound.
        rounds: Equal releases in a run.
    """

    loudness: float = 10.0
    rounds: int = 1

    def releases(self) -> list[Release]:
        """See ``Method``."""
        return super().releases() * self.rounds

    def contributor(self, round_: int, release: Release, state: State) -> Contribution:
        """See ``Method``."""

        def loud(histories: Histories) -> Any:
            quiet: Any = counts_contribution(histories, self.cap)
            return replace(quiet, values=quiet.values * self.loudness)

        return loud


@dataclass(frozen=True)
class Stage:
    """Where canaries are tried: a run at one claim, with the shops and the part of each adversary.

    Attributes:
        dp: The DP model.
        epsilon: What the run is calibrated to; None with ``none``.
        canaries: How many are in each release, each with a coordinate of its own.
        rounds: Equal releases in a run.
        delta: Of the claim.
    """

    dp: DpModel
    epsilon: float | None
    canaries: int
    rounds: int = 1
    delta: float = DELTA

    @cached_property
    def plan(self) -> Plan:
        """The run's plan, whose customers are loud."""
        plan = make_plan(
            run=_RUN,
            method="popularity",
            settings={},
            n_items=self.canaries,
            dp=self.dp,
            epsilon=self.epsilon,
            delta=self.delta,
            shops=SHOPS,
            customers=10 * self.canaries,
            threshold=SHOPS if self.dp == "distributed" else None,
            colluders=COLLUDERS if self.dp == "distributed" else None,
            masked=False,
        )
        learner = Loud(self.canaries, rounds=self.rounds)
        plan.__dict__["learner"] = learner
        plan.__dict__["noise_scale"] = plan.noise_scale * math.sqrt(self.rounds)
        for stale in ("releases", "steps"):  # worked out while the plan was checked
            plan.__dict__.pop(stale, None)
        return plan

    def shop(self, customers: Histories) -> LocalShop:
        """A shop that has accepted the run."""
        ledger = Ledger(Budget(math.inf, self.delta))
        if self.dp != "none":
            ledger.reserve(_RUN, self.plan.steps, {"plan": self.plan.digest})
        return LocalShop(
            name="attacked",
            histories=customers,
            ledger=ledger,
            customers=10 * self.canaries,
            allowed=("local", "distributed", "central", "none"),
            plans={_RUN: self.plan},
            unmasked=True,
        )

    def seen(self, customers: Histories) -> tuple[Scores, set[str], float]:
        """What the adversary has of a run with these customers.

        Returns:
            The released sums together, over their bound: float64 [canaries]. Everything else in the
            shop's answers. The epsilon of what its ledger was charged for.
        """
        asked = self.shop(customers)
        others = [self.shop(_nobody(self.canaries)) for _ in range(SHOPS - COLLUDERS - 1)]
        total, beside = np.zeros(self.canaries), set()
        for number, release in enumerate(self.plan.releases, start=1):
            request = Request(_RUN, number, "", self._state)
            answers = [contribute(shop, request) for shop in [asked, *others]]
            beside.add(_beside(answers[0]))
            total += self._sum(answers, release) / release.bound
        charged = [event_of(draft.body) for draft in asked.ledger.entries() if draft.kind == "charge"]
        if not charged:
            return total, beside, math.inf if self.dp == "none" else 0.0
        return total, beside, epsilon(compose(charged), self.delta)

    @cached_property
    def _state(self) -> State:
        return self.plan.learner.initial_state(system_generator())

    def _sum(self, answers: list[Answer], release: Release) -> Scores:
        """The released sum: of ``distributed`` without the colluders' part, whose noise they know."""
        if self.dp == "distributed":
            bits = self.plan.bits(release)
            words = np.zeros(self.canaries, dtype=residue_type(bits))
            for answer in answers:
                add_packed(words, answer.residues or b"", bits)
            whole: Integers = centre(words, bits)
            return whole.astype(np.float64) * np.float64(release.shared_mechanism.quantum)
        table = answers[0].release
        assert table is not None
        if self.dp == "central":
            table = finish_central(table, release, system_generator())
        return np.asarray(table, dtype=np.float64).ravel()


def attack_door(stage: Stage, trials: int, level: float, coins: Generator) -> AttackResult:
    """Tell runs with a canary from runs without it.

    Args:
        stage: The claim that is tested.
        trials: Canaries that are tried in all, half of them in, about.
        level: Probability that the bound is wrong.
        coins: Says which canaries are in.
    """
    runs = max(2, math.ceil(trials / stage.canaries))
    within, without, beside, claims = [], [], set[str](), set[float]()
    for _ in range(runs):
        present = coins.random(stage.canaries) < 0.5
        total, said, claim = stage.seen(_canaries(present))
        within.append(total[present])
        without.append(total[~present])
        beside |= said
        claims.add(claim)
    with_, less = np.concatenate(within), np.concatenate(without)
    bound, claimed = scores_bound(with_, less, stage.delta, level), min(claims)
    moved = largest_move(stage)
    told = len(beside) > 1
    figures: dict[str, Scalar] = {
        "share_of_claim": bound / claimed if claimed else None,
        "moved_over_bound": moved,
        "noise_over_bound": float(less.std()),
        "means_spread": means_spread(without),
        "answers_differ_beside_the_sum": told,
        "releases": runs * stage.rounds,
    }
    broken = bound > claimed or moved > 1 + _ROUNDING or told
    return AttackResult(
        attack="door",
        method="popularity",
        dp=stage.dp,
        claimed=claimed if math.isfinite(claimed) else None,
        delta=stage.delta,
        bound=None if told else bound,
        confidence=1 - level,
        trials=len(with_) + len(less),
        figures=figures,
        broken=broken,
        words=_words(bound, claimed, moved, told),
    )


def means_spread(releases: list[Scores]) -> float | None:
    """How much more the means of releases spread than those of as many independent numbers: about 1 if so.

    Noise that the entries of a release share would make it much larger, and canaries of one release no
    trials of their own.

    Args:
        releases: Of each the coordinates without a customer.
    """
    whole = np.concatenate(releases)
    if not whole.std() or len(releases) < 2:
        return None
    counts = np.array([len(each) for each in releases])
    means = np.array([each.mean() for each in releases if len(each)])
    squares = counts[counts > 0] * (means - whole.mean()) ** 2
    return float(squares.sum() / (len(means) - 1) / whole.var())


def largest_move(stage: Stage) -> float:
    """How far one customer moves the sum before its noise, at most, over the bound: each is left out once.

    The customers share items and are as loud as the canaries.
    """
    bare = replace(stage, dp="none", epsilon=None, rounds=1, canaries=_HOUSEHOLD)
    rows = [np.roll(np.arange(_HOUSEHOLD), -first)[: first + 1] for first in range(_HOUSEHOLD)]
    whole = bare.seen(_histories(rows))[0]
    left = (bare.seen(_histories(rows[:gone] + rows[gone + 1 :]))[0] for gone in range(_HOUSEHOLD))
    return max(float(np.linalg.norm(whole - each)) for each in left)


def _words(bound: float, claimed: float, moved: float, told: bool) -> str:
    if told:
        return "Something besides the sum differs with the customers: the claim is refuted."
    if moved > 1 + _ROUNDING:
        return f"One customer moves the sum by {moved:.2f} bounds: the claim is refuted."
    if bound > claimed:
        return f"Epsilon is at least {bound:.3f}, more than the {claimed:.3f} that was charged: refuted."
    share = f", {bound / claimed:.0%} of the claim" if math.isfinite(claimed) and claimed else ""
    return f"Epsilon is at least {bound:.3f}{share}; nothing contradicts it."


def _beside(answer: Answer) -> str:
    """Everything of an answer but the numbers of its sum."""
    array = answer.release if answer.release is not None else answer.residues
    form = None if array is None else (getattr(array, "shape", None), getattr(array, "dtype", None))
    size = len(answer.residues) if answer.residues is not None else None
    rest = sorted((name, repr(value)) for name, value in vars(answer).items() if name not in _NUMBERS)
    return repr((rest, form, size))


_NUMBERS = ("release", "residues")


def _canaries(present: npt.NDArray[np.bool_]) -> Histories:
    """One customer for each item whose canary is in."""
    items = np.flatnonzero(present).astype(np.int32)
    return Histories(np.arange(len(items) + 1, dtype=np.int64), items, len(present))


def _nobody(items: int) -> Histories:
    return Histories(np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int32), items)


def _histories(rows: list[npt.NDArray[np.int64]]) -> Histories:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Histories(offsets, np.concatenate(rows).astype(np.int32), _HOUSEHOLD)


def stages(dp: DpModel, epsilons: list[float], canaries: int) -> Iterator[Stage]:
    """One stage for each claim."""
    return (Stage(dp, each, canaries) for each in epsilons)
