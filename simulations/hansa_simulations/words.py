"""The words and number formats that the summary and the plot of a result share.

``result`` is always the contract of result.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hansa.figures import delta_text as delta_text
from hansa.figures import epsilon_text as epsilon_text

METRIC = "ndcg@10"
UNIT = "one customer of one shop with all interactions"
MEANING = {
    "model": "what shops serve",
    "shared": "the released model alone",
    "alone": "each shop on its own",
    "popularity": "exact counts, not private",
    "pooled": "all data in one place",
}
TRUST = {
    "central": "the coordinator adds the noise and is trusted (only for simulation)",
    "local": "every shop adds its own noise, nobody is trusted",
    "distributed": "secure aggregation, the sum is private if enough honest shops survive",
    "none": "exact sums leave the shops",
}


def data_line(result: Mapping[str, Any]) -> str:
    """Shops, customers, items and interactions."""
    data = result["data"]
    return ", ".join(count(data[key], noun) for key, noun in _NOUNS.items())


_NOUNS = {"shops": "shop", "users": "customer", "items": "item", "interactions": "interaction"}


def privacy_line(result: Mapping[str, Any]) -> str:
    """Epsilon and delta with their unit and the DP model with whom it trusts, on one line."""
    dp, privacy = result["dp"], result["privacy"]
    if dp == "none":
        return f"No privacy (DP model none: {TRUST['none']})"
    epsilon, delta = epsilon_text(privacy["epsilon"]), delta_text(privacy["delta"])
    return f"epsilon {epsilon}, delta {delta} for {UNIT}; {dp} DP: {TRUST.get(dp, dp)}"


def count(number: int | None, noun: str) -> str:
    """``1 shop``, ``2,417 customers``."""
    if number is None:
        return f"unknown {noun}s"
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def percent(share: float) -> str:
    """Whole percents; one decimal below one percent."""
    return f"{100 * share:.{1 if 0 < abs(share) < 0.01 else 0}f} %"


def signed(value: float) -> str:
    """A difference of metrics, with its sign."""
    return f"{value:+.4f}"


def figure(value: float | None, deviation: float | None = None, *, digits: int = 4) -> str:
    """A metric, with its standard deviation over seeds where there is one."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def deviation(result: Mapping[str, Any], row: str, metric: str) -> float | None:
    """Standard deviation over seeds of one metric of one row; None with a single seed."""
    found: float | None = ((result.get("metrics_sd") or {}).get(row) or {}).get(metric)
    return found


def gain_sentence(result: Mapping[str, Any]) -> str:
    """What joining brought, honestly also where it brought nothing."""
    rows = result["metrics"]
    model, alone, pooled = ((rows.get(name) or {}).get(METRIC) for name in ("model", "alone", "pooled"))
    kept = result["gain_kept"]
    if model is None or alone is None or pooled is None:
        return "What joining brings is unknown: the references were not computed."
    added = f"{METRIC} {signed(model - alone)}"
    if kept is None and pooled > alone:
        return f"The gain kept was not computed; what shops serve has {added} over training alone."
    if kept is None:
        return (
            "The gain kept is undefined: pooling all data does not beat training alone here "
            f"({figure(pooled)} against {figure(alone)}); what shops serve has {added} over it."
        )
    if kept < 0:
        return (
            f"Joining does not pay here: what shops serve is worse than training alone ({added}), "
            f"by {percent(-kept)} of what pooling all data would add."
        )
    if kept > 1:
        return f"Keeps more than pooling all data would add over training alone: {percent(kept)} ({added})."
    return f"Keeps {percent(kept)} of what pooling all data would add over training alone ({added})."
