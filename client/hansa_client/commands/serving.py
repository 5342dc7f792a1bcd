"""``hansa client recommend``, ``similar``, ``together`` and ``export``: what customers get."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hansa_client.serving.lists import Ranked
    from hansa_client.serving.opening import Counter

Home = Annotated[Path | None, typer.Option(help="The shop's folder. Default: $HANSA_SHOP, else this one.")]
Count = Annotated[int, typer.Option("--k", min=1, max=1000, help="Most items in a list.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Again = Annotated[bool, typer.Option("--again", help="List items that a customer has had, too.")]
Serve = Annotated[
    str,
    typer.Option(
        metavar="blend|shared-only",
        help="shared-only: nothing but the league's model and the requester's own history.",
    ),
]
_TITLE = 40


def recommend(
    user: Annotated[str, typer.Option(help="The customer, by the shop's own id.")],
    k: Count = 20,
    category: Annotated[
        str | None, typer.Option(help="Only items of this category of the catalogue.")
    ] = None,
    again: Again = False,
    serve: Serve = "blend",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Print what a customer may like, best first, each with a reason. Somebody unknown gets what is popular.

    Examples:

        hansa client recommend --user 4711

        hansa client recommend --user 4711 --k 5 --category "SOFT DRINKS" --json

        hansa client recommend --user 4711 --serve shared-only
    """
    counter = _counter(home, serve)
    history = counter.history(user)
    allowed = None if category is None else counter.assortment.category(category)
    answer = counter.serving.lists(history, k, again=again, allowed=allowed)[0]
    notes = []
    if not len(history.items):
        notes.append("no item of the catalogue is known of this customer: these are popular")
    if len(answer) < k:
        notes.append(f"no more than {len(answer)} items are left to list")
    _print(counter, answer, "because of", notes, {"user": user, "had": len(history.items)}, json_)


def similar(
    item: Annotated[str, typer.Option(help="The item, by the shop's own code.")],
    k: Count = 20,
    serve: Serve = "blend",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Print what customers of an item like besides; of an item that nobody has had, what the catalogue says.

    Examples:

        hansa client similar --item 4008400402222
    """
    _related([item], "often had with", k, serve, home, json_)


def together(
    items: Annotated[str, typer.Option(help="The shop's own codes, with commas between them.")],
    k: Count = 20,
    serve: Serve = "blend",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Print what goes with a basket of items.

    Examples:

        hansa client together --items 4008400402222,4000417025005
    """
    from hansa.errors import UsageError

    codes = list(dict.fromkeys(code for part in items.split(",") if (code := part.strip())))
    if not codes:
        raise UsageError("--items: no code; give one or more of the shop's own codes")
    _related(codes, "goes with", k, serve, home, json_)


def export(
    out: Annotated[Path, typer.Option(help="The file: FILE.parquet or FILE.csv.")],
    k: Count = 20,
    again: Again = False,
    serve: Serve = "blend",
    home: Home = None,
    json_: Json = False,
) -> None:
    """Write the lists of all customers into one file: customer, rank, item, score, reason.

    Examples:

        hansa client export --out lists.parquet

        hansa client export --out lists.csv --k 10
    """
    from rich.console import Console
    from rich.progress import Progress

    from hansa.errors import UsageError
    from hansa_client.serving.export import export as write

    if out.suffix not in (".parquet", ".csv"):
        raise UsageError(f"--out {out}: give a file that ends in .parquet or .csv")
    counter = _counter(home, serve)
    if not sys.stderr.isatty():
        typer.echo(f"hansa: listing {counter.known.facts.customers:,} customers", err=True)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task("customers", total=counter.known.facts.customers)
        customers = write(counter, out, k, again=again, told=lambda n: progress.advance(task, n))
    if json_:
        print(json.dumps({"out": str(out), "customers": customers, "k": k, **_basis(counter)}, indent=2))
    else:
        print(f"{out}: lists of {customers:,} customers; {counter.basis}")


def _related(codes: Sequence[str], words: str, k: int, serve: str, home: Path | None, json_: bool) -> None:
    counter = _counter(home, serve)
    positions = list(dict.fromkeys(counter.assortment.position(code) for code in codes))
    answer, source = counter.serving.related(positions, k)
    notes = {
        "catalogue": ["no interactions tell of it: these resemble it in the catalogue"],
        "nothing": ["nothing is known of what goes with it"],
    }.get(source, [])
    _print(counter, answer, words, notes, {"items": list(codes), "from": source}, json_)


def _counter(home: Path | None, serve: str) -> Counter:
    from hansa.errors import one_of
    from hansa_client.home import ShopHome
    from hansa_client.serving.opening import open_counter

    if serve not in ("blend", "shared-only"):
        raise one_of("--serve", serve, ["blend", "shared-only"])
    return open_counter(
        ShopHome.found(home),
        shared_only=serve == "shared-only",
        say=lambda line: typer.echo(f"hansa: {line}", err=True),
    )


def _basis(counter: Counter) -> dict[str, Any]:
    serving = counter.serving
    return {
        "model": None if counter.version is None else counter.version.name,
        "weight": serving.weight,
        "shared_only": serving.shared_only,
        "basis": counter.basis,
    }


def _print(
    counter: Counter,
    answer: list[Ranked],
    words: str,
    notes: list[str],
    asked: dict[str, Any],
    json_: bool,
) -> None:
    """One JSON document, or a table with notes below."""
    assortment = counter.assortment
    rows: list[dict[str, Any]] = [
        {
            "rank": rank,
            "item": assortment.code(found.item),
            "title": assortment.title(found.item),
            "score": round(found.score, 4),
            "reason": found.reason.text(assortment.title, words),
            "because": [assortment.code(item) for item in found.reason.because],
            "knowledge": found.reason.source,
        }
        for rank, found in enumerate(answer, start=1)
    ]
    if json_:
        print(json.dumps({**asked, **_basis(counter), "notes": notes, "recommendations": rows}, indent=2))
        return
    shown = [
        [str(row["rank"]), row["item"], _short(row["title"]), f"{row['score']:.2f}", row["reason"]]
        for row in rows
    ]
    table: list[list[str]] = [["", "item", "title", "score", "reason"], *shown]
    if all(row["item"] == row["title"] for row in rows):
        table = [[*row[:2], *row[3:]] for row in table]
    for line in lines(table):
        print(line)
    for note in [*notes, counter.basis]:
        print(f"({note})")


def lines(table: Sequence[Sequence[Any]]) -> list[str]:
    """A table as aligned lines, without characters that a terminal would obey."""
    cells = [["".join(c if c.isprintable() else " " for c in str(cell)) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


def _short(title: str) -> str:
    return title if len(title) <= _TITLE else title[: _TITLE - 3] + "..."
