"""Faults planted into the real code, and which attack catches which.

Each fault is a context manager that breaks one line of what protects customers, for every shop of this
process. An attack that nothing can fail is worth nothing: here each has to tell a broken Hansa from the real
one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import hansa.dp.clipping
import hansa.dp.noise
import hansa.dp.private_sum
import hansa.dp.rounding
import hansa_client.rounds.training
from hansa.dp.integers import IntegerSkellam
from hansa.dp.private_sum import Door, DpModel
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa_simulations.attacks.canaries import attack_canaries
from hansa_simulations.attacks.door import Stage, attack_door
from hansa_simulations.attacks.entries import ITEMS, attack_entries
from hansa_simulations.attacks.moves import ROUNDING
from hansa_simulations.attacks.results import AttackResult
from hansa_simulations.federation import DataSettings, Federation, load_federation
from hansa_simulations.synthetic_parameters import SyntheticParameters

EPSILON = 2.0
ROUNDS = 16
"""Of the runs in which more than one sum is charged for, or should be."""
_GRADIENTS = 7  # of the canaries' runs
DP: tuple[DpModel, ...] = ("local", "distributed", "central")


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def less_noise(factor: float) -> Iterator[None]:
    """Noise of ``factor`` times the deviation that is charged for."""
    normals = hansa.dp.noise._Normals
    draw, share = normals.draw, IntegerSkellam.share

    def quieter(self: Any, keystream: Any, block: int, deviation: float) -> Any:
        return draw(self, keystream, block, factor * deviation)

    def smaller(self: IntegerSkellam, honest: int) -> float:
        return factor**2 * share(self, honest)

    with _replaced(normals, "draw", quieter), _replaced(IntegerSkellam, "share", smaller):
        yield


@contextmanager
def looser_clipping(factor: float) -> Iterator[None]:
    """Contributions clipped to ``factor`` times the bound, past the second look at whole numbers too."""
    clip, add = hansa.dp.clipping.clip, hansa.dp.rounding._add

    def loose(parts: Any, bound: float, times: float = 1.0) -> Any:
        return clip(parts, factor * bound, times)

    def lenient(group: Any, squared: int, total: Any, coins: Any) -> None:
        add(group, int(factor**2 * squared), total, coins)

    with (
        _replaced(hansa.dp.clipping, "clip", loose),
        _replaced(hansa.dp.rounding, "clip", loose),
        _replaced(hansa.dp.rounding, "_add", lenient),
    ):
        yield


@contextmanager
def counter_beside() -> Iterator[None]:
    """The exact number of customers in a field of each answer."""

    def counting(shop: Any, plan: Any, round_: int, charges: Any = None) -> str:
        return str(len(shop.histories))

    with _replaced(hansa_client.rounds.training, "statement", counting):
        yield


@contextmanager
def counter_inside() -> Iterator[None]:
    """The exact number of customers in place of the last entry of each sum, after the noise."""
    bare, masked = Door.private_sum, Door.masked_sum

    def counted(self: Door, release: Any, contribution: Any, histories: Histories) -> Any:
        table = bare(self, release, contribution, histories)
        table[-1, -1] = release.bound * len(histories)
        return table

    def counted_words(self: Door, release: Any, contribution: Any, histories: Histories, share: Any) -> Any:
        words = masked(self, release, contribution, histories, share)
        words[-1] = len(histories) * release.shared_mechanism.scale
        return words

    with _replaced(Door, "private_sum", counted), _replaced(Door, "masked_sum", counted_words):
        yield


@contextmanager
def charged_once() -> Iterator[None]:
    """Several sums of a run, of which the first alone is charged."""
    charge = Door._charge

    def first(self: Door, release: Any) -> None:
        if not self.ledger.reservations[self.run].charged:
            charge(self, release)

    with _replaced(Door, "_charge", first):
        yield


@contextmanager
def leaking_state() -> Iterator[None]:
    """A buffer that is not emptied: each customer also has what the one before had."""
    contributions = Door._contributions

    def leaking(self: Door, contribution: Any, histories: Histories) -> Any:
        rows = [histories.row(at) for at in range(len(histories))]
        joined = [np.union1d(row, rows[at - 1]) if at else row for at, row in enumerate(rows)]
        offsets = np.cumsum([0, *map(len, joined)]).astype(np.int64)
        items = np.concatenate([np.empty(0, dtype=np.int32), *joined]).astype(np.int32)
        return contributions(self, contribution, Histories(offsets, items, histories.n_items))

    with _replaced(Door, "_contributions", leaking):
        yield


CHARGED_ONCE = "sums charged once"
FAULTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "no noise": partial(less_noise, 0.01),
    "noise halved": partial(less_noise, 0.5),
    "clipping off by 4": partial(looser_clipping, 4.0),
    "a counter beside the sum": counter_beside,
    "a counter inside the sum": counter_inside,
    CHARGED_ONCE: charged_once,
    "state leaking between customers": leaking_state,
}
NONE = "none planted"


@dataclass(frozen=True)
class Caught:
    """What each attack makes of a fault under a DP model.

    Attributes:
        fault: Its name, or ``NONE``.
        dp: The DP model.
        by: For each attack, whether it refutes the claim.
        results: Everything that they found.
    """

    fault: str
    dp: str
    by: dict[str, bool]
    results: list[AttackResult]


def try_fault(
    fault: str,
    dp: DpModel,
    federation: Federation,
    *,
    trials: int,
    repeats: int,
    level: float,
    seed: int = 0,
) -> Caught:
    """Let every attack at a Hansa with one fault.

    The attacks on the door and by canaries are told apart by what refutes: many trials of the sum, or
    guesses; the sum before its noise with each customer left out once; or what stands beside the sum.

    Args:
        fault: One of ``FAULTS``, or ``NONE``.
        dp: The DP model.
        federation: For the canaries.
        trials: Of the attack on the door.
        repeats: Of each world of the attack on single entries.
        level: Probability that a bound of any of the three attacks is wrong.
        seed: Of the coins.
    """
    with FAULTS[fault]() if fault != NONE else nullcontext():
        rounds = ROUNDS if fault in (NONE, CHARGED_ONCE) else 1
        stage = Stage(dp, EPSILON, min(trials, 20_000), rounds=rounds)
        door = attack_door(stage, trials, level / 3, seeded_generator(seed, "door", fault))
        entries = attack_entries(Stage(dp, EPSILON, ITEMS, rounds=1), repeats, level / 3)
        canaries = attack_canaries(
            federation,
            "dpsgd",
            dp,
            EPSILON,
            settings={"gradient_rounds": _GRADIENTS, "dimensions": 8},
            level=level / 3,
            seed=seed,
        )
    by = {
        "door: trials": _beyond(door),
        "door: one left out": _far(door),
        "door: beside the sum": bool(door.figures["answers_differ_beside_the_sum"]),
        "entries": entries.broken,
        "canaries: guesses": _beyond(canaries),
        "canaries: one left out": _far(canaries),
    }
    return Caught(fault, dp, by, [door, entries, canaries])


def _beyond(result: AttackResult) -> bool:
    return result.bound is not None and result.bound > (result.claimed or 0.0)


def _far(result: AttackResult) -> bool:
    moved = result.figures["moved_over_bound"]
    return isinstance(moved, float) and moved > 1 + ROUNDING


def small_federation(seed: int = 0) -> Federation:
    """A few hundred generated customers of four shops, among whom canaries hide."""
    parameters = SyntheticParameters(customers=400, items=200, shops=4)
    return load_federation("synthetic", seed=seed, settings=DataSettings(synthetic=parameters))


def try_all(
    dps: Sequence[DpModel],
    *,
    trials: int,
    repeats: int,
    confidence: float,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Caught]:
    """Every fault, and none, under each DP model; the confidence is that of all bounds together."""
    federation = small_federation(seed)
    cases = [(fault, dp) for fault in (NONE, *FAULTS) for dp in dps]
    found = []
    for fault, dp in cases:
        tell(f"{fault}, {dp}")
        level = (1 - confidence) / len(cases)
        found.append(try_fault(fault, dp, federation, trials=trials, repeats=repeats, level=level, seed=seed))
    return found


def as_expected(found: Sequence[Caught]) -> list[str]:
    """What is wrong: faults that no attack caught, and claims refuted where nothing was planted."""
    missed = [
        f"{each.fault} ({each.dp}): no attack caught it"
        for each in found
        if each.fault != NONE and not any(each.by.values())
    ]
    wronged = [
        f"{each.dp}: {name} refutes a claim although no fault was planted"
        for each in found
        for name, caught in each.by.items()
        if each.fault == NONE and caught
    ]
    return missed + wronged
