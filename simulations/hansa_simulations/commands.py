"""``hansa simulate``: options in, a result out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    scenario: Annotated[
        str | None,
        typer.Argument(help="journey, ml-100k, ml-1m, xmarket, games or synthetic. Default: journey."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A folder in the data contract, instead of a scenario.")
    ] = None,
    shops: Annotated[
        int | None,
        typer.Option(help="Deal the customers to this many shops, where the data has not as many."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="cooccurrence, hybrid, dpsgd, popularity or a rival. Default: cooccurrence."),
    ] = None,
    dp: Annotated[
        str | None, typer.Option(help="distributed, local, central or none. Default: distributed.")
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Budget of one customer of one shop. Default: 4.")
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help="Default: min(1e-5, N^-1.1), N the declared customers.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds of training. Default: the method's.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="last20, random20, last1 or loo99. Default: last20.")
    ] = None,
    references: Annotated[
        str | None, typer.Option(help="all, or none to leave out popularity, alone and pooled. Default: all.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="inprocess or ray. Default: inprocess.")] = None,
    secagg: Annotated[
        str | None,
        typer.Option(help="sum, or full to mask the sums of distributed too; same sums. Default: sum."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of split, dealing, sampling and simulated noise. Default: 0.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Repeat for this many seeds from --seed on; metrics become means.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any other setting.")
    ] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help="Repeat the run of a result.json; other options override.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write result.json, summary.md, the plot and the model here.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Simulate a federation of shops on this machine and compare it with each shop training alone.

    The default scenario needs the extra "demo"; synthetic is generated, see docs/synthetic.md for its
    scenario.* settings; the others find their folders in HANSA_DATA. Other settings for --set:
    data.min_rating, data.vocabulary, data.dealing, data.alpha, scenario.overlap, budget.ceiling,
    ledger.dir, privacy.customers, privacy.max_overlap, secagg.threshold, secagg.colluders, secagg.drop,
    robust.trim, engine.chunk, engine.clipping, engine.workers, engine.round_timeout, engine.actors,
    engine.cpus, evaluation.customers, evaluation.tuning, and method.NAME for the method's hyperparameters.

    Examples:

        hansa simulate

        hansa simulate journey --epsilon 8 --out out/eps8

        hansa simulate ml-1m --dp none --protocol random20 --json

        hansa simulate journey --secagg full --set secagg.drop=0.1

        hansa simulate --data my-shops --shops 20 --set method.dimensions=32

        hansa simulate ml-100k --dp local --set ledger.dir=out/ledgers
    """
    from hansa_simulations.run import run_command

    options = {
        "scenario": scenario,
        "folder": data,
        "shops": shops,
        "method": method,
        "dp": dp,
        "epsilon": epsilon,
        "delta": delta,
        "rounds": rounds,
        "protocol": protocol,
        "references": references,
        "engine": engine,
        "secagg": secagg,
        "seed": seed,
        "seeds": seeds,
    }
    run_command(options, set_ or [], repeat=from_, out=out, as_json=json_)
