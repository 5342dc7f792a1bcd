"""Check-up of what is installed, and of what a budget would buy."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from hansa import __version__
from hansa.errors import UsageError
from hansa.planner.advice import judge
from hansa.planner.payoff import KINDS, gain_kept
from hansa.planner.question import Question, league_of
from hansa.secagg.parameters import LEAST_SHOPS
from hansa.secagg.roster import Roster
from hansa_client.config import ShopSettings
from hansa_client.home import ShopHome
from hansa_client.invited import read_invitation
from hansa_client.setup.findings import Finding, State

_PACKAGES = ("flwr", "torch", "polars", "sqlalchemy")


def versions() -> Iterator[Finding]:
    """What is installed."""
    told = [f"hansa {__version__}", f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            told.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding("versions", "fail", f"{name} is not installed", "pip install hansa again")
            return
    yield Finding("versions", "ok", ", ".join(told))


def worth(home: ShopHome, settings: ShopSettings) -> Iterator[Finding]:
    """What the largest plan that is allowed could bring, by the planner's law, from public figures."""
    epsilon = min(settings.budget.epsilon, settings.approvals.epsilon)
    shops, assumed = settings.approvals.shops, "at least as many as approvals.shops"
    if home.roster.exists():
        shops, assumed = len(Roster.from_json(home.roster.read_text(encoding="utf-8"))), "as on the roster"
    items = read_invitation(home).items
    for dp in settings.approvals.dp:
        number = max(shops, LEAST_SHOPS) if dp == "distributed" else shops
        question = Question(number, settings.budget.customers, items, epsilon, dp=dp)
        try:
            verdict, _ = judge(question)
            league = league_of(question)
        except UsageError as error:
            yield Finding("worth", "warn", str(error))
            continue
        gains = ", ".join(f"{gain_kept(league, kind):.0%} on {kind.name}" for kind in KINDS)
        told = (
            f"{dp}, epsilon {epsilon:g}, {number} shops ({assumed}) of {settings.budget.customers:,} "
            f"customers: {verdict}; expected of what pooling all data would gain: {gains}"
        )
        fix = f"hansa plan --shops {number} --customers {settings.budget.customers} --items {items} --dp {dp}"
        state: State = "ok" if verdict == "can pay" else "warn"
        yield Finding("worth", state, told, "" if state == "ok" else f"{fix} says what would work")
