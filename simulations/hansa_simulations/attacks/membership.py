"""Membership inference on the released model: was this customer among those that it was learnt from?

Shadow federations by the real engine, each on a random half of the customers; the likelihood ratio attack of
Carlini et al. 2022 (arXiv 2112.03570), customer by customer: what a model says of a customer is compared with
what models say that had them, and with what models say that had not. The adversary knows everybody's
histories, plan and settings, and has the released arrays. Half of the models are judged by the other half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from secrets import token_hex

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from hansa.dp.accounting import compose, epsilon
from hansa.dp.ledger import Budget, Ledger
from hansa.dp.ledger.account import event_of
from hansa.dp.private_sum import DpModel, Table
from hansa.figures import declared, default_delta
from hansa.models.base import State
from hansa.plan import DP_MODELS, Plan, make_plan, parse_plan
from hansa.recommended import recommended_settings
from hansa.rng import Generator, Source, seeded_generator
from hansa.schema import Histories
from hansa_client.shop import LocalShop
from hansa_simulations.attacks.results import AttackResult
from hansa_simulations.engine import run_in_process
from hansa_simulations.federation import Federation

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

RATES = (0.001, 0.01)
"""False positive rates at which an attack is judged."""
FEWEST = 32
"""Models that a refutation takes: limits over fewer are too rough."""
_SMALLEST = 1e-9


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
        shadows: How many models; below 32 limits are too rough to refute anything.
        seed: Of who is in which model; noise is the operating system's.
        level: Probability that one of the limits is wrong, about.
        settings: Of the method, beside the recommended ones.
    """
    customers = declared(federation.customers)
    delta = default_delta(customers)
    plan = _plan(federation, method, dp, claim, delta, customers, dict(settings or {}))
    found = train_shadows(federation, plan, shadows, seeded_generator(seed, "shadows"))
    ratios = likelihood_ratios(found)
    figures: dict[str, float | int | str | bool | None] = {
        "auc": area(ratios[found.present], ratios[~found.present])
    }
    bound, refuted = 0.0, False
    for rate in RATES:
        rates = rates_at(ratios, found.present, rate, level / (2 * len(RATES)))
        ceiling = min(1.0, math.exp(min(found.claimed, 700.0)) * rates.false_high + delta)
        figures |= {
            f"tpr_at_{rate:g}": rates.true,
            f"tpr_at_{rate:g}_low": rates.true_low,
            f"tpr_at_{rate:g}_high": rates.true_high,
            f"ceiling_at_{rate:g}": ceiling,
        }
        if rates.true_low > delta:
            bound = max(bound, math.log((rates.true_low - delta) / max(rates.false_high, _SMALLEST)))
        refuted |= rates.true_low > ceiling and shadows >= FEWEST
    claimed = found.claimed if math.isfinite(found.claimed) else None
    return AttackResult(
        attack="membership",
        method=method,
        dp=dp,
        claimed=claimed,
        delta=delta,
        bound=bound,
        confidence=1 - level,
        trials=found.present.size,
        figures=figures,
        broken=refuted,
        words=_words(figures, claimed, refuted),
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
    """Log likelihood ratio of every model and customer: float64 [models, customers].

    Each half of the models is judged by the other. Normal distributions by customer, of the statistics one by
    one; the spread is that within "in" and within "out" together.
    """
    half = len(found.present) // 2
    first, second = slice(None, half), slice(half, None)
    total = np.zeros(found.present.shape)
    for judged, known in ((first, second), (second, first)):
        for values in np.moveaxis(found.said, 2, 0):
            total[judged] += _ratio(values[judged], values[known], found.present[known])
    return total


def _ratio(values: Floats, known: Floats, present: Mask) -> Floats:
    """Of one statistic, by models that are not judged."""
    inside, outside = _mean(known, present), _mean(known, ~present)
    left = known - np.where(present, inside, outside)
    spread = np.sqrt((left**2).sum(axis=0) / max(1, len(known) - 2))
    counts = present.sum(axis=0)
    usable = (spread > 0) & (counts > 0) & (counts < len(known))
    safe = np.where(usable, spread, 1.0)
    ratio = norm.logpdf(values, inside, safe) - norm.logpdf(values, outside, safe)
    return np.asarray(np.where(usable, ratio, 0.0))


def _mean(values: Floats, chosen: Mask) -> Floats:
    return np.asarray((values * chosen).sum(axis=0) / np.maximum(chosen.sum(axis=0), 1))


@dataclass(frozen=True)
class Rates:
    """True and false positive rates with one-sided limits, each at the level that was asked for."""

    true: float
    true_low: float
    true_high: float
    false_high: float


def rates_at(ratios: Floats, present: Mask, rate: float, level: float) -> Rates:
    """Rates at the threshold for a false positive rate.

    The threshold is chosen on the first half of the models and judged on the second. Within a model the
    customers share its noise, so the limits are those of Student's t over models, which are independent.
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


def _words(figures: Mapping[str, object], claimed: float | None, refuted: bool) -> str:
    rate = RATES[-1]
    said = (
        f"Of members {100 * float(figures[f'tpr_at_{rate:g}']):.1f} % are told at a false alarm of "  # type: ignore[arg-type]
        f"{100 * rate:g} % for others"
    )
    if claimed is None:
        return f"{said}; nothing is claimed."
    ceiling = 100 * float(figures[f"ceiling_at_{rate:g}"])  # type: ignore[arg-type]
    if refuted:
        return f"{said}, more than the claim allows ({ceiling:.1f} %): refuted."
    return f"{said}; the claim allows {ceiling:.1f} %."


def told(results: Sequence[AttackResult]) -> list[list[str]]:
    """Rows of a table: claim, area, rates and what the claim allows."""
    rows = []
    for each in results:
        figures = each.figures
        cells = [
            f"{100 * float(figures[f'tpr_at_{rate:g}'] or 0):.2f} % (allowed "
            f"{100 * float(figures[f'ceiling_at_{rate:g}'] or 0):.1f} %)"
            for rate in RATES
        ]
        claim = "none" if each.claimed is None else f"{each.claimed:.3g}"
        rows.append([each.method, each.dp, claim, f"{float(figures['auc'] or 0):.3f}", *cells])
    return rows
