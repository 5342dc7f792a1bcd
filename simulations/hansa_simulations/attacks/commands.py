"""``hansa audit attack``: attacks that test what is claimed, each a command of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.errors import UsageError, VerificationError, one_of
from hansa_simulations.attacks.population_commands import membership, served

if TYPE_CHECKING:
    from hansa.dp.private_sum import DpModel
    from hansa.plan import Setting
    from hansa_simulations.attacks.results import AttackResult

app = typer.Typer(no_args_is_help=True, help="Attack the claim: what can be proved against it?")
app.command()(membership)
app.command()(served)

Dp = Annotated[
    list[str] | None,
    typer.Option(help="local, distributed, central or none; repeat. Default: the first three."),
]
Epsilon = Annotated[list[float] | None, typer.Option(min=0.01, help="A claim; repeat. Default: 1, 2, 4, 8.")]
Seed = Annotated[int, typer.Option(help="Of the coins that say who is in; noise is always fresh.")]
Out = Annotated[Path | None, typer.Option(help="File for the results, for 'hansa audit report --attacks'.")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as one JSON document.")]

PRIVATE = ["local", "distributed", "central"]
CONFIDENCE = 0.99
"""Of all bounds of one command together."""
FEW_ROUNDS: dict[str, dict[str, Setting]] = {
    "dpsgd": {"gradient_rounds": 6},
    "hybrid": {"refinement_share": 0.4, "refinement_rounds": 3, "dimensions": 16, "rank": 64},
}
"""Settings with which the canaries' runs are short, and every kind of release is in them."""


@app.command()
def door(
    dp: Dp = None,
    epsilon: Epsilon = None,
    trials: Annotated[int, typer.Option(min=1_000, help="Of each claim.")] = 5_000_000,
    repeats: Annotated[
        int, typer.Option(min=50, help="Of each world, where one customer is tried alone.")
    ] = 500,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """The strongest test of one release: with or without one customer, from everything that leaves a shop.

    Many releases by the shop's own code, at each claim, with customers who push as hard as they can. The
    likelihood ratio of each sum gives a lower bound on epsilon, at 99 % for all bounds together; the claim is
    what the ledger was charged. Then one customer is tried alone against every entry. Also looked at: whether
    anything beside the sum differs, and how far one customer moves the sum before its noise. Exit code 4 if a
    claim is refuted. See docs/attacks.md.

    Examples:

        hansa audit attack door

        hansa audit attack door --dp local --epsilon 4 --out attacks.json
    """
    from hansa.rng import seeded_generator
    from hansa_simulations.attacks.door import Stage, attack_door
    from hansa_simulations.attacks.entries import ITEMS, attack_entries
    from hansa_simulations.attacks.report import finish, tell

    claims = [(model, claim) for model in _models(dp) for claim in _claims(model, epsilon or [1, 2, 4, 8])]
    level, results = (1 - CONFIDENCE) / (2 * len(claims)), []
    for model, claim in claims:
        tell(f"door, {model}, {claim or 'no'} epsilon")
        coins = seeded_generator(seed, "door", model, str(claim))
        results.append(attack_door(Stage(model, claim, min(trials, 50_000)), trials, level, coins))
        results.append(attack_entries(Stage(model, claim, ITEMS), repeats, level))
    finish(_together(results), out, json_)


@app.command()
def canaries(
    dp: Annotated[list[str] | None, typer.Option(help="As for door; repeat. Default: none too.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Repeat for several. Default: every one.")] = None,
    epsilon: Annotated[
        list[float] | None, typer.Option(min=0.01, help="A claim; repeat. Default: 8.")
    ] = None,
    scenario: Annotated[
        str, typer.Option(help="Who else is there: small, which is generated, or as for hansa simulate.")
    ] = "small",
    shops: Annotated[int | None, typer.Option(min=3, help="Default: the scenario's own number.")] = None,
    trials: Annotated[int, typer.Option(min=20, help="Canaries in each run.")] = 500,
    delta: Annotated[
        float, typer.Option(help="Of the claims; with a larger one the bound is weaker.")
    ] = 1e-7,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Audit whole runs with invented customers, one run a claim (Steinke, Nasr and Jagielski 2023).

    Each canary has a pair of items that nobody else has, and is in by a coin. An adversary who sees every
    released sum guesses them. A single run proves much less than was spent, so that a bound below the claim
    does not say that the claim is right; under none it shows what the attack can do. Exit code 4 if a claim
    is refuted. See docs/attacks.md.

    Examples:

        hansa audit attack canaries

        hansa audit attack canaries --method hybrid --dp central --epsilon 4
    """
    from hansa.plan import METHODS
    from hansa_simulations.attacks.canaries import attack_canaries
    from hansa_simulations.attacks.faults import small_federation
    from hansa_simulations.attacks.report import finish, tell
    from hansa_simulations.federation import load_federation

    models = _models(dp or [*PRIVATE, "none"])
    for name in method or []:
        if name not in METHODS:
            raise one_of("method", name, list(METHODS))
    cases = [
        (name, model, claim)
        for name in method or list(METHODS)
        for model in models
        for claim in _claims(model, epsilon or [8.0])
    ]
    there = (
        small_federation(seed) if scenario == "small" else load_federation(scenario, shops=shops, seed=seed)
    )
    results = []
    for name, model, claim in cases:
        tell(f"canaries, {name}, {model}, {claim or 'no'} epsilon")
        results.append(
            attack_canaries(
                there,
                name,
                model,
                claim,
                canaries=trials,
                settings=FEW_ROUNDS.get(name, {}),
                delta=delta,
                level=(1 - CONFIDENCE) / len(cases),
                seed=seed,
            )
        )
    finish(_together(results), out, json_)


@app.command()
def faults(
    dp: Dp = None,
    trials: Annotated[int, typer.Option(min=10_000, help="Of the attack on the door, each time.")] = 400_000,
    repeats: Annotated[int, typer.Option(min=200, help="Of each world, with one customer alone.")] = 400,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="File for the table as JSON, with every result.")] = None,
    json_: Json = False,
) -> None:
    """Which attack catches which fault: noise, clipping, charges and counters are broken and attacked.

    Every fault is planted into the real code of this process, one at a time, and every attack is made on it.
    No attack catches all of them: the table says which misses which. Exit code 4 if a fault is caught by
    none, or a claim is refuted where no fault was planted. About a minute and a half.

    Examples:

        hansa audit attack faults

        hansa audit attack faults --dp local --json
    """
    from hansa_simulations.attacks import report
    from hansa_simulations.attacks.faults import as_expected, try_all

    models = _models(dp)
    if "none" in models:
        raise UsageError(
            "--dp none: claims nothing that a fault could break; use local, distributed or central"
        )
    found = try_all(
        models, trials=trials, repeats=repeats, confidence=CONFIDENCE, seed=seed, tell=report.tell
    )
    document = report.caught_json(found)
    if out is not None:
        report.write(out, document)
    if json_:
        print(json.dumps(document, indent=1, allow_nan=False))
    else:
        print("\n".join([*report.caught_lines(found), *([f"wrote {out}"] if out is not None else [])]))
    wrong = as_expected(found)
    if wrong:
        raise VerificationError("; ".join(wrong))


def _together(results: list[AttackResult]) -> list[AttackResult]:
    """The results with the confidence that all of their bounds have together."""
    return [replace(result, confidence=CONFIDENCE) for result in results]


def _models(names: list[str] | None) -> list[DpModel]:
    from hansa.plan import DP_MODELS

    chosen = list(names or PRIVATE)
    for name in chosen:
        if name not in DP_MODELS:
            raise one_of("dp", name, list(DP_MODELS))
    return [model for model in DP_MODELS if model in chosen]


def _claims(model: str, epsilons: list[float]) -> list[float | None]:
    return [None] if model == "none" else [*epsilons]
