"""``hansa client models``: which version of the league's model serves; ``refresh``: learn the shop's data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hansa_client.home import ShopHome
    from hansa_client.serving.vault import Version

app = typer.Typer(
    invoke_without_command=True,
    help="Versions of the league's model at this shop: list, pin one, roll back.",
    add_completion=False,
)

Home = Annotated[Path | None, typer.Option(help="The shop's folder. Default: $HANSA_SHOP, else this one.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.callback()
def _models(context: typer.Context) -> None:
    """Versions of the league's model at this shop: list, pin one, roll back.

    Examples:

        hansa client models list
    """
    if context.invoked_subcommand is None:
        list_()


@app.command("list")
def list_(home: Home = None, json_: Json = False) -> None:
    """List the versions that are kept, newest first; the one that serves is marked.

    Examples:

        hansa client models list

        hansa client models list --json
    """
    from hansa_client.commands.serving import lines
    from hansa_client.config import read_settings
    from hansa_client.serving.vault import in_use, versions

    shop = _home(home)
    wanted = read_settings(shop.settings).serving.model
    current = in_use(shop, wanted)
    found = versions(shop)
    if json_:
        rows = [{**_row(version), "in_use": version == current} for version in found]
        print(json.dumps({"serving": wanted, "versions": rows}, indent=2))
        return
    if not found:
        print("no model of the league has arrived yet; the shop's own model serves")
        return
    table = [["", "version", "created", "method", "dp", "rounds", "shops", "sha256"]]
    for version in found:
        row = _row(version)
        cells = [row[name] for name in ("version", "created", "method", "dp", "rounds", "shops", "sha256")]
        table.append(["*" if version == current else "", *map(str, cells[:-1]), row["sha256"][:12]])
    for line in lines(table):
        print(line)
    print("(* serves: the newest)" if wanted == "newest" else "(* serves: pinned; 'use newest' unpins)")


@app.command()
def use(
    version: Annotated[str, typer.Argument(help="A version's name, or newest.")],
    home: Home = None,
) -> None:
    """Serve this version from now on, or with newest whichever is newest; written into shop.toml.

    Examples:

        hansa client models use autumn-3

        hansa client models use newest
    """
    from hansa_client.serving.vault import use as pin

    chosen = pin(_home(home), version)
    print("the newest serves: none has arrived yet" if chosen is None else f"{chosen.name} serves")


@app.command()
def rollback(home: Home = None) -> None:
    """Serve the version before the one that serves, until told otherwise.

    Examples:

        hansa client models rollback
    """
    from hansa_client.serving.vault import roll_back

    chosen = roll_back(_home(home))
    print(f"{chosen.name} serves and is pinned; 'hansa client models use newest' unpins it")


def refresh(home: Home = None, json_: Json = False) -> None:
    """Learn the shop's data as they are now: fit its own model, choose the league's share. For a nightly job.

    Nothing leaves the shop. If neither the data nor the version has changed, nothing is done.

    Examples:

        hansa client refresh
    """
    from hansa_client.serving.opening import refresh as learn

    counter, fitted = learn(_home(home), say=lambda line: typer.echo(f"hansa: {line}", err=True))
    facts = counter.known.facts
    if json_:
        document = {
            "fitted": fitted,
            "customers": facts.customers,
            "newest": facts.newest,
            "learnt": facts.learnt,
            "kind": counter.known.own.kind,
            "model": None if counter.version is None else counter.version.name,
            "weight": counter.serving.weight,
        }
        print(json.dumps(document, indent=2))
        return
    done = "fitted anew" if fitted else "nothing has changed"
    print(f"own model ({counter.known.own.kind}) of {facts.customers:,} customers: {done}")
    print(f"({counter.basis})")


def _home(given: Path | None) -> ShopHome:
    from hansa_client.home import ShopHome

    return ShopHome.found(given)


def _row(version: Version) -> dict[str, Any]:
    card, plan = version.card, version.plan
    return {
        "version": card.model,
        "created": card.created,
        "run": card.run,
        "method": plan.method,
        "dp": plan.dp,
        "rounds": len(card.shops),
        "shops": len({shop for round_ in card.shops for shop in round_}),
        "sha256": card.sha256,
    }
