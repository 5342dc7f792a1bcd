"""``hansa bench``: a group of benchmarks, each a command of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from hansa.cli import INTERRUPTED
from hansa_simulations.bench import timing

app = typer.Typer(no_args_is_help=True, help="Measure speed and memory, side by side with others.")

Out = Annotated[Path | None, typer.Option(help="Write NAME.json, NAME.md and plots into this folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]


@app.command()
def frontier(
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="NAME[:PROTOCOL[:SECTION.KEY=VALUE]...]; repeat for several. Default: six."),
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="Repeat for several. Default: every one.")] = None,
    epsilon: Annotated[
        list[str] | None,
        typer.Option(help="A budget, or none for no privacy; repeat for several. Default: 0.5 to 8, none."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each cell, from seed 0 on.")] = 3,
    dp: Annotated[
        str, typer.Option(help="DP model of the private cells: distributed, central or local.")
    ] = "central",
    delta: Annotated[float, typer.Option(help="Of all cells.")] = 1e-5,
    cells: Annotated[Path, typer.Option(help="Where finished cells are kept.")] = Path("out/frontier"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run cells of other code or settings again.")
    ] = False,
    draw_only: Annotated[bool, typer.Option("--draw-only", help="Run nothing, draw what is there.")] = False,
    out: Out = None,
    json_: AsJson = False,
) -> None:
    """Accuracy against epsilon by scenario and method, with popularity, alone and pooled as lines.

    Every cell is a run of "hansa simulate" with the same settings. It is stored when it is finished, so
    that an interrupted benchmark goes on where it stopped, and several processes may share the folder of
    cells. Data and references of a scenario and seed are loaded and fitted once. Cells of other code or
    settings are named, and kept unless --fresh. All but journey need HANSA_DATA. See docs/frontier.md.

    Examples:

        hansa bench frontier --scenario journey --epsilon 1 --epsilon none --seeds 1

        hansa bench frontier --scenario ml-1m:random20 --method cooccurrence

        hansa bench frontier --draw-only --out benchmarks
    """
    from hansa.plan import METHODS
    from hansa_simulations.bench import cells as pieces
    from hansa_simulations.bench import frontier as bench
    from hansa_simulations.bench.frontier_plot import render

    wanted = bench.cells_of(
        scenario or bench.SCENARIOS,
        method or list(METHODS),
        epsilon or bench.EPSILONS,
        range(seeds),
        dp=dp,
        delta=delta,
    )
    folder = pieces.Folder(cells)
    whole = draw_only or pieces.run(wanted, folder, bench.load, fresh=fresh)
    found = bench.collect(wanted, folder)
    finish(found, bench.text(found), out, json_, render, whole=whole)


@app.command()
def law(
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="As for frontier; repeat for several. Default: journey and games."),
    ] = None,
    factor: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Times as many customers; repeat for several. Default: 1, 2, 5, 10, 40."),
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="Repeat. Default: cooccurrence.")] = None,
    epsilon: Annotated[list[str] | None, typer.Option(help="Repeat. Default: 1, 2, 4.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each cell, from seed 0 on.")] = 1,
    cells: Annotated[Path, typer.Option(help="Where finished cells are kept.")] = Path("out/law"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run cells of other code or settings again.")
    ] = False,
    draw_only: Annotated[bool, typer.Option("--draw-only", help="Run nothing, draw what is there.")] = False,
    out: Out = None,
    json_: AsJson = False,
) -> None:
    """Gain kept against customers times epsilon, and the law that "hansa plan" goes by.

    Federations many times as large as real ones are drawn from a model of their customers, the shops as
    large and as many more of them. Cells are kept as those of "hansa bench frontier". dpsgd and hybrid run
    up to ten times the customers. See docs/law.md.

    Examples:

        hansa bench law --scenario journey --factor 1 --factor 10

        hansa bench law --draw-only --out benchmarks
    """
    from hansa_simulations.bench import cells as pieces
    from hansa_simulations.bench import law as bench
    from hansa_simulations.bench.law_plot import render

    wanted = bench.cells_of(
        scenario or bench.SCENARIOS,
        factor or bench.FACTORS,
        method or ["cooccurrence"],
        epsilon or bench.EPSILONS,
        range(seeds),
    )
    folder = pieces.Folder(cells, "hansa_simulations.bench.siblings")
    whole = draw_only or pieces.run(wanted, folder, bench.load, fresh=fresh)
    found = bench.collect(wanted, folder)
    finish(found, bench.text(found), out, json_, render, whole=whole)


@app.command()
def cold(
    scenario: Annotated[
        list[str] | None, typer.Option(help="As for frontier; repeat. Default: journey, ml-1m, ml-100k.")
    ] = None,
    epsilon: Annotated[list[str] | None, typer.Option(help="Repeat. Default: 1, 4, none.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of cold items, from seed 0 on.")] = 3,
    share: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share of items made cold.")] = 0.1,
    validation: Annotated[
        bool, typer.Option("--validation", help="Within the training data: for choosing constants.")
    ] = False,
    out: Out = None,
    json_: AsJson = False,
) -> None:
    """Items that nobody has had yet: what finds the customers who will want them.

    Random items lose all their training interactions at every shop; who has them among the held-out ones
    is to be found, from the public catalogue. Content alone, a shop's own model, the released one and what
    shops serve are compared, with and without content. All but journey need HANSA_DATA. See docs/methods.md.

    Examples:

        hansa bench cold --scenario journey --epsilon 4 --seeds 1

        hansa bench cold --out benchmarks
    """
    from hansa_simulations.bench import cold as bench

    found = bench.measure(
        scenario or bench.SCENARIOS, epsilon or bench.EPSILONS, seeds, share, validation=validation
    )
    finish(found, bench.text(found), out, json_)


@app.command()
def rounds(
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each case that count.")] = 5,
    steps: Annotated[int, typer.Option(min=2, help="Gradient rounds in a run.")] = 5,
    out: Out = None,
    json_: AsJson = False,
) -> None:
    """Seconds a round of training: engines and ways to clip, against a plain loop in torch.

    Needs ml-1m and ml-100k in HANSA_DATA. One thread. dpsgd at d 32 with all customers of ml-1m in 50
    shops, at most 64 items each: a plain loop without shops or messages, the two engines, and the
    in-process engine with Opacus's hooks and ghost clipping in place of the sparse one. Then what a round on
    ml-100k costs beyond its arithmetic.

    Examples:

        hansa bench rounds

        hansa bench rounds --out benchmarks
    """
    from hansa_simulations.bench import rounds as bench

    found = bench.measure(repeats, steps)
    finish(found, bench.text(found), out, json_)


@app.command()
def cooccurrence(
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each case that count.")] = 5,
    out: Out = None,
    json_: AsJson = False,
) -> None:
    """One release of co-occurrence: count, noise, matrix and factors, against the full spectrum.

    Needs no data: 20,000 generated customers with about 0.66 million interactions, over 1,250 to 5,000
    items. One thread.

    Examples:

        hansa bench cooccurrence

        hansa bench cooccurrence --out benchmarks
    """
    from hansa_simulations.bench import cooccurrence as bench

    found = bench.measure(repeats)
    finish(found, bench.text(found), out, json_)


@app.command()
def scale(
    repeats: Annotated[int, typer.Option(min=1, help="Turns through all points.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="A few tiny points, to see that it works.")] = False,
    out: Out = None,
    json_: AsJson = False,
) -> None:
    """Seconds and peak memory of whole runs against customers, items and shops, and how they grow.

    Needs no data: dpsgd and cooccurrence on the scenario synthetic, one size varied at a time, each run
    in a process of its own. Two threads; about ten minutes.

    Examples:

        hansa bench scale --quick

        hansa bench scale --out benchmarks
    """
    from hansa_simulations.bench import scale as bench
    from hansa_simulations.bench.scale_plot import render

    if quick:
        found = bench.measure(bench.QUICK, repeats=1, methods=["dpsgd"])
    else:
        found = bench.measure(bench.FULL, repeats)
    finish(found, bench.text(found), out, json_, render)


@app.command()
def step(
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each case that count.")] = 9,
    out: Out = None,
    json_: AsJson = False,
) -> None:
    """One DP step: sparse clipping against no DP, and against Opacus's ghost clipping and hooks.

    256 customers with 20 positives and 4 negatives for each, d 64, at 3,706, 50,000 and 500,000 items. Two
    threads. The noise is part of the step. Each case's memory is measured in a process of its own.

    Examples:

        hansa bench step

        hansa bench step --out benchmarks
    """
    from hansa_simulations.bench import step as bench

    found = bench.measure(repeats)
    finish(found, bench.text(found), out, json_)


@app.command()
def distributed(
    scenario: Annotated[str, typer.Option(help="As for hansa simulate.")] = "journey",
    epsilon: Annotated[float, typer.Option(help="Claimed by all but central at the realised noise.")] = 8.0,
    delta: Annotated[float, typer.Option(help="Of all.")] = 1e-5,
    method: Annotated[str, typer.Option(help="What is learnt.")] = "cooccurrence",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each case, from seed 0 on.")] = 3,
    out: Out = None,
    json_: AsJson = False,
) -> None:
    """Accuracy under distributed noise, against central noise and local noise.

    Central noise is there twice: at the epsilon claimed, and as large as all shops' shares together, which
    are more than what is claimed. Sums are of whole numbers, without masks, which change no sum.

    Examples:

        hansa bench distributed --seeds 1

        hansa bench distributed --epsilon 4 --out benchmarks
    """
    from hansa_simulations.bench import distributed as bench

    found = bench.measure(scenario, epsilon, delta, seeds, method)
    finish(found, bench.text(found), out, json_)


@app.command()
def secagg(
    shops: Annotated[
        list[int] | None, typer.Option(min=3, help="How many; repeat for several. Default: 10 and 100.")
    ] = None,
    entries: Annotated[
        list[int] | None,
        typer.Option(min=50, help="Numbers in a vector, a multiple of 50; repeat. Default: 1e5 and 1e7."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each case that count.")] = 3,
    out: Out = None,
    json_: AsJson = False,
) -> None:
    """Masked sums: seconds and bytes of each stage, for a shop and the coordinator, against bare ones.

    Needs no data. One thread; about two minutes. Whole rounds of the masking protocol with all shops, once
    with everybody and once with a tenth lost after sharing; small sums are checked to be exact.

    Examples:

        hansa bench secagg

        hansa bench secagg --shops 50 --entries 1000000 --out benchmarks
    """
    from hansa_simulations.bench import secagg as bench

    found = bench.measure(shops or bench.SHOPS, entries or bench.ENTRIES, repeats)
    finish(found, bench.text(found), out, json_)


@app.command()
def poisoning(
    scenario: Annotated[str, typer.Option(help="As for frontier.")] = "ml-100k",
    epsilon: Annotated[
        list[str] | None, typer.Option(help="A budget of local noise, or none; repeat. Default: 16, none.")
    ] = None,
    shops: Annotated[int, typer.Option(min=3, help="Shops that the customers are dealt to.")] = 10,
    dishonest: Annotated[int, typer.Option(min=1, help="How many of them lie.")] = 1,
    trim: Annotated[
        float, typer.Option(min=0.01, max=0.49, help="Share of shops that the trimmed sum cuts at each end.")
    ] = 0.1,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each case, from seed 0 on.")] = 3,
    out: Out = None,
    json_: AsJson = False,
) -> None:
    """What dishonest shops do to a league, with plain and with trimmed sums.

    A few shops send junk, huge or opposite values, or promote an item, openly, within the noise, or with
    invented customers. Judged are accuracy at the honest shops, and how many of their customers get the
    promoted item. ml-100k needs HANSA_DATA; about two minutes. See docs/robust.md.

    Examples:

        hansa bench poisoning

        hansa bench poisoning --dishonest 2 --trim 0.2 --epsilon 16

        hansa bench poisoning --out benchmarks
    """
    from hansa_simulations.bench import poisoning as bench

    found = bench.measure(scenario, epsilon or bench.EPSILONS, shops, dishonest, trim, seeds)
    finish(found, bench.text(found), out, json_)


def finish(
    found: timing.Document,
    text: Sequence[str],
    out: Path | None,
    as_json: bool,
    plot: Callable[[timing.Document], bytes] | None = None,
    *,
    whole: bool = True,
) -> None:
    """Write the files asked for, print the result, and exit as interrupted where it is not the ``whole``."""
    written = timing.write(found, text, out, plot) if out is not None else []
    if as_json:
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        print("\n".join([*text, *(f"wrote {path}" for path in written)]))
    if not whole:
        raise SystemExit(INTERRUPTED)


@app.command()
def deployment(
    runs: Annotated[int, typer.Option(min=1, help="Runs of each DP model.")] = 3,
    customers: Annotated[int, typer.Option(min=100, help="Over all four shops.")] = 2_000,
    items: Annotated[int, typer.Option(min=50, help="In the catalogue.")] = 1_000,
    out: Out = None,
    json_: AsJson = False,
) -> None:
    """A real league on loopback: seconds from nothing to the first model, a round, and memory.

    Needs nginx and PostgreSQL, and no data. Sets a coordinator and four shops up by the commands that
    operators give, then runs both DP models in turns.

    Examples:

        hansa bench deployment

        hansa bench deployment --runs 1 --out benchmarks
    """
    from hansa_simulations.bench import deployment as bench

    found = bench.measure(runs, customers, items)
    finish(found, bench.text(found), out, json_)


@app.command()
def tampering(
    changes: Annotated[int, typer.Option(min=1, help="Of single bytes, and of single fields.")] = 1_000,
    own_key: Annotated[int, typer.Option(min=1, help="By a coordinator with its own key.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the choice of changes.")] = 0,
    out: Out = None,
    json_: AsJson = False,
) -> None:
    """Changes of audit reports, by strangers and by a coordinator, and how many are refused.

    Examples:

        hansa bench tampering

        hansa bench tampering --changes 100 --json
    """
    from hansa_simulations.bench import tampering as bench

    found = bench.measure(changes, changes, own_key, seed)
    finish(found, bench.text(found), out, json_)


@app.command()
def audited(out: Out = None, json_: AsJson = False) -> None:
    """A real league on loopback and the audit reports on it, verified together.

    Needs nginx and PostgreSQL, and no data.

    Examples:

        hansa bench audited

        hansa bench audited --out benchmarks
    """
    from hansa_simulations.bench import audited as bench

    found = bench.measure(out)
    finish(found, bench.text(found), out, json_)
