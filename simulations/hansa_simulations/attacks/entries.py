"""One customer alone against every entry of what leaves: with or without them, the same release often.

``door`` needs noise that is independent between entries, and tries many canaries at once. Here there is one,
who is there or not, and everybody else is known; each entry of the released sum is tested by itself. So an
entry that tells of customers without noise, or with too little, is found wherever it is.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hansa.schema import Histories
from hansa_simulations.attacks.bounds import Scores, scores_bound
from hansa_simulations.attacks.door import Stage
from hansa_simulations.attacks.results import AttackResult

ITEMS = 8


def attack_entries(stage: Stage, repeats: int, level: float) -> AttackResult:
    """Tell releases with one customer from releases without, by each entry of the sum.

    Args:
        stage: The claim that is tested; a catalogue of a few items (``ITEMS``) will do.
        repeats: Of each of the two worlds.
        level: Probability that the bound is wrong, over all entries.
    """
    worlds: list[Scores] = []
    beside, claims = [set[str](), set[str]()], set[float]()
    for world, customers in enumerate((_company(stage.canaries, True), _company(stage.canaries, False))):
        sums = []
        for _ in range(repeats):
            total, said, claim = stage.seen(customers)
            sums.append(total)
            beside[world] |= said
            claims.add(claim)
        worlds.append(np.stack(sums))
    bounds = [_either(worlds[0][:, at], worlds[1][:, at], stage.delta, level / stage.canaries)
              for at in range(stage.canaries)]  # fmt: skip
    bound, claimed, told = max(bounds), min(claims), beside[0] != beside[1]
    broken = told or bound > claimed
    return AttackResult(
        attack="entries",
        method="popularity",
        dp=stage.dp,
        claimed=claimed if math.isfinite(claimed) else None,
        delta=stage.delta,
        bound=None if told else bound,
        confidence=1 - level,
        trials=2 * repeats,
        figures={
            "entries": stage.canaries,
            "worst_entry": int(np.argmax(bounds)),
            "share_of_claim": bound / claimed if claimed and math.isfinite(claimed) else None,
            "least_noise": float(min(worlds[0].std(axis=0).min(), worlds[1].std(axis=0).min())),
            "answers_differ_beside_the_sum": told,
        },
        broken=broken,
        words=_words(bound, claimed, told, int(np.argmax(bounds))),
    )


def _either(within: Scores, without: Scores, delta: float, level: float) -> float:
    """The bound whichever way the customer moves the entry."""
    return max(
        scores_bound(within, without, delta, level / 2),
        scores_bound(-within, -without, delta, level / 2),
    )


def _words(bound: float, claimed: float, told: bool, entry: int) -> str:
    if told:
        return "Something besides the sum tells whether a customer is there: the claim is refuted."
    if bound > claimed:
        return (
            f"Entry {entry} alone shows epsilon of at least {bound:.3f}, more than the {claimed:.3f} "
            "charged: the claim is refuted."
        )
    return f"No entry by itself shows more than epsilon {bound:.3f}; nothing contradicts the claim."


def _company(items: int, victim: bool) -> Histories:
    """A customer of each item, and one more of the first."""
    bought: npt.NDArray[np.int32] = np.arange(items, dtype=np.int32)
    if victim:
        bought = np.append(bought, np.int32(0))
    return Histories(np.arange(len(bought) + 1, dtype=np.int64), bought, items)
