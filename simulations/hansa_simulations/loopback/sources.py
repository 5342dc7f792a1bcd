"""Four shops' data, each kept in its own way: a CSV file, a Parquet folder, PostgreSQL and SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from sqlalchemy import create_engine, text

from hansa_simulations.loopback.postgres import PostgreSQL
from hansa_simulations.synthetic import write_synthetic
from hansa_simulations.synthetic_parameters import SyntheticParameters

SHOPS = ("west", "north", "east", "south")
READER, READERS_PASSWORD = "reader", "of-orders-only"


@dataclass(frozen=True)
class Source:
    """What a shop tells ``hansa client configure`` of its data, and its own names for one customer and item.

    Attributes:
        options: Of the command.
        customer: Some customer, as the shop knows it.
        item: Some item of that customer's, likewise.
    """

    options: tuple[str, ...]
    customer: str
    item: str


@dataclass(frozen=True)
class Data:
    """The public catalogue and every shop's rows: customer, item, time (epoch seconds)."""

    catalogue: pl.DataFrame
    rows: dict[str, pl.DataFrame]


def make_data(folder: Path, customers: int, items: int, seed: int) -> Data:
    """Generated customers of four shops, and a catalogue with GTINs.

    Args:
        folder: For files on the way.
        customers: Over all shops.
        items: In the catalogue.
        seed: Repeats it.
    """
    parameters = SyntheticParameters(
        customers=customers, items=items, shops=len(SHOPS), interactions=12, groups=8, size_spread=0.3
    )
    write_synthetic(folder, parameters, seed)
    listed = pl.read_parquet(folder / "items.parquet")
    gtins = [gtin13(400_000_000_000 + number) for number in range(len(listed))]
    catalogue = listed.with_columns(
        pl.Series("gtin", gtins),
        *([] if "title" in listed.columns else [pl.format("Item {}", "item_id").alias("title")]),
    )
    read = pl.read_parquet(folder / "interactions.parquet")
    parts = read.partition_by("shop_id", maintain_order=True)
    rows = {
        name: part.select("user_id", "item_id", "timestamp") for name, part in zip(SHOPS, parts, strict=True)
    }
    return Data(catalogue, rows)


def gtin13(number: int) -> str:
    """A number of twelve digits with its check digit (GS1 General Specifications, 7.9)."""
    digits = f"{number:012d}"
    weighted = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return f"{digits}{-weighted % 10}"


def west(folder: Path, data: Data) -> Source:
    """A CSV file of a German till: foreign names, semicolons, local dates, GTINs, returns."""
    rows = data.rows["west"].join(data.catalogue.select("item_id", "gtin"), on="item_id")
    rows = rows.sort("timestamp").select(
        pl.col("user_id").str.replace("customer-", "K").alias("Kunde"),
        pl.col("gtin").alias("EAN"),
        pl.from_epoch("timestamp").dt.strftime("%d.%m.%Y %H:%M").alias("Datum"),
        pl.lit("1,0").alias("Menge"),
    )
    returned = rows.head(3).with_columns(pl.lit("-1,0").alias("Menge"))
    pl.concat([rows, returned]).write_csv(folder / "verkauf.csv", separator=";")
    return Source(
        (
            *("--kind", "csv", "--path", str(folder / "verkauf.csv"), "--separator", ";"),
            *("--customer", "Kunde", "--item", "EAN", "--time", "Datum", "--quantity", "Menge"),
            *("--time-format", "%d.%m.%Y %H:%M", "--timezone", "Europe/Berlin", "--catalogue-key", "gtin"),
        ),
        rows["Kunde"][0],
        rows["EAN"][0],
    )


def north(folder: Path, data: Data) -> Source:
    """A folder of Parquet files, a month each."""
    rows = data.rows["north"].with_columns(pl.from_epoch("timestamp").dt.strftime("%Y-%m").alias("month"))
    target = folder / "orders"
    for (month,), part in rows.group_by("month"):
        (target / f"month={month}").mkdir(parents=True)
        part.drop("month").write_parquet(target / f"month={month}" / "part.parquet")
    return Source(("--kind", "parquet", "--path", str(target)), rows["user_id"][0], rows["item_id"][0])


def east(folder: Path, data: Data, database: PostgreSQL) -> Source:
    """A table of PostgreSQL and a user who may only read it; the shop's own codes, and a mapping file."""
    codes = pl.format("E/{}", pl.col("item_id").str.reverse()).alias("article")
    mapping = data.catalogue.select(codes.alias("code"), "item_id")
    mapping.write_csv(folder / "mapping.csv")
    rows = data.rows["east"].sort("timestamp").with_columns(codes)
    engine = create_engine(database.url(password=database.password))
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE orders (id BIGSERIAL PRIMARY KEY, customer_no BIGINT NOT NULL, "
                "article TEXT NOT NULL, "
                "ordered_at TIMESTAMPTZ NOT NULL, quantity NUMERIC NOT NULL)"
            )
        )
        connection.execute(
            text(
                "INSERT INTO orders (customer_no, article, ordered_at, quantity) "
                "VALUES (:customer, :article, to_timestamp(:at), 1)"
            ),
            list(_orders(rows)),
        )
        connection.execute(text(f"CREATE ROLE {READER} LOGIN PASSWORD '{READERS_PASSWORD}'"))
        connection.execute(text(f"GRANT SELECT ON orders TO {READER}"))
    engine.dispose()
    secret = folder / "database-password"
    secret.write_text(READERS_PASSWORD + "\n")
    secret.chmod(0o600)
    return Source(
        (
            *("--kind", "sql", "--url", database.url(READER), "--password", f"file:{secret}"),
            *("--table", "orders", "--customer", "customer_no", "--item", "article"),
            *("--time", "ordered_at", "--quantity", "quantity", "--incremental", "id"),
            *("--mapping", str(folder / "mapping.csv")),
        ),
        str(int(rows["user_id"][0].removeprefix("customer-"))),
        rows["article"][0],
    )


def south(folder: Path, data: Data) -> Source:
    """A table of SQLite, asked by a query."""
    rows = data.rows["south"].sort("timestamp")
    path = folder / "shop.db"
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("CREATE TABLE sales (who TEXT, what TEXT, at TEXT, state TEXT)")
        told = rows.with_columns(pl.from_epoch("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
        base.executemany("INSERT INTO sales VALUES (?, ?, ?, 'paid')", told.iter_rows())
        base.execute("INSERT INTO sales VALUES ('nobody', 'nothing', 'never', 'cancelled')")
    return Source(
        (
            *("--kind", "sql", "--url", f"sqlite:///{path}"),
            *("--query", "SELECT who, what, at FROM sales WHERE state = 'paid'"),
            *("--customer", "who", "--item", "what", "--time", "at"),
        ),
        rows["user_id"][0],
        rows["item_id"][0],
    )


def _orders(rows: pl.DataFrame) -> Iterator[dict[str, object]]:
    for customer, article, at in rows.select("user_id", "article", "timestamp").iter_rows():
        yield {"customer": int(customer.removeprefix("customer-")), "article": article, "at": at}
