"""``hansa audit attack membership`` and ``served``: attacks on customers of a whole federation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hansa.dp.private_sum import DpModel
    from hansa_simulations.federation import Federation

Scenario = Annotated[
    str | None, typer.Option(help="A scenario of 'hansa simulate'. Default: a small generated one.")
]
Shops = Annotated[int, typer.Option(min=2, help="Shops of that scenario.")]
Method = Annotated[list[str] | None, typer.Option(help="Repeat. Default: cooccurrence.")]
Dp = Annotated[
    list[str] | None,
    typer.Option(help="none, local, distributed or central; repeat. Default: none and distributed."),
]
Epsilon = Annotated[list[float] | None, typer.Option(min=0.01, help="A claim; repeat. Default: 1 and 4.")]
Seed = Annotated[int, typer.Option(help="Of who is attacked; noise is always fresh.")]
Out = Annotated[Path | None, typer.Option(help="File for the results, for 'hansa audit report --attacks'.")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as one JSON document.")]

CONFIDENCE = 0.99


def membership(
    scenario: Scenario = None,
    shops: Shops = 10,
    method: Method = None,
    dp: Dp = None,
    epsilon: Epsilon = None,
    shadows: Annotated[int, typer.Option(min=16, help="Models of each claim.")] = 64,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Was a customer among those that the released model was learnt from? By shadow models.

    Every claim has many models, each of a random half of the customers, by the real engine. Printed are a
    lower bound on epsilon, the area under the ROC curve, and how many members are told at a false alarm of
    0.1 % and 1 % for others, beside what the claim allows. Exit code 4 if the bound is above the claim. See
    docs/attacks.md.

    Examples:

        hansa audit attack membership

        hansa audit attack membership --scenario ml-100k --dp none
    """
    from hansa_simulations.attacks.membership import attack_membership, told
    from hansa_simulations.attacks.report import aligned, finish, tell

    federation = load(scenario, shops)
    claims = _claims(method, dp, epsilon)
    results = []
    for name, model, claim in claims:
        tell(f"membership, {name}, {model}, {claim or 'no'} epsilon")
        level = (1 - CONFIDENCE) / len(claims)
        found = attack_membership(federation, name, model, claim, shadows=shadows, seed=seed, level=level)
        results.append(replace(found, confidence=CONFIDENCE))
    heads = ("method", "dp", "claim", "at least", "auc", "told at 0.1 % false alarms", "told at 1 %")
    finish(results, out, json_, aligned([heads, *told(results)]))


def served(
    scenario: Scenario = None,
    shops: Shops = 10,
    method: Method = None,
    dp: Dp = None,
    epsilon: Epsilon = None,
    targets: Annotated[int, typer.Option(min=5, help="Customers that are attacked.")] = 100,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Does what a shop serves tell one customer what another bought? The blend beside the shop alone.

    The adversary asks before and after a purchase for what is similar, goes together, and is recommended.
    Epsilon says nothing of it, but for --serve shared-only. See docs/attacks.md.

    Examples:

        hansa audit attack served

        hansa audit attack served --scenario ml-100k --targets 50
    """
    from hansa_simulations.attacks.report import aligned, finish, tell
    from hansa_simulations.attacks.served import attack_served, told

    federation = load(scenario, shops)
    results = []
    claims = _claims(method, dp or ["distributed"], epsilon or [4.0])
    for name, model, claim in claims:
        tell(f"served, {name}, {model}, {claim or 'no'} epsilon")
        level = (1 - CONFIDENCE) / (4 * len(claims))
        results += attack_served(federation, name, model, claim, targets=targets, seed=seed, level=level)
    results = [replace(result, confidence=CONFIDENCE) for result in results]
    heads = ("method", "dp", "claim", "served", "auc", "told at 1 % false alarms", "advantage")
    finish(results, out, json_, aligned([heads, *told(results)]))


def load(scenario: str | None, shops: int) -> Federation:
    """The federation that is attacked."""
    from hansa_simulations.attacks.faults import small_federation
    from hansa_simulations.federation import load_federation

    if scenario is None:
        return small_federation()
    return load_federation(scenario, shops=shops, protocol="last20", seed=0)


def _claims(
    methods: list[str] | None, models: list[str] | None, epsilons: list[float] | None
) -> list[tuple[str, DpModel, float | None]]:
    from hansa.errors import one_of
    from hansa.plan import DP_MODELS, METHODS

    found: list[tuple[str, DpModel, float | None]] = []
    for name in methods or ["cooccurrence"]:
        if name not in METHODS:
            raise one_of("--method", name, list(METHODS))
        for model in models or ["none", "distributed"]:
            known = next((each for each in DP_MODELS if each == model), None)
            if known is None:
                raise one_of("--dp", model, DP_MODELS)
            claims = [None] if known == "none" else list(epsilons or [1.0, 4.0])
            found += [(name, known, claim) for claim in claims]
    return found
