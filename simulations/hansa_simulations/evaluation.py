"""Exact evaluation of a simulated run: what shops serve, what was released, and the references.

All of this looks at held-out items without noise, which only a simulation may.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from hansa.metrics import METRICS, Scorer, Values, evaluate, evaluate_candidates, holm, worse_than
from hansa.models.base import Method, State
from hansa.recommend import fit_blend
from hansa.rng import seeded_generator
from hansa.schema import Histories, IntArray, ItemArray
from hansa_simulations.federation import Federation
from hansa_simulations.parallel import over_shops
from hansa_simulations.references import References

QUICK_CUSTOMERS = 1_000
LEVEL = 0.01

Figures = dict[str, Values]
"""Per-customer values of each metric."""


@dataclass(frozen=True)
class Measured:
    """References and what they reach, which is the same for every run on the same data and seed.

    Attributes:
        references: The fitted references.
        figures: Those of ``popularity``, ``alone`` and ``pooled``, one a shop.
    """

    references: References
    figures: Mapping[str, list[Figures]]


class Evaluation:
    """Measures scorers on a federation's held-out items.

    Args:
        federation: The shops.
        customers: Most customers evaluated, evenly spread; None for all.
    """

    def __init__(self, federation: Federation, customers: int | None = None) -> None:
        self.federation = federation
        total = sum(len(shop.train) for shop in federation.shops)
        self._chosen = _spread(federation, min(customers or total, total))
        self._quick = _spread(federation, min(customers or total, total, QUICK_CUSTOMERS))

    def quick(self, learner: Method, state: State) -> float:
        """Mean ndcg@10 of the released model on at most 1,000 customers."""
        parts = over_shops(
            lambda position: self._measure(
                position, lambda rows: learner.score(state, rows), self._quick[position]
            ),
            range(len(self.federation.shops)),
        )
        return _mean(parts, "ndcg@10")

    def measure(self, references: References) -> Measured:
        """The figures of the references themselves."""
        figures = {
            "popularity": self._all(lambda position: references.popularity),
            "alone": self._all(lambda position: references.alone[position].model.score),
            "pooled": self._all(lambda position: references.pooled.score),
        }
        return Measured(references, figures)

    def compare(self, learner: Method, state: State, measured: Measured | None) -> dict[str, Any]:
        """Metrics of everything, gain_kept, and the spread over shops.

        Without references shops have no model of their own here, and ``model`` is the shared one.
        """

        def shared(rows: Histories) -> Any:
            return learner.score(state, rows)

        figures: dict[str, list[Figures]] = {"shared": self._all(lambda position: shared)}
        notes: list[str] = []
        kinds = {}
        if measured is None:
            figures["model"] = figures["shared"]
            notes.append("no references: model is the shared model alone, shops fitted none of their own")
        else:
            references = measured.references
            blends = over_shops(lambda own: fit_blend(learner, state, own), references.alone)
            figures["model"] = self._all(lambda position: blends[position].score)
            figures.update(measured.figures)
            notes += references.notes
            alone = Counter(own.model.kind for own in references.alone)
            kinds = {
                "alone": ", ".join(f"{kind} {count}" for kind, count in alone.most_common()),
                "pooled": references.pooled.kind,
            }
        metrics: dict[str, Any] = dict.fromkeys(("model", "shared", "popularity", "alone", "pooled"))
        for name, parts in figures.items():
            metrics[name] = {metric: _mean(parts, metric) for metric in METRICS}
        return {
            "references": kinds,
            "metrics": metrics,
            "gain_kept": gain_kept(metrics),
            "per_shop": self._per_shop(figures),
            "notes": notes,
        }

    def _all(self, scorer_of: Any) -> list[Figures]:
        return over_shops(
            lambda position: self._measure(position, scorer_of(position), self._chosen[position]),
            range(len(self.federation.shops)),
        )

    def _measure(self, position: int, scorer: Scorer, chosen: IntArray) -> Figures:
        shop = self.federation.shops[position]
        train, held_out = shop.train, shop.held_out
        if len(chosen) < len(train):
            train, held_out = train.select(chosen), held_out.select(chosen)
        if self.federation.candidates is None:
            return evaluate(scorer, train, held_out)
        candidates = self.federation.candidates[position][chosen]
        scores = np.concatenate(
            [
                np.take_along_axis(scorer(rows), picks, axis=1)
                for rows, picks in zip(train.chunks(256), _pieces(candidates, 256), strict=True)
            ]
            or [np.empty(candidates.shape, dtype=np.float32)]
        )
        return evaluate_candidates(scores, candidates.astype(np.int64))

    def _per_shop(self, figures: Mapping[str, Sequence[Figures]]) -> dict[str, Any]:
        if "alone" not in figures:
            return dict.fromkeys(
                ("worse_than_alone", "worse_than_alone_raw", "worst_decile", "best_decile", "gains")
            )
        model = [part["ndcg@10"] for part in figures["model"]]
        alone = [part["ndcg@10"] for part in figures["alone"]]
        generator = seeded_generator(0, "bootstrap")
        p_values = [worse_than(m, a, generator) for m, a in zip(model, alone, strict=True)]
        gains = [
            float(np.nanmean(m - a)) if np.isfinite(m - a).any() else 0.0
            for m, a in zip(model, alone, strict=True)
        ]
        return {
            "worse_than_alone": int(holm(p_values, LEVEL).sum()),
            "worse_than_alone_raw": sum(gain < 0 for gain in gains),
            "worst_decile": float(np.quantile(gains, 0.1)),
            "best_decile": float(np.quantile(gains, 0.9)),
            "gains": gains,
        }


def gain_kept(metrics: Mapping[str, Mapping[str, float] | None]) -> float | None:
    """(model - alone) / (pooled - alone) on ndcg@10; None where pooling does not help or is unknown."""
    model, alone, pooled = (metrics.get(name) for name in ("model", "alone", "pooled"))
    if model is None or alone is None or pooled is None:
        return None
    gain = pooled["ndcg@10"] - alone["ndcg@10"]
    return (model["ndcg@10"] - alone["ndcg@10"]) / gain if gain > 0 else None


def summarise(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One result of several seeds: means of the metrics, ``metrics_sd`` beside them."""
    summary = dict(results[0])
    summary["seeds"] = [result["seed"] for result in results]
    if len(results) == 1:
        return summary
    metrics: dict[str, Any] = {}
    deviations: dict[str, Any] = {}
    for model, figures in results[0]["metrics"].items():
        metrics[model] = deviations[model] = None
        if figures is not None:
            values = {name: [result["metrics"][model][name] for result in results] for name in figures}
            metrics[model] = {name: float(np.mean(value)) for name, value in values.items()}
            deviations[model] = {name: float(np.std(value, ddof=1)) for name, value in values.items()}
    summary["metrics"], summary["metrics_sd"] = metrics, deviations
    summary["gain_kept"] = gain_kept(metrics)
    summary["runs"] = [
        {key: result[key] for key in ("seed", "metrics", "gain_kept", "per_shop", "timing", "history")}
        for result in results
    ]
    ledgers = [result["privacy"]["ledger"] for result in results if result["privacy"].get("ledger")]
    if ledgers:
        summary["privacy"] = {**summary["privacy"], "ledger": max(ledgers, key=_largest)}
    summary["interrupted"] = any(result["interrupted"] for result in results)
    for name in ("worse_than_alone", "worse_than_alone_raw"):
        counts = [result["per_shop"][name] for result in results]
        summary["per_shop"] = {**summary["per_shop"], name: None if None in counts else max(counts)}
    return summary


def _largest(ledger: dict[str, Any]) -> float:
    return -math.inf if ledger["largest"] is None else float(ledger["largest"])


def _spread(federation: Federation, count: int) -> list[IntArray]:
    """Positions of ``count`` customers, evenly spread over all shops."""
    sizes = [len(shop.train) for shop in federation.shops]
    chosen = np.linspace(0, sum(sizes) - 1, count).astype(np.int64) if count else np.empty(0, np.int64)
    ends = np.cumsum([0, *sizes])
    return [chosen[(chosen >= low) & (chosen < high)] - low for low, high in pairwise(ends)]


def _pieces(candidates: ItemArray, size: int) -> list[ItemArray]:
    return [candidates[start : start + size] for start in range(0, len(candidates), size)]


def _mean(parts: Sequence[Figures], metric: str) -> float:
    values = np.concatenate([part[metric] for part in parts])
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
