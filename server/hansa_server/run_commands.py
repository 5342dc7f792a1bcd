"""``hansa server train|stop-run|log|models``: runs, and what they have come to."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from hansa_server.setup_commands import Home, Json, opened

Model = Annotated[str, typer.Argument(metavar="VERSION", help="The version's name: that of its run.")]


def train(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Of --resume and --follow. Default: the newest.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--run", help="Name of a new run. Default: run-1, run-2, ...")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was cut short, after its last round.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Only show a run that was begun before.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Begin it, and do not wait for its end.")] = False,
    method: Annotated[str | None, typer.Option(help="Default: as server.toml says, here and below.")] = None,
    dp: Annotated[str | None, typer.Option(help="distributed or local.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Of the run, for one customer of one shop.")] = None,
    delta: Annotated[float | None, typer.Option(help="At which epsilon is stated.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds of training.")] = None,
    customers: Annotated[int | None, typer.Option(help="Public bound on all shops' customers.")] = None,
    threshold: Annotated[int | None, typer.Option(help="Of distributed: fewest shops in a sum.")] = None,
    colluders: Annotated[int | None, typer.Option(help="Of distributed: most shops on your side.")] = None,
    trim: Annotated[float | None, typer.Option(help="Of local: share of shops cut at each end.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds that shops have for a round.")] = None,
    home: Home = None,
    json_: Json = False,
) -> None:
    """Train a model with all admitted shops, sign it and send it to them.

    Ctrl-C stops showing it and not the run. Exit code 3 if all shops refuse, 1 if it fails otherwise.

    Examples:

        hansa server train

        hansa server train --run spring --dp local --epsilon 2

        hansa server train --resume

        hansa server train spring --follow --json
    """
    from hansa.errors import UsageError
    from hansa_server import runs
    from hansa_server.deploy import Control
    from hansa_server.settings import training_with
    from hansa_server.showing import Teller

    found, settings = opened(home)
    asked = {
        "method": method,
        "dp": dp,
        "epsilon": epsilon,
        "delta": delta,
        "rounds": rounds,
        "customers": customers,
        "threshold": threshold,
        "colluders": colluders,
        "trim": trim,
    }
    if name is not None and run is not None:
        raise UsageError(f"--run {name}: give one name of a run, not {run} too")
    if resume and follow:
        raise UsageError("--follow: give either --resume or --follow")
    given = [f"--{option}" for option, value in asked.items() if value is not None]
    if (resume or follow) and given:
        raise UsageError(f"{given[0]}: the plan of a run stands; leave it out, or begin another run")
    training = training_with(settings.training, **asked, timeout=timeout)
    with Control(found, settings) as control:
        since = 0
        if follow:
            this = runs.find_run(found, run or name)
        elif resume:
            since = len(runs.find_run(found, run or name).lines())
            this = runs.resume(found, control, run or name, training.timeout)
        else:
            this, why = runs.begin(found, control, training, run or name)
            if why:
                typer.echo(why, err=True)
        planned = len(this.plan.releases)
        if detach:
            print(json.dumps({"run": this.name, "planned": planned}) if json_ else this.name)
            return
        with Teller(this.name, planned) as teller:
            outcome = runs.follow(control, this, teller, since)
    runs.judge(this, outcome)
    unsent = {shop: why for shop, why in outcome.get("sent", {}).items() if why}
    if json_:
        rounds_ = [line for line in this.lines() if "round" in line]
        print(json.dumps({"run": this.name, **outcome, "rounds": rounds_}, indent=2))
        return
    print(f"run {this.name}: done; model {outcome.get('model', this.name)}")
    for shop, problem in sorted(unsent.items()):
        print(f"model not received by {shop}: {problem}")
    if unsent:
        print(f"'hansa server models send {outcome.get('model', this.name)}' sends it again")


def stop_run(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Default: the one that is going on.")
    ] = None,
    home: Home = None,
) -> None:
    """Stop a run; 'train --resume' goes on with it after its last complete round.

    Examples:

        hansa server stop-run --home coordinator
    """
    from hansa_server import runs
    from hansa_server.deploy import Control

    found, settings = opened(home)
    with Control(found, settings) as control:
        stopped = runs.stop_run(found, control, run)
    print(f"run {stopped.name}: stopped")


def log(home: Home = None, json_: Json = False) -> None:
    """Check the log of all runs, and print how far it has come: its head goes with every request to a shop.

    Exit code 4 if a line does not follow the one before.

    Examples:

        hansa server log --home coordinator

        hansa server log --json
    """
    from hansa.errors import UsageError, VerificationError
    from hansa_server.journal import read_log, signed_head

    found, _ = opened(home)
    try:
        lines = read_log(found.log)
    except UsageError as error:
        raise VerificationError(str(error)) from error
    head = signed_head(found, lines[-1]) if lines else None
    if json_:
        shown = None if head is None else head.model_dump(mode="json")
        print(json.dumps({"file": str(found.log), "lines": len(lines), "head": shown}, indent=2))
    elif head is None:
        print(f"{found.log}: no line yet; the first run begins it")
    else:
        print(f"{found.log}: {len(lines)} lines, each follows the one before\nhead {head.size} {head.hash}")


models = typer.Typer(no_args_is_help=True, help="Versions of the league's model.", add_completion=False)


@models.command("list")
def list_models(home: Home = None, json_: Json = False) -> None:
    """List all versions, the oldest first.

    Examples:

        hansa server models list --home coordinator
    """
    from hansa_server.versions import versions

    found, _ = opened(home)
    known = [_about(one) for one in versions(found)]
    if json_:
        print(json.dumps(known, indent=2))
        return
    for one in known:
        plan = one["plan"]
        print(
            f"{one['model']:<20} {one['created']}  {plan['method']}, {plan['dp']}, "
            f"{len(one['shops'])} shops, {one['problem'] or 'signed'}"
        )
    if not known:
        print("no model yet; 'hansa server train' makes one")


@models.command()
def show(model: Model, home: Home = None, json_: Json = False) -> None:
    """Show a version: its plan, the shops in every round's sum, its hash and signature.

    Examples:

        hansa server models show run-1 --json
    """
    from hansa_server.versions import version

    found, _ = opened(home)
    one = version(found, model)
    about = _about(one)
    if json_:
        print(json.dumps({**about, "rounds": one.card.shops}, indent=2))
        return
    print(f"model {one.card.model} of run {one.card.run}, {one.card.created}")
    print(one.problem or "signed, unchanged")
    print(f"sha256 {one.card.sha256}")
    plan = one.plan
    print(
        f"{plan.method}, {plan.dp}, delta {plan.delta:.3g}, {plan.shops} shops invited, {plan.n_items} items"
    )
    for number, shops in enumerate(one.card.shops, 1):
        print(f"round {number}: {', '.join(shops)}")


@models.command()
def send(
    model: Model,
    timeout: Annotated[float | None, typer.Option(help="Seconds that shops have.")] = None,
    home: Home = None,
) -> None:
    """Send a version once more to the shops that are connected.

    Examples:

        hansa server models send run-1 --home coordinator
    """
    from hansa_server import runs
    from hansa_server.deploy import Control

    found, settings = opened(home)
    with Control(found, settings) as control:
        runs.send(found, control, model, timeout or settings.training.timeout)
    print(f"model {model}: sent")


@models.command()
def verify(
    model: Annotated[str | None, typer.Argument(metavar="[VERSION]")] = None, home: Home = None
) -> None:
    """Check signature and file of one version, or of all. Exit code 4 if anything is wrong.

    Examples:

        hansa server models verify --home coordinator
    """
    from hansa.errors import VerificationError
    from hansa_server.versions import version, versions

    found, _ = opened(home)
    known = versions(found) if model is None else [version(found, model)]
    problems = [one.problem for one in known if one.problem]
    if problems:
        raise VerificationError("; ".join(problems))
    print(f"{len(known)} versions, all signed and unchanged")


def _about(one: Any) -> dict[str, Any]:
    card = one.card
    return {
        "model": card.model,
        "run": card.run,
        "created": card.created,
        "sha256": card.sha256,
        "signature": card.signature,
        "problem": one.problem,
        "shops": one.shops,
        "plan": one.plan.model_dump(mode="json"),
    }
