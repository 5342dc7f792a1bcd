"""A customer attacks what the same shop serves: did a certain other customer buy a certain item?

After Calandrino et al. 2011 ("You might also like", IEEE S&P). The adversary knows some items that the target
has, and asks the shop before and after the target's purchase: what is ``similar`` to each of them, what goes
``together`` with all of them, and what is recommended to an account that has just these. How far the
suspected item has risen is the score, each kind of answer counting alike. The shop's own serving code
answers, in three set-ups side by side: the blend that a member of the league serves, the shop alone, and
``shared-only``. Epsilon says nothing of the first two, which use exact data. The league is trained anew for
each trial, with the noise of its claim. Reasons name items of the asker's own history, so they tell nothing
more of others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.dp.ledger import Budget, Ledger
from hansa.dp.private_sum import DpModel
from hansa.figures import declared, default_delta
from hansa.models.base import State
from hansa.models.own import FittedOwn, fit_own
from hansa.plan import DP_MODELS, Plan, make_plan, parse_plan
from hansa.recommend import fit_blend
from hansa.recommended import recommended_settings
from hansa.rng import Generator, Source, seeded_generator
from hansa.schema import Histories
from hansa_client.serving.lists import Ranked, Serving
from hansa_client.shop import LocalShop
from hansa_simulations.attacks.bounds import clopper_pearson
from hansa_simulations.attacks.membership import area
from hansa_simulations.attacks.results import AttackResult
from hansa_simulations.engine import run_in_process
from hansa_simulations.federation import Federation

Floats = npt.NDArray[np.float64]
SETUPS = ("blend", "alone", "shared-only")
_PROBES, _LISTED, _LEAST = 5, 20, 4
_ALARM = 0.01
_MEANING = {
    "blend": "what a member of the league serves",
    "alone": "what the shop serves without any league",
    "shared-only": "what --serve shared-only serves",
}


@dataclass(frozen=True)
class Target:
    """A customer whose purchase is to be inferred.

    Attributes:
        customer: Position in the shop.
        known: Items that the adversary knows of.
        item: The item that is suspected: the rarest that the customer has.
        other: What the customer has in its place in the other world: as rare, and nobody's suspicion.
    """

    customer: int
    known: npt.NDArray[np.int32]
    item: int
    other: int


def attack_served(
    federation: Federation,
    method: str,
    dp: DpModel,
    claim: float | None,
    *,
    targets: int = 100,
    seed: int = 0,
    level: float = 0.01,
) -> list[AttackResult]:
    """Infer purchases of customers of the largest shop, from each set-up's lists.

    Args:
        federation: The shops.
        method: How the league learns.
        dp: Its DP model.
        claim: Epsilon of each of its runs; None with ``none``.
        targets: How many customers are attacked, each in both worlds.
        seed: Of the choice of targets and items; noise is the operating system's.
        level: Probability that a limit on a rate is wrong.
    """
    place = max(range(len(federation.shops)), key=lambda at: len(federation.shops[at].train))
    whole = federation.shops[place].train
    league = _League(federation, place, method, dp, claim)
    fitted = fit_own(whole)
    weight = fit_blend(league.plan.learner, league.train(whole), fitted).weight
    chosen = _targets(whole, targets, seeded_generator(seed, "targets"))
    risen: dict[str, list[tuple[float, float]]] = {name: [] for name in SETUPS}
    for target in chosen:
        worlds = (
            _without(whole, target, None),
            _without(whole, target, target.other),
            whole,
        )
        seen = [_answers(league, fitted, weight, histories, target) for histories in worlds]
        for name in SETUPS:
            before, innocent, guilty = (answer[name] for answer in seen)
            risen[name].append((guilty - before, innocent - before))
    return [
        _result(name, method, dp, claim, league.plan.delta, risen[name], weight, level) for name in SETUPS
    ]


@dataclass(frozen=True)
class _League:
    """Trains the league with one shop's data exchanged."""

    federation: Federation
    place: int
    method: str
    dp: DpModel
    claim: float | None

    @property
    def plan(self) -> Plan:
        """A plan for one more run."""
        customers = declared(self.federation.customers)
        plan = make_plan(
            run=f"served-{token_hex(8)}",
            method=self.method,
            settings=recommended_settings(self.method, self.claim, customers),
            n_items=self.federation.items,
            dp=self.dp,
            epsilon=self.claim,
            delta=default_delta(customers),
            shops=len(self.federation.shops),
            customers=customers,
            masked=False,
        )
        return parse_plan(plan.model_dump_json())

    def train(self, histories: Histories) -> State:
        """The released model where the attacked shop has these histories."""
        plan = self.plan
        shops = [
            LocalShop(
                name=shop.name,
                histories=histories if at == self.place else shop.train,
                ledger=Ledger(Budget(math.inf, plan.delta)),
                customers=declared(len(shop.train)),
                allowed=DP_MODELS,
                unmasked=True,
                noise=Source(),
                coins=Source(),
            )
            for at, shop in enumerate(self.federation.shops)
        ]
        return run_in_process(plan, shops, seed=int(token_hex(7), 16), workers=1)


def _targets(histories: Histories, count: int, random: Generator) -> list[Target]:
    """Customers with enough items, whose rarest item is suspected; as rare ones stand in for it."""
    popularity = np.bincount(histories.items, minlength=histories.n_items)
    enough = np.flatnonzero(histories.lengths >= _LEAST)
    chosen = random.permutation(enough)[:count]
    found = []
    for customer in chosen:
        row = histories.row(int(customer))
        item = int(row[np.argmin(popularity[row])])
        near = np.abs(popularity - popularity[item]) + 1e9 * np.isin(np.arange(histories.n_items), row)
        alike = np.flatnonzero(near == near.min())
        rest = row[row != item]
        known = random.permutation(rest)[:_PROBES].astype(np.int32)
        found.append(Target(int(customer), known, item, int(random.choice(alike))))
    return found


def _without(histories: Histories, target: Target, other: int | None) -> Histories:
    """The histories with the suspected item replaced, or removed."""
    where = np.flatnonzero((histories.rows_index == target.customer) & (histories.items == target.item))[0]
    if other is not None:
        items = histories.items.copy()
        items[where] = other
        return replace(histories, items=items)
    offsets = histories.offsets.copy()
    offsets[target.customer + 1 :] -= 1
    return replace(histories, offsets=offsets, items=np.delete(histories.items, where))


def _answers(
    league: _League, fitted: FittedOwn, weight: float, histories: Histories, target: Target
) -> dict[str, float]:
    """How high the suspected item stands in the answers of each set-up, see ``_standing``."""
    own, state, method = fitted.model.refit(histories), league.train(histories), league.plan.learner
    plain: dict[str, Any] = {"n_items": histories.n_items}
    setups = {
        "blend": Serving(**plain, own=own, method=method, state=state, weight=weight),
        "alone": Serving(**plain, own=own),
        "shared-only": Serving(**plain, own=None, method=method, state=state),
    }
    return {name: _standing(serving, target) for name, serving in setups.items()}


def _standing(serving: Serving, target: Target) -> float:
    """Sum of reciprocal ranks of the suspected item: what is similar to a known one on average, what goes
    together with all of them, and what is recommended to an account that has just these."""
    known = target.known.tolist()
    similar = [_reciprocal(serving.related([probe], _LISTED)[0], target.item) for probe in known]
    together = _reciprocal(serving.related(known, _LISTED)[0], target.item)
    account = Histories(np.array([0, len(known)], dtype=np.int64), target.known, serving.n_items)
    recommended = _reciprocal(serving.lists(account, _LISTED)[0], target.item)
    return sum(similar) / len(similar) + together + recommended


def _reciprocal(listed: Sequence[Ranked], item: int) -> float:
    places = [place for place, ranked in enumerate(listed, start=1) if ranked.item == item]
    return 1 / places[0] if places else 0.0


def _result(
    setup: str,
    method: str,
    dp: DpModel,
    claim: float | None,
    delta: float,
    risen: Sequence[tuple[float, float]],
    weight: float,
    level: float,
) -> AttackResult:
    guilty, innocent = (np.array(column) for column in zip(*risen, strict=True))
    half = len(innocent) // 2
    threshold = float(np.quantile(innocent[:half], 1 - _ALARM, method="higher"))
    hits, alarms = int((guilty[half:] > threshold).sum()), int((innocent[half:] > threshold).sum())
    judged = len(guilty) - half
    low, high = clopper_pearson(hits, judged, level)
    _, false = clopper_pearson(alarms, judged, level)
    # Two models are seen, before and after: twice the claim. One item in place of another is one customer
    # removed and one added: twice that, and each way's delta.
    seen = min(2 * (claim or math.inf), 300.0)
    ceiling = min(1.0, math.exp(2 * seen) * false + (1 + math.exp(seen)) * 2 * delta)
    best, cut = _advantage(guilty, innocent)
    tpr = hits / judged
    covered = "covered by the claim" if setup == "shared-only" else "epsilon says nothing of it"
    return AttackResult(
        attack="served",
        method=method,
        dp=dp,
        claimed=claim if setup == "shared-only" else None,
        delta=delta,
        bound=None,
        confidence=1 - level,
        trials=2 * len(guilty),
        figures={
            "setup": setup,
            "auc": area(guilty, innocent),
            f"tpr_at_{_ALARM:g}": tpr,
            f"tpr_at_{_ALARM:g}_low": low,
            f"tpr_at_{_ALARM:g}_high": high,
            "fpr": alarms / judged,
            "ceiling": ceiling if setup == "shared-only" else None,
            "advantage": best,
            "advantage_at": cut,
            "weight": 0.0 if setup == "alone" else 1.0 if setup == "shared-only" else weight,
        },
        broken=setup == "shared-only" and low > ceiling,
        words=f"Of {_MEANING[setup]}: {100 * tpr:.0f} % of purchases are told at a false alarm of "
        f"{100 * _ALARM:g} %; {covered}.",
    )


def _advantage(guilty: Floats, innocent: Floats) -> tuple[float, float]:
    """The largest true minus false positive rate, and its threshold: chosen with hindsight, so optimistic."""
    cuts = np.unique(np.concatenate([guilty, innocent]))
    gains = [(float((guilty > cut).mean() - (innocent > cut).mean()), float(cut)) for cut in cuts]
    return max(gains, default=(0.0, 0.0))


def _served_by(result: AttackResult) -> str:
    """The set-up; of the blend with the league's share, which is 0 where the shop serves alone after all."""
    setup, weight = result.figures["setup"], float(result.figures["weight"] or 0)
    return f"{setup}, {weight:.0%} of the league" if setup == "blend" else str(setup)


def told(results: Sequence[AttackResult]) -> list[list[str]]:
    """Rows of a table: claim, set-up, area, share of purchases that are told."""
    rows = []
    for each in results:
        figures = {name: float(value) for name, value in each.figures.items() if isinstance(value, float)}
        rate, low, high = (100 * figures[f"tpr_at_{_ALARM:g}{end}"] for end in ("", "_low", "_high"))
        rows.append(
            [
                each.method,
                each.dp,
                "-" if each.claimed is None else f"{each.claimed:g}",
                _served_by(each),
                f"{figures['auc']:.3f}",
                f"{rate:.0f} % ({low:.0f} to {high:.0f})",
                f"{figures['advantage']:.2f}",
            ]
        )
    return rows
