"""What a question to the operator is about, in figures and in words."""

from __future__ import annotations

from typing import Any

from hansa.dp.ledger import Ledger
from hansa.plan import Plan, parse_plan
from hansa.secagg.parameters import LEAST_SHOPS
from hansa.secagg.roster import Roster
from hansa_client.config import Masking, read_settings
from hansa_client.rounds.payment import dearest
from hansa_client.runtime.approvals import cost, outside_ranges, spent_after
from hansa_client.runtime.decisions import Decisions, Question


def describe(question: Question, decisions: Decisions, ledger: Ledger) -> dict[str, Any]:
    """All that an operator needs in order to decide, as JSON values."""
    if question.kind == "plan":
        return describe_plan(parse_plan(question.body), decisions, ledger)
    if question.kind == "roster":
        return describe_roster(Roster.from_json(question.body), decisions)
    return {"sha256": question.digest}


def describe_plan(plan: Plan, decisions: Decisions, ledger: Ledger) -> dict[str, Any]:
    """A plan, what it costs, and what it would leave."""
    settings, ceiling = read_settings(decisions.home.settings), ledger.ceiling
    after, whole = spent_after(plan, ledger), cost(plan, ceiling.delta)
    repeated = dearest(plan, settings.approvals.repeats, ceiling.delta)
    return {
        "run": plan.run,
        "method": plan.method,
        "settings": dict(plan.settings),
        "dp": plan.dp,
        "epsilon": whole if whole < float("inf") else None,
        "epsilon_with_repeats": repeated if repeated < float("inf") else None,
        "delta": ceiling.delta,
        "noise": min(release.noise_multiplier for release in plan.releases),
        "releases": len(plan.releases),
        "sums": len(plan.steps),
        "shops": plan.shops,
        "threshold": plan.threshold,
        "colluders": plan.colluders,
        "customers": plan.customers,
        "outside": outside_ranges(plan, settings),
        "spent": ledger.spent(),
        "ceiling": ceiling.epsilon,
        "left": None if after is None else max(0.0, ceiling.epsilon - after),
    }


def describe_roster(roster: Roster, decisions: Decisions) -> dict[str, Any]:
    """A roster's shops with their fingerprints, and which rounds the terms of ``shop.toml`` leave."""
    settings, approved = read_settings(decisions.home.settings), decisions.approved_roster()
    before = {} if approved is None else dict(approved.keys)
    vouched = decisions.still_vouched(roster)
    shops = [
        {
            "shop": name,
            "fingerprint": roster.fingerprint(name),
            "mark": "new" if name not in before else "known" if before[name] == key else "changed",
            "vouched": name in vouched,
        }
        for name, key in roster.keys.items()
    ]
    return {
        "shops": shops,
        "gone": sorted(set(before) - set(roster.keys)),
        "protection": [
            protection(len(roster), count, settings.masking) for count in range(1, len(roster) + 1)
        ],
    }


def protection(shops: int, vouched: int, terms: Masking) -> dict[str, Any]:
    """Which rounds a shop may join.

    A shop that is not vouched for may be the coordinator itself under another name. So K, those that are not
    and the curious among the others, is withstood by a round (``hansa.secagg.roster``): k >= K, 2 t > n + k,
    and h = t - k honest shops.

    Args:
        shops: Shops n on the roster.
        vouched: How many of them are vouched for, the own one included.
        terms: The shop's own.

    Returns:
        ``vouched``; ``suspects``, K; and ``threshold``, the least t of a round that the shop joins, None if
        it joins none.
    """
    suspects = shops - vouched + terms.colluders
    threshold = max((shops + suspects) // 2 + 1, suspects + terms.honest, terms.threshold)
    possible = threshold <= shops and shops >= LEAST_SHOPS
    return {"vouched": vouched, "suspects": suspects, "threshold": threshold if possible else None}


def lines(kind: str, found: dict[str, Any]) -> list[str]:
    """The same to be read."""
    if kind == "plan":
        return _plan_lines(found)
    if kind == "roster":
        return _roster_lines(found)
    return [
        f"SHA-256 {found['sha256']}",
        "Ask the coordinator for this number by telephone. The bundle's code never runs here; approving it",
        "lets its runs ask this shop within the ranges of shop.toml.",
    ]


def _plan_lines(found: dict[str, Any]) -> list[str]:
    settings = ", ".join(f"{name}={value}" for name, value in found["settings"].items())
    shown = {
        "run": repr(found["run"]),
        "method": found["method"] + (f" ({settings})" if settings else ""),
        "privacy": f"{found['dp']} noise, epsilon {_number(found['epsilon'])} at delta {found['delta']:.3g}, "
        f"up to {_number(found['epsilon_with_repeats'])} with repeats; {found['sums']} private sums in "
        f"{found['releases']} rounds, noise multiplier {found['noise']:.3g} or more",
        "shops": f"{found['shops']} invited, at most {found['customers']} customers in all",
        "outside": ", ".join(found["outside"]) or "nothing: inside the ranges of shop.toml",
        "budget": f"{found['spent']:.4g} of {found['ceiling']:g} is spent; "
        + (
            "the plan does not fit and would be refused"
            if found["left"] is None
            else f"{found['left']:.4g} would be left"
        ),
    }
    if found["dp"] == "distributed":
        shown["shops"] += f"; a sum takes {found['threshold']} and withstands {found['colluders']} colluding"
    return [f"{name:<10}{value}" for name, value in shown.items()]


def _roster_lines(found: dict[str, Any]) -> list[str]:
    shown = []
    for each in found["shops"]:
        compared = "  (vouched for)" if each["vouched"] else ""
        shown.append(f"{each['mark']:<8}{each['fingerprint']}  {each['shop']}{compared}")
    shown += [f"gone    {name}" for name in found["gone"]]
    return [
        *shown,
        "Call each shop and compare the 40 digits. Every shop that is not vouched for counts as the",
        "coordinator's own, under another name. With this many vouched for, this shop included:",
        *(protection_line(each, len(found["shops"])) for each in found["protection"]),
    ]


def protection_line(found: dict[str, Any], shops: int) -> str:
    """``protection`` in words."""
    may = f"{found['vouched']:>4} of {shops}: {found['suspects']} may side with the coordinator"
    if found["threshold"] is None:
        return f"{may}; no round is joined"
    return f"{may}; rounds of at least {found['threshold']} shops are joined"


def _number(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:.4g}"
