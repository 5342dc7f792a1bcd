"""``hansa client configure``: a shop's settings, from options and questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[
    Path | None, typer.Option("--home", help="The shop's folder. Default: $HANSA_SHOP, or the current one.")
]


def _text(name: str, told: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(name, help=told)
    return option


def configure(
    home: Home = None,
    kind: Annotated[str | None, _text("--kind", "Of the data: csv, parquet or sql.")] = None,
    path: Annotated[str | None, _text("--path", "A file, or a folder of files.")] = None,
    separator: Annotated[str | None, _text("--separator", "Of CSV.")] = None,
    encoding: Annotated[str | None, _text("--encoding", "Of CSV.")] = None,
    url: Annotated[str | None, _text("--url", "Of a database, without a password.")] = None,
    password: Annotated[str | None, _text("--password", "Where it is: env:NAME or file:PATH.")] = None,
    table: Annotated[str | None, _text("--table", "A table or view.")] = None,
    query: Annotated[str | None, _text("--query", "Or a SELECT.")] = None,
    incremental: Annotated[str | None, _text("--incremental", "A column that only grows.")] = None,
    customer: Annotated[str | None, _text("--customer", "Column of the customer.")] = None,
    item: Annotated[str | None, _text("--item", "Column of the item.")] = None,
    time: Annotated[str | None, _text("--time", "Column of the time.")] = None,
    quantity: Annotated[str | None, _text("--quantity", "Column of the quantity; '' for none.")] = None,
    time_format: Annotated[str | None, _text("--time-format", "auto, or e.g. '%d.%m.%Y %H:%M'.")] = None,
    timezone: Annotated[str | None, _text("--timezone", "Of times that say none.")] = None,
    catalogue_key: Annotated[
        str | None, _text("--catalogue-key", "The catalogue's column with the same item codes.")
    ] = None,
    mapping: Annotated[
        str | None, _text("--mapping", "Or a CSV file of code and item_id; '' for none.")
    ] = None,
    epsilon: Annotated[float | None, typer.Option(help="The lifetime ceiling.")] = None,
    delta: Annotated[
        float | None, typer.Option(help="Of the whole lifetime; set once. Default: by --customers.")
    ] = None,
    customers: Annotated[
        int | None, typer.Option(help="A round figure above the number of customers; it is public.")
    ] = None,
    plans: Annotated[
        str | None, _text("--plans", "ranges: plans inside the ranges run; ask: each waits for you.")
    ] = None,
    dp: Annotated[
        list[str] | None, typer.Option(help="A DP model that is allowed, distributed or local; repeatable.")
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="A method that is allowed; repeatable.")] = None,
    plan_epsilon: Annotated[
        float | None, typer.Option(help="Most that one plan may cost with its repeats.")
    ] = None,
    noise: Annotated[float | None, typer.Option(help="Least noise multiplier of any release.")] = None,
    releases: Annotated[int | None, typer.Option(help="Most private sums of one plan.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Lost rounds of a run that are paid again.")] = None,
    shops: Annotated[int | None, typer.Option(help="Fewest shops invited.")] = None,
    threshold: Annotated[int | None, typer.Option(help="Fewest shops in a masked sum.")] = None,
    honest: Annotated[int | None, typer.Option(help="Fewest honest vouched-for shops in it.")] = None,
    colluders: Annotated[int | None, typer.Option(help="Vouched-for shops that may be curious.")] = None,
    look: Annotated[
        bool, typer.Option("--read/--no-read", help="Read the data, to see that they can be.")
    ] = True,
    reread: Annotated[
        bool, typer.Option("--reread", help="Read all rows anew: finds deleted and changed ones.")
    ] = False,
) -> None:
    """Write the shop's settings, shop.toml, and open its ledger.

    Looks at the first rows, proposes what was not said, asks on a terminal, and reads the data to see that it
    works. Run again, it changes what is asked for and nothing else. A password is never stored: say where it
    is. The ceiling may be changed later, as an entry of the ledger; delta may not.

    Examples:

        hansa client configure --path sales.csv --epsilon 4 --customers 2000

        hansa client configure --kind sql --url postgresql://reader@db/shop --password env:DB --table orders

        hansa client configure --catalogue-key gtin

        hansa client configure --reread

        hansa client configure --epsilon 6 --dp distributed --dp local
    """
    import sys

    from hansa_client.home import ShopHome
    from hansa_client.setup.configuring import Configuring

    given: dict[str, object] = {
        "data.kind": kind,
        "data.path": path,
        "data.separator": "\t" if separator == "\\t" else separator,
        "data.encoding": encoding,
        "data.url": url,
        "data.password": password,
        "data.table": table,
        "data.query": query,
        "data.incremental": incremental,
        "data.columns.customer": customer,
        "data.columns.item": item,
        "data.columns.time": time,
        "data.columns.quantity": quantity,
        "data.columns.time_format": time_format,
        "data.columns.timezone": timezone,
        "catalogue.key": catalogue_key,
        "catalogue.mapping": mapping,
        "budget.epsilon": epsilon,
        "budget.delta": delta,
        "budget.customers": customers,
        "approvals.plans": plans,
        "approvals.dp": dp or None,
        "approvals.methods": method or None,
        "approvals.epsilon": plan_epsilon,
        "approvals.noise": noise,
        "approvals.releases": releases,
        "approvals.repeats": repeats,
        "approvals.shops": shops,
        "masking.threshold": threshold,
        "masking.honest": honest,
        "masking.colluders": colluders,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if mapping == "":
        changes["catalogue.mapping"] = None
    place = ShopHome.found(home)
    ask = _ask if sys.stdin.isatty() and sys.stdout.isatty() else None
    Configuring(place, changes, ask, print, look, reread).run()
    print(f"{place.settings}: written; next: hansa client doctor --home {place.root}")


def _ask(question: str, proposal: str) -> str:
    answer: str = typer.prompt(question, default=proposal, err=True)
    return answer.strip()
