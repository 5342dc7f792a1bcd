"""Membership inference on the released model: was this customer among those that it was learnt from?

Shadow federations by the real engine, each on a random half of the customers; the likelihood ratio attack of
Carlini et al. 2022 (arXiv 2112.03570), customer by customer: what a model says of a customer is compared with
what models say that had them, and with what models say that had not. The adversary knows everybody's
histories, plan and settings, and has the released arrays. Models are judged by shadows other than themselves.
The bound on epsilon rests on guesses about models of which the adversary knows no coin (``proven_bound``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from secrets import token_hex

import numpy as np
import numpy.typing as npt
from scipy.stats import t

from hansa.dp.accounting import compose, epsilon
from hansa.dp.ledger import Budget, Ledger
from hansa.dp.ledger.account import event_of
from hansa.dp.private_sum import DpModel, Table
from hansa.figures import declared
from hansa.models.base import State
from hansa.plan import DP_MODELS, Plan, make_plan, parse_plan
from hansa.recommended import recommended_settings
from hansa.rng import Generator, Source, seeded_generator
from hansa.schema import Histories
from hansa_client.shop import LocalShop
from hansa_simulations.attacks.bounds import one_run_bound
from hansa_simulations.attacks.results import AttackResult
from hansa_simulations.engine import run_in_process
from hansa_simulations.federation import Federation

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

DELTA = 1e-7
"""Of the claims: what is proven of guesses takes a term that grows with delta, customers and models."""
RATES = (0.001, 0.01)
"""False positive rates at which an attack is judged."""
_LIMITS = 2 * len(RATES)  # of true and false positives
_TRIED = 12
"""Numbers of guesses that are tried on the earlier models."""


@dataclass(frozen=True)
class Shadows:
    """Models of halves of the customers.

    Attributes:
        present: bool [models, customers], who was in.
        said: float64 [models, customers, statistics], what each model says of each customer.
        claimed: Epsilon of a shop's customer, by its ledger; infinite without privacy.
    """

    present: Mask
    said: Floats
    claimed: float


def attack_membership(
    federation: Federation,
    method: str,
    dp: DpModel,
    claim: float | None,
    *,
    shadows: int = 64,
    seed: int = 0,
    level: float = 0.01,
    settings: Mapping[str, int | float | str] | None = None,
) -> AttackResult:
    """Train shadow models at a claim, and tell members from others.

    Args:
        federation: The customers, half of whom each model has.
        method: The method of learning.
        dp: The DP model; ``none`` shows what the attack can do.
        claim: Epsilon of each run; None with ``none``.
        shadows: How many models; with more of them both bound and limits are closer.
        seed: Of who is in which model; noise is the operating system's.
        level: Probability that the bound is wrong, and, about, that any limit on a rate is.
        settings: Of the method, beside the recommended ones.
    """
    customers = declared(federation.customers)
    plan = _plan(federation, method, dp, claim, DELTA, customers, dict(settings or {}))
    found = train_shadows(federation, plan, shadows, seeded_generator(seed, "shadows"))
    ratios = likelihood_ratios(found)
    figures: dict[str, float | int | str | bool | None] = {
        "auc": area(ratios[found.present], ratios[~found.present])
    }
    bound, guessed = proven_bound(found, DELTA, level)
    figures |= guessed
    refuted = bound > found.claimed
    for rate in RATES:
        rates = rates_at(ratios, found.present, rate, level / _LIMITS)
        ceiling = min(1.0, math.exp(min(found.claimed, 700.0)) * max(rate, rates.false_high) + DELTA)
        figures |= {
            f"tpr_at_{rate:g}": rates.true,
            f"tpr_at_{rate:g}_low": rates.true_low,
            f"tpr_at_{rate:g}_high": rates.true_high,
            f"ceiling_at_{rate:g}": ceiling,
        }
    claimed = found.claimed if math.isfinite(found.claimed) else None
    return AttackResult(
        attack="membership",
        method=method,
        dp=dp,
        claimed=claimed,
        delta=DELTA,
        bound=bound,
        confidence=1 - level,
        trials=found.present.size,
        figures=figures,
        broken=refuted,
        words=_words(figures, claimed, bound),
    )


def _plan(
    federation: Federation,
    method: str,
    dp: DpModel,
    claim: float | None,
    delta: float,
    customers: int,
    settings: dict[str, int | float | str],
) -> Plan:
    plan = make_plan(
        run=f"shadow-{token_hex(8)}",
        method=method,
        settings={**recommended_settings(method, claim, customers), **settings},
        n_items=federation.items,
        dp=dp,
        epsilon=claim,
        delta=delta,
        shops=len(federation.shops),
        customers=customers,
        masked=False,
    )
    return parse_plan(plan.model_dump_json())


def train_shadows(federation: Federation, plan: Plan, models: int, coins: Generator) -> Shadows:
    """So many models, each of customers that are in with probability 1/2."""
    everybody = [shop.train for shop in federation.shops]
    ends = np.cumsum([0, *map(len, everybody)])
    present = coins.random((models, int(ends[-1]))) < 0.5
    said, claimed = [], math.inf
    for members in present:
        parts = [members[low:high] for low, high in pairwise(ends)]
        dealt = zip(federation.shops, parts, strict=True)
        shops = [_shop(shop.name, shop.train.select(part), plan) for shop, part in dealt]
        state = run_in_process(plan, shops, seed=int(token_hex(7), 16), workers=1)
        said.append(np.concatenate([statistics(plan, state, each) for each in everybody]))
        if plan.dp != "none":
            claimed = _charged(shops[0].ledger, plan.delta)
    return Shadows(present, np.stack(said), claimed)


def _shop(name: str, members: Histories, plan: Plan) -> LocalShop:
    return LocalShop(
        name=name,
        histories=members,
        ledger=Ledger(Budget(math.inf, plan.delta)),
        customers=declared(max(1, len(members))),
        allowed=DP_MODELS,
        unmasked=True,
        noise=Source(),
        coins=Source(),
    )


def _charged(ledger: Ledger, delta: float) -> float:
    events = [event_of(draft.body) for draft in ledger.entries() if draft.kind == "charge"]
    return float(epsilon(compose(events), delta))


def statistics(plan: Plan, state: State, customers: Histories) -> Floats:
    """What a released model says of customers: float64 [customers, 2].

    How high it ranks their own items, in standard deviations over all items; and how much of the
    released counts lies on these items, which is the inner product with what they would contribute.
    """
    scores = np.asarray(plan.learner.score(state, customers), dtype=np.float64)
    scores = np.where(np.isfinite(scores), scores, np.nan)
    centred = scores - np.nanmean(scores, axis=1, keepdims=True)
    spread = np.nanstd(scores, axis=1, keepdims=True)
    ranked = np.nan_to_num(centred / np.where(spread > 0, spread, 1.0))
    rows, items = customers.rows_index, customers.items
    lengths = np.maximum(customers.lengths, 1)
    own = np.bincount(rows, ranked[rows, items], minlength=len(customers)) / lengths
    counts: Table | None = state.get("counts")
    held = np.zeros(len(customers))
    if counts is not None:
        weights = counts[items, 0].astype(np.float64)
        held = np.bincount(rows, weights, minlength=len(customers)) / np.sqrt(lengths)
    return np.stack([own, held], axis=1)


def likelihood_ratios(found: Shadows) -> Floats:
    """Log likelihood ratio of every model and customer, by the other models: float64 [models, customers]."""
    every = np.arange(len(found.present))
    return np.concatenate([ratios_by(found, every != one, every == one) for one in every])


def ratios_by(found: Shadows, known: Mask, judged: Mask) -> Floats:
    """Log likelihood ratios by models whose coins are known: float64 [judged models, customers].

    Normal distributions by customer, of the statistics one by one, with one spread around the mean for
    "in" and that for "out". 0 of customers who are in none of the known models, or in all.

    Args:
        found: All models.
        known: bool [models].
        judged: bool [models], others.
    """
    present, total = found.present[known], np.zeros(found.present[judged].shape)
    inside, outside = present.sum(axis=0), (~present).sum(axis=0)
    both = (inside > 0) & (outside > 0)
    for values in np.moveaxis(found.said, 2, 0):
        seen = values[known]
        high = (seen * present).sum(axis=0) / np.maximum(inside, 1)
        low = (seen * ~present).sum(axis=0) / np.maximum(outside, 1)
        spread = ((seen - np.where(present, high, low)) ** 2).sum(axis=0) / max(1, len(seen) - 2)
        usable = both & (spread > 0)
        ratio = (high - low) * (values[judged] - (high + low) / 2) / np.where(usable, spread, 1.0)
        total += np.where(usable, ratio, 0.0)
    return total


def proven_bound(found: Shadows, delta: float, level: float) -> tuple[float, dict[str, int]]:
    """Lower bound on epsilon from guesses about the later half of the models, by the earlier half alone.

    Within a model the customers share its noise, so that their rates have no exact interval. But given the
    earlier models the later ones are together one mechanism, with a coin of its own for each model and
    customer: what is proven of auditing in one run holds (Steinke, Nasr and Jagielski 2023, Theorem 5.2). How
    many of the highest and of the lowest ratios are guessed is chosen on the earlier half.

    Returns:
        The bound, wrong with probability ``level`` at most, and how many guesses there were and were right.
    """
    earlier = np.arange(len(found.present)) < len(found.present) // 2
    present = found.present[~earlier]
    ratios = ratios_by(found, earlier, ~earlier)
    tuning = Shadows(found.present[earlier], found.said[earlier], found.claimed)
    before = likelihood_ratios(tuning)

    def promised(each: int) -> float:
        guesses, right = _right(before, tuning.present, each)
        return one_run_bound(before.size, guesses, right, delta, level)

    most = max(1, min(before.size, ratios.size) // 2)
    guesses, right = _right(
        ratios, present, max(np.unique(np.geomspace(1, most, _TRIED).astype(int)).tolist(), key=promised)
    )
    return one_run_bound(ratios.size, guesses, right, delta, level), {"guesses": guesses, "right": right}


def _right(ratios: Floats, present: Mask, each: int) -> tuple[int, int]:
    """How many guesses, and right ones, if the ``each`` highest are called in and the lowest out."""
    order, inside = np.argsort(ratios, axis=None, kind="stable"), present.ravel()
    return 2 * each, int(inside[order[-each:]].sum() + (~inside[order[:each]]).sum())


@dataclass(frozen=True)
class Rates:
    """True and false positive rates with one-sided limits at about the level that was asked for."""

    true: float
    true_low: float
    true_high: float
    false_high: float


def rates_at(ratios: Floats, present: Mask, rate: float, level: float) -> Rates:
    """Rates at the threshold for a false positive rate.

    The threshold is chosen on the first half of the models and judged on the second. Within a model the
    customers share its noise, so the limits are those of Student's t over models, which are independent.
    Where few are false they are no exact limits, so that no claim is refuted by them, see ``proven_bound``.
    """
    half = len(ratios) // 2
    threshold = np.quantile(ratios[:half][~present[:half]], 1 - rate)
    above, members = ratios[half:] > threshold, present[half:]
    true, false = _mean_by_model(above, members), _mean_by_model(above, ~members)
    return Rates(
        true=float(true.mean()),
        true_low=max(0.0, _limit(true, -1, level)),
        true_high=min(1.0, _limit(true, 1, level)),
        false_high=min(1.0, max(_limit(false, 1, level), 1 / float((~members).sum()))),
    )


def _mean_by_model(above: Mask, among: Mask) -> Floats:
    return np.asarray((above & among).sum(axis=1) / np.maximum(among.sum(axis=1), 1))


def _limit(rates: Floats, side: int, level: float) -> float:
    spread = rates.std(ddof=1) / math.sqrt(len(rates))
    return float(rates.mean() + side * t.ppf(1 - level, len(rates) - 1) * spread)


def area(members: Floats, others: Floats) -> float:
    """Area under the ROC curve: how often a member scores above another."""
    order = np.sort(others)
    below = np.searchsorted(order, members, side="left") + np.searchsorted(order, members, side="right")
    return float(below.mean() / (2 * len(order)))


def _words(figures: Mapping[str, object], claimed: float | None, bound: float) -> str:
    rate = RATES[-1]
    said = (
        f"Of members {100 * float(figures[f'tpr_at_{rate:g}']):.1f} % are told at a false alarm of "  # type: ignore[arg-type]
        f"{100 * rate:g} % for others"
    )
    if claimed is None:
        return f"{said}; nothing is claimed."
    if bound > claimed:
        return f"{said}; epsilon is at least {bound:.3f}, more than the {claimed:.3f} claimed: refuted."
    ceiling = 100 * float(figures[f"ceiling_at_{rate:g}"])  # type: ignore[arg-type]
    return f"{said}; the claim allows {ceiling:.1f} %."


def told(results: Sequence[AttackResult]) -> list[list[str]]:
    """Rows of a table: claim, lower bound on epsilon, area, rates and what the claim allows."""
    rows = []
    for each in results:
        figures = each.figures
        cells = [
            f"{100 * float(figures[f'tpr_at_{rate:g}'] or 0):.2f} % (allowed "
            f"{100 * float(figures[f'ceiling_at_{rate:g}'] or 0):.1f} %)"
            for rate in RATES
        ]
        claim = "none" if each.claimed is None else f"{each.claimed:.3g}"
        bound, curve = f"{each.bound or 0:.3f}", f"{float(figures['auc'] or 0):.3f}"
        rows.append([each.method, each.dp, claim, bound, curve, *cells])
    return rows
