"""``hansa bench inference``: membership inference and attacks on what is served, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hansa.dp.private_sum import DpModel
from hansa_simulations.attacks.results import AttackResult
from hansa_simulations.bench import timing


def inference(
    shadows: Annotated[int, typer.Option(min=32, help="Models of each claim.")] = 64,
    targets: Annotated[int, typer.Option(min=5, help="Customers whose purchases are inferred.")] = 150,
    out: Annotated[
        Path | None, typer.Option(help="Write inference.json and inference.md into this folder.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Who is in the data, and who bought what: by the released model, and by what a shop serves.

    Every method and DP model on a small generated federation, cooccurrence on ml-100k, too (needs
    HANSA_DATA). One thread; about five minutes. See docs/attacks.md.

    Examples:

        hansa bench inference

        hansa bench inference --shadows 32 --targets 30
    """
    from hansa_simulations.bench.commands import finish

    found = measure(shadows, targets)
    finish(found, text(found), out, json_)


def measure(shadows: int, targets: int, scenario: str = "ml-100k") -> timing.Document:
    """Attack every method at every DP model, then what a shop serves.

    Args:
        shadows: Models of each claim.
        targets: Customers whose purchases are inferred.
        scenario: Where ``cooccurrence`` is attacked besides.
    """
    from hansa.plan import DP_MODELS, METHODS
    from hansa_simulations.attacks.commands import CONFIDENCE, FEW_ROUNDS
    from hansa_simulations.attacks.membership import attack_membership
    from hansa_simulations.attacks.population_commands import load
    from hansa_simulations.attacks.served import attack_served

    small, real = load(None, 0), load(scenario, 10)
    private: list[DpModel] = [model for model in DP_MODELS if model != "none"]
    models: list[tuple[DpModel, float | None]] = [("none", None)]
    models += [(model, claim) for model in private for claim in (1.0, 4.0)]
    cells = [(small, "generated", method, *model) for method in METHODS for model in models]
    cells += [(real, scenario, "cooccurrence", *model) for model in models]
    cases: list[dict[str, Any]] = []
    for federation, name, method, dp, claim in cells:
        timing.say(f"membership, {name}, {method}, {dp}, {claim or 'no'} epsilon")
        settings = FEW_ROUNDS.get(method, {}) if federation is small else {}
        level = (1 - CONFIDENCE) / len(cells)
        result = attack_membership(
            federation, method, dp, claim, shadows=shadows, level=level, settings=settings
        )
        cases.append({"scenario": name, **result.to_json(), "confidence": CONFIDENCE})
    for federation, name in ((small, "generated"), (real, scenario)):
        for claim in (1.0, 4.0):
            timing.say(f"served, {name}, {claim:g}")
            results = attack_served(federation, "cooccurrence", "distributed", claim, targets=targets)
            cases += [{"scenario": name, "league": claim, **result.to_json()} for result in results]
    return timing.document("inference", cases, threads=1, confidence=CONFIDENCE, shadows=shadows)


def text(found: timing.Document) -> list[str]:
    """The same to read."""
    from hansa_simulations.attacks import membership, served

    models = [case for case in found["cases"] if case["attack"] == "membership"]
    lists = [case for case in found["cases"] if case["attack"] == "served"]
    return [
        "# Inference about single customers",
        "",
        "How each attack works, and what it cannot see: docs/attacks.md. Written by `hansa bench inference "
        "--out benchmarks`.",
        "",
        timing.machine_line(found),
        "",
        "## Membership, by the released model",
        "",
        f"{found['shadows']} models of each claim, each of a random half of the customers, by the real "
        "engine; an adversary who knows everybody's histories. Told: members at a false alarm of so many "
        "others, and what the claim allows at the upper limit of the false alarms. At least: lower bounds on "
        f"epsilon, {100 * found['confidence']:g} % for all of them together. Claims are at delta "
        f"{models[0]['delta']:g}.",
        "",
        *timing.table(
            ["data", "method", "DP model", "claim", "at least", "AUC", "told at 0.1 %", "told at 1 %"],
            [
                [case["scenario"], *row]
                for case, row in zip(models, membership.told(_results(models)), strict=True)
            ],
        ),
        "",
        "## What a shop serves, to another customer of the same shop",
        "",
        f"{lists[0]['trials'] // 2} customers at most, whose rarest item is suspected, before and after they "
        "bought it, against a purchase as rare; `cooccurrence` under `distributed` noise. Epsilon says "
        "nothing of the blend and of the shop alone; they stand side by side to see what joining adds.",
        "",
        *timing.table(
            ["data", "league's claim", "served", "AUC", "told at 1 % (limits)", "advantage"],
            [
                [case["scenario"], f"{case['league']:g}", *row[3:]]
                for case, row in zip(lists, served.told(_results(lists)), strict=True)
            ],
        ),
        "",
    ]


def _results(cases: list[dict[str, Any]]) -> list[AttackResult]:
    return [
        AttackResult(**{name: value for name, value in case.items() if name not in ("scenario", "league")})
        for case in cases
    ]
