"""``hansa client preview``: what the next release would hold, before it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hansa.plan import Plan
    from hansa_client.config import ShopSettings
    from hansa_client.setup.preview import Preview
    from hansa_client.shop import LocalShop

Home = Annotated[
    Path | None, typer.Option("--home", help="The shop's folder. Default: $HANSA_SHOP, or the current one.")
]


def preview(
    home: Home = None,
    plan: Annotated[Path | None, typer.Option("--plan", help="A plan, JSON.")] = None,
    method: Annotated[str | None, typer.Option(help="Or a method with its recommended settings.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Of that method's whole plan.")] = None,
    dp: Annotated[str | None, typer.Option(help="Its DP model: local or distributed.")] = None,
    shops: Annotated[int | None, typer.Option(help="Shops in its league.")] = None,
    round_: Annotated[int | None, typer.Option("--round", help="Of the plan; the first by default.")] = None,
    values: Annotated[
        Path | None, typer.Option("--values", metavar="FILE", help="Write the numbers, too: PRIVATE, .npz.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what the next release would hold: names, sizes, bound, noise, cost, how many customers count.

    Takes the accepted plan that is not through, else one that is given. It is worked out by the functions
    that make releases, with a ledger that is thrown away: nothing is charged, and nothing leaves.

    Examples:

        hansa client preview

        hansa client preview --method cooccurrence --epsilon 2 --dp distributed --shops 12

        hansa client preview --plan plan.json --round 2 --values private.npz
    """
    from dataclasses import replace

    from hansa.dp.ledger.file import LedgerFile
    from hansa_client.config import read_settings
    from hansa_client.deployed import DeployedShop
    from hansa_client.home import ShopHome
    from hansa_client.setup.preview import preview as work_out
    from hansa_client.setup.preview import write_values

    place = ShopHome.found(home)
    settings = read_settings(place.settings)
    # Without a budget the ledger is only looked at: not even a changed ceiling is entered.
    shop = replace(DeployedShop(place)({}), ledger=LedgerFile(place.ledger))
    wanted, number, source = _wanted(shop, settings, plan, method, epsilon, dp, shops)
    seen = work_out(shop, wanted, number if round_ is None else round_)
    if values is not None:
        write_values(values, seen)
    if json_:
        print(json.dumps({"source": source, **seen.to_json()}, indent=2))
        return
    print(f"{source}\n" + "\n".join(_lines(seen)))
    if values is not None:
        print(f"{values}: the numbers with and without noise; PRIVATE, never give it to anybody")


def _wanted(
    shop: LocalShop,
    settings: ShopSettings,
    plan: Path | None,
    method: str | None,
    epsilon: float | None,
    dp: str | None,
    shops: int | None,
) -> tuple[Plan, int, str]:
    from hansa.errors import UsageError
    from hansa.plan import parse_plan
    from hansa.planner.question import Question, plan_of
    from hansa_client.setup.preview import next_release

    if plan is not None:
        try:
            return parse_plan(plan.read_text(encoding="utf-8")), 1, f"the plan in {plan}"
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--plan {plan}: {getattr(error, 'strerror', None) or 'not text'}") from None
    thought = any(given is not None for given in (method, epsilon, dp, shops))
    known = None if thought else next_release(shop)
    if known is not None:
        return (*known, f"the accepted plan {known[0].run}")
    question = Question(
        settings.approvals.shops if shops is None else shops,
        settings.budget.customers,
        shop.histories.n_items,
        settings.approvals.epsilon if epsilon is None else epsilon,
        dp=settings.approvals.dp[0] if dp is None else dp,
        method=method or "cooccurrence",
    )
    return plan_of(question), 1, "no accepted plan waits: one that the options describe"


def _lines(seen: Preview) -> list[str]:
    people = seen.customers
    lines = [
        f"run        {seen.plan.run}: {seen.plan.method}, {seen.plan.dp}, round {seen.round} of "
        f"{len(seen.plan.releases)}",
        f"leaves     {seen.name} [{seen.shape[0]:,} x {seen.shape[1]}] as {seen.record}: "
        f"{seen.bytes:,} bytes",
        f"customers  {people.counted:,} of {people.all:,} count, {people.clipped:,} are clipped; the "
        f"strongest contribution has norm {people.strongest:.4g}, and {people.leaving:.4g} of it counts",
        f"bound      {seen.bound:g} for each customer with everything that is theirs",
        f"noise      {seen.noise}: standard deviation {seen.deviation:.4g} on each number here, "
        f"{seen.whole_deviation:.4g} in all",
        f"costs      epsilon {seen.epsilon:.4g} of this release alone, {seen.plan_epsilon:.4g} of the whole "
        f"plan, at delta {seen.delta:.3g}",
    ]
    if seen.stand_in:
        lines.append("           earlier rounds made up from this shop's own sums: the league's are not here")
    if seen.refusal is not None:
        lines.append(f"refused    {seen.refusal}")
    return lines
