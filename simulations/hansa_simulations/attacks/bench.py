"""``hansa bench attacks``: what attacks prove against each DP model's claims, and which faults they catch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hansa_simulations.attacks.results import AttackResult
from hansa_simulations.bench import timing


def attacks(
    trials: Annotated[int, typer.Option(min=10_000, help="Of the door, each claim.")] = 20_000_000,
    canaries: Annotated[int, typer.Option(min=20, help="In each audited run.")] = 500,
    out: Annotated[
        Path | None, typer.Option(help="Write attacks.json and attacks.md into this folder.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Lower bounds on epsilon beside the claims, by the door and by canaries, and the faults that are caught.

    Needs no data. One thread; three to six minutes. See docs/attacks.md.

    Examples:

        hansa bench attacks

        hansa bench attacks --out benchmarks
    """
    from hansa_simulations.bench.commands import finish

    found = measure(trials, canaries)
    finish(found, text(found), out, json_)


def measure(trials: int, canaries: int, fault_trials: int = 400_000) -> timing.Document:
    """Attack every DP model at every claim, every method with canaries, and every planted fault.

    Args:
        trials: Of the door, each claim.
        canaries: In each audited run.
        fault_trials: Of the door with a fault.
    """
    from hansa.plan import METHODS
    from hansa.rng import seeded_generator
    from hansa_simulations.attacks.canaries import attack_canaries
    from hansa_simulations.attacks.commands import CONFIDENCE, FEW_ROUNDS
    from hansa_simulations.attacks.door import Stage, attack_door
    from hansa_simulations.attacks.faults import DP, small_federation, try_all
    from hansa_simulations.attacks.report import caught_json

    claims = [(dp, claim) for dp in DP for claim in (1.0, 2.0, 4.0, 8.0)]
    at_door = []
    for dp, claim in claims:
        timing.say(f"door, {dp}, {claim:g}")
        stage = Stage(dp, claim, min(trials, 50_000))
        coins = seeded_generator(0, "door", dp, str(claim))
        at_door.append(attack_door(stage, trials, (1 - CONFIDENCE) / len(claims), coins))
    runs = [(method, dp) for method in METHODS for dp in (*DP, "none")]
    there, audited = small_federation(), []
    for method, dp in runs:
        timing.say(f"canaries, {method}, {dp}")
        claimed = None if dp == "none" else 8.0
        level, settings = (1 - CONFIDENCE) / len(runs), FEW_ROUNDS.get(method, {})
        audited.append(
            attack_canaries(there, method, dp, claimed, canaries=canaries, settings=settings, level=level)
        )
    timing.say("planted faults")
    caught = try_all(DP, trials=fault_trials, repeats=400, confidence=CONFIDENCE)
    return timing.document(
        "attacks",
        [result.to_json() for result in [*at_door, *audited]],
        threads=1,
        confidence=CONFIDENCE,
        faults=caught_json(caught),
    )


def text(found: timing.Document) -> list[str]:
    """The same to read."""
    results = [AttackResult(**case) for case in found["cases"]]
    doors = [result for result in results if result.attack == "door"]
    audited = [result for result in results if result.attack == "canaries"]
    together = f"{100 * found['confidence']:g} % for all of these bounds together"
    door_heads = ["DP model", "claimed", "at least", "share of the claim", "one customer moves the sum by"]
    canary_heads = [
        "method",
        "DP model",
        "claimed",
        "at least",
        "at 95 % by itself",
        "right guesses",
        "moved by",
    ]
    return [
        "# Attacks on the claim",
        "",
        "Lower bounds on epsilon that attacks prove, beside what the ledger was charged. How each works, and "
        "what it cannot see: docs/attacks.md.",
        "",
        timing.machine_line(found),
        "",
        "## The door: one release, with and without one customer",
        "",
        f"delta {doors[0].delta:g}; {together}; {doors[0].trials:,} trials each. `distributed`: one shop "
        "beside the attacked one is honest, and the colluder's share of the noise is taken off.",
        "",
        *timing.table(door_heads, map(_door_cells, doors)),
        "",
        "## Canaries: one run of each method",
        "",
        f"delta {audited[0].delta:g}; {audited[0].trials} canaries, of which an adversary who sees every "
        f"released sum guesses some; {together}. So many canaries could show "
        f"{audited[0].figures['most_it_could_show']:.2f} at most. A bound far below the claim is usual for a "
        "single run, and no evidence that less was spent.",
        "",
        *timing.table(canary_heads, map(_canary_cells, audited)),
        "",
        "## Planted faults",
        "",
        f"One fault at a time in the real code, at claims of 2; {together}.",
        "",
        *_fault_table(found["faults"]),
    ]


def _door_cells(result: AttackResult) -> list[str]:
    return [
        result.dp,
        f"{result.claimed:.3f}",
        f"{result.bound:.3f}",
        f"{result.figures['share_of_claim']:.0%}",
        f"{result.figures['moved_over_bound']:.5f} C",
    ]


def _canary_cells(result: AttackResult) -> list[str]:
    return [
        result.method,
        result.dp,
        "nothing" if result.claimed is None else f"{result.claimed:.3f}",
        f"{result.bound:.3f}",
        f"{result.figures['bound_95']:.3f}",
        f"{result.figures['right']} of {result.figures['guesses']}",
        f"{result.figures['moved_over_bound']:.5f} C",
    ]


def _fault_table(faults: Sequence[dict[str, Any]]) -> list[str]:
    names = sorted({name for each in faults for name in (*each["caught_by"], *each["missed_by"])})
    names.sort(key=lambda name: ("door", "entr", "cana").index(name[:4]))
    rows = [
        (each["fault"], each["dp"], *("caught" if name in each["caught_by"] else "-" for name in names))
        for each in faults
    ]
    return timing.table(["fault", "DP model", *names], rows)
