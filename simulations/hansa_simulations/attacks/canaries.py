"""One-run auditing: invented customers, each there by a coin of its own, guessed from one whole run.

Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846). The canaries have a pair of items that nobody else has,
in an otherwise usual federation that the real engine runs once. The adversary is white-box: the plan,
all real customers and every sum as it is released, of every round. Its score of a canary is the inner product
of what is left of each sum, once all that is known is taken away, with what the canary itself would have
contributed at that round's public state. The largest scores are guessed, by their signs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex

import numpy as np
import numpy.typing as npt
import torch

from hansa.dp.accounting import compose, epsilon
from hansa.dp.clipping import Contributions, clip, clipped_sum
from hansa.dp.ledger import Budget, Ledger
from hansa.dp.ledger.account import event_of
from hansa.dp.private_sum import DpModel
from hansa.figures import declared
from hansa.plan import DP_MODELS, Plan, Setting, make_plan, parse_plan, setting_types
from hansa.rng import Source, seeded_generator
from hansa.schema import Histories
from hansa_client.shop import LocalShop
from hansa_simulations.attacks.bounds import Scores, one_run_bound
from hansa_simulations.attacks.moves import ROUNDING, largest_move
from hansa_simulations.attacks.results import AttackResult
from hansa_simulations.attacks.watch import View, Watch
from hansa_simulations.engine import run_in_process, watched
from hansa_simulations.federation import Federation

DELTA = 1e-7
"""Smaller than elsewhere: what the theorem takes for delta grows with the canaries, and eats small levels."""
COLLUDERS = 1
SHARES_GUESSED = (1.0, 0.5, 0.2, 0.1, 0.05)
"""Of the canaries; each is a claim of its own and pays for it in confidence."""
_PAIR = 2
_LEFT_OUT = 6  # of real customers, and of canaries
_CHUNK = 128
_MOST = 20_000_000  # entries of dense contributions that are held at a time


@dataclass(frozen=True)
class Planted:
    """A federation with canaries.

    Attributes:
        real: Each shop's real customers, over the catalogue with the canaries' items.
        canaries: All of them, in or not.
        shop: int64 [canaries]: where each belongs.
        present: bool [canaries]: which are in.
    """

    real: tuple[Histories, ...]
    canaries: Histories
    shop: npt.NDArray[np.int64]
    present: npt.NDArray[np.bool_]

    @property
    def n_items(self) -> int:
        """Items of the catalogue, the canaries' pairs at its end."""
        return self.canaries.n_items

    def histories(self, shop: int) -> Histories:
        """The customers that a shop has."""
        chosen = self.canaries.select((self.shop == shop) & self.present)
        return _joined(self.real[shop], chosen)


def plant(federation: Federation, canaries: int, honest: Sequence[int], seed: int) -> Planted:
    """Deal canaries to honest shops, each with a pair of items of its own, and toss their coins."""
    known = federation.items
    n_items = known + _PAIR * canaries
    items = np.arange(known, n_items, dtype=np.int32)
    pairs = Histories(np.arange(0, _PAIR * canaries + 1, _PAIR, dtype=np.int64), items, n_items)
    coins = seeded_generator(seed, "canaries")
    places = np.asarray(honest, dtype=np.int64)[np.arange(canaries) % len(honest)]
    real = tuple(Histories(s.train.offsets, s.train.items, n_items) for s in federation.shops)
    return Planted(real, pairs, places, coins.random(canaries) < 0.5)


def attack_canaries(
    federation: Federation,
    method: str,
    dp: DpModel,
    claim: float | None,
    *,
    canaries: int = 500,
    settings: dict[str, Setting] | None = None,
    delta: float = DELTA,
    level: float = 0.01,
    seed: int = 0,
) -> AttackResult:
    """Run a federation with canaries once, and see what the right guesses prove.

    Args:
        federation: The real customers.
        method: What is learnt.
        dp: The DP model; ``none`` shows what the attack can do.
        claim: Epsilon that the run is calibrated to; None with ``none``.
        canaries: How many.
        settings: Of the method; the vocabulary is always the whole catalogue.
        delta: Of the claim.
        level: Probability that the bound is wrong.
        seed: Of the coins.
    """
    shops = len(federation.shops)
    honest = tuple(range(shops - COLLUDERS if dp == "distributed" else shops))
    planted = plant(federation, canaries, honest, seed)
    plan = _plan(planted, shops, method, dp, claim, delta, settings or {})
    ledgers = [Ledger(Budget(math.inf, delta)) for _ in range(shops)]
    locals_ = [
        LocalShop(
            name=federation.shops[at].name,
            histories=planted.histories(at),
            ledger=ledgers[at],
            customers=declared(len(planted.real[at])),
            allowed=DP_MODELS,
            unmasked=True,
            noise=Source(),
            coins=Source(),
        )
        for at in range(shops)
    ]
    watch = Watch(plan, honest)
    if dp == "central":
        watch.watch_coordinator()
    run_in_process(plan, locals_, seed=int(token_hex(7), 16), app=watched(watch.look), workers=1)
    views = watch.finish()
    scores, moved = _scores(plan, planted, views), _largest_move(plan, planted, views)
    claimed = None if dp == "none" else max(_charged(ledger, delta) for ledger in ledgers)
    return _result(method, dp, claimed, delta, level, scores, planted.present, moved)


def _plan(
    planted: Planted, shops: int, method: str, dp: DpModel, claim: float | None, delta: float,
    settings: dict[str, Setting],
) -> Plan:  # fmt: skip
    whole: dict[str, Setting] = {"vocabulary": planted.n_items}
    everything = {name: size for name, size in whole.items() if name in setting_types(method)}
    plan = make_plan(
        run=f"canaries-{token_hex(8)}",
        method=method,
        settings={**everything, **settings},
        n_items=planted.n_items,
        dp=dp,
        epsilon=claim,
        delta=delta,
        shops=shops,
        customers=declared(sum(map(len, planted.real)) + len(planted.canaries)),
        threshold=shops if dp == "distributed" else None,
        colluders=COLLUDERS if dp == "distributed" else None,
        masked=False,
    )
    return parse_plan(plan.model_dump_json())  # the one that the apps of this process will read


def _charged(ledger: Ledger, delta: float) -> float:
    events = [event_of(draft.body) for draft in ledger.entries() if draft.kind == "charge"]
    return float(epsilon(compose(events), delta)) if events else 0.0


def _scores(plan: Plan, planted: Planted, views: Sequence[View]) -> Scores:
    """The log likelihood ratio of each canary, were there no other whose coin is unknown; higher is in."""
    scores = np.zeros(len(planted.canaries))
    for view in views:
        release = view.release
        contribution = plan.learner.contributor(view.round, release, view.state)
        own = np.flatnonzero(np.isin(planted.shop, view.shops))
        total = torch.zeros(release.rows, release.width, dtype=torch.float64)
        with torch.no_grad():
            for shop in view.shops:
                chunks = planted.real[shop].chunks(_CHUNK)
                clipped_sum((contribution(chunk) for chunk in chunks), release.bound, total)
            size = max(1, min(_CHUNK, _MOST // (release.rows * release.width)))
            made = [contribution(chunk) for chunk in planted.canaries.select(own).chunks(size)]
            half = clipped_sum(made, release.bound, torch.zeros_like(total)) / 2  # each is in with chance 1/2
            left = torch.from_numpy(view.total) - total - half
            found = np.concatenate([inner_products(each, release.bound, left) for each in made])
        deviation = release.noise_multiplier * release.bound or 1.0
        scores[own] += found / deviation**2
    return scores


def inner_products(contributions: Contributions, bound: float, table: torch.Tensor) -> Scores:
    """Of each customer's clipped contribution with a table: float64 [customers]."""
    (kept,), scale = clip([contributions], bound)
    found: list[torch.Tensor] = []
    for group in kept.groups(scale):
        rows = table[: group.block.shape[1]] if group.rows is None else table[group.rows]
        products = torch.einsum("krw,rw->k", group.block.double(), rows)
        single = (group.values.double() * table[group.spots]).sum(dim=1)
        found.append(products.index_add_(0, group.owners, single))
    return torch.cat(found).numpy()


def _result(
    method: str,
    dp: DpModel,
    claimed: float | None,
    delta: float,
    level: float,
    scores: Scores,
    present: npt.NDArray[np.bool_],
    moved: float,
) -> AttackResult:
    bound, guesses, right = best_bound(scores, present, delta, level)
    most = max(one_run_bound(len(scores), count, count, delta, level / len(SHARES_GUESSED))
               for count in _counts(len(scores)))  # fmt: skip
    far, broken = moved > 1 + ROUNDING, claimed is not None and bound > claimed
    said = f"From one run epsilon is at least {bound:.3f}, of {most:.2f} that so many canaries could show"
    return AttackResult(
        attack="canaries",
        method=method,
        dp=dp,
        claimed=claimed,
        delta=delta,
        bound=bound,
        confidence=1 - level,
        trials=len(scores),
        figures={
            "canaries_in": int(present.sum()),
            "guesses": guesses,
            "right": right,
            "right_of_all": int(((scores > 0) == present).sum()),
            "bound_95": best_bound(scores, present, delta, 0.05)[0],
            "most_it_could_show": most,
            "share_of_claim": bound / claimed if claimed else None,
            "moved_over_bound": moved,
        },
        broken=broken or far,
        words=f"{said}; {_verdict(claimed, moved if far else None, broken)}",
    )


def _verdict(claimed: float | None, moved: float | None, broken: bool) -> str:
    if broken:
        return "more than was charged: the claim is refuted."
    if moved is not None:
        return f"one customer moves a sum by {moved:.2f} bounds: the claim is refuted."
    return "nothing is claimed." if claimed is None else f"nothing contradicts the {claimed:.3f} charged."


def _largest_move(plan: Plan, planted: Planted, views: Sequence[View]) -> float:
    """Over the first and the last view of each kind of release, with a few real customers and canaries."""
    chosen: dict[tuple[str, bool], View] = {}
    for view in views:
        chosen.setdefault((view.release.name, True), view)
        chosen[view.release.name, False] = view
    real, few = planted.real[views[0].shops[0]], np.arange(_LEFT_OUT)
    together = _joined(real.select(few[: len(real)]), planted.canaries.select(few[: len(planted.canaries)]))
    return max(
        largest_move(plan.learner, view.round, view.release, view.state, together) for view in chosen.values()
    )


def best_bound(
    scores: Scores, present: npt.NDArray[np.bool_], delta: float, level: float
) -> tuple[float, int, int]:
    """The best bound over a few fixed numbers of guesses, which share the level.

    Returns:
        The bound, with its number of guesses and of right ones.
    """
    surest = np.argsort(-np.abs(scores), kind="stable")
    right = np.cumsum((scores > 0)[surest] == present[surest])
    found = []
    for count in _counts(len(scores)):
        bound = one_run_bound(len(scores), count, int(right[count - 1]), delta, level / len(SHARES_GUESSED))
        found.append((bound, count, int(right[count - 1])))
    return max(found)


def _counts(canaries: int) -> list[int]:
    return [max(2, int(share * canaries)) for share in SHARES_GUESSED]


def _joined(first: Histories, second: Histories) -> Histories:
    offsets = np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]])
    return Histories(offsets, np.concatenate([first.items, second.items]), second.n_items)
