"""Writing ``shop.toml``: with what each line means, and without touching what is not asked for."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import tomlkit
from pydantic import ValidationError
from tomlkit import TOMLDocument
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from hansa.config import problem
from hansa.durable import write_whole
from hansa.errors import UsageError
from hansa_client.config import ShopSettings

TEMPLATE = """\
# What this shop decides itself. 'hansa client configure' changes what it is told to and keeps the rest, your
# own comments included; 'hansa client doctor' checks it. No password belongs in here.
version = 1

[data]                            # where the interactions are
kind = "csv"                      # csv and parquet: a file, or a folder of them; sql: a database
path = "interactions.csv"         # of files; relative to this folder
separator = ","                   # of CSV
encoding = "utf-8"                # of CSV; e.g. cp1252 for older programs on Windows
url = ""                          # of a database, without a password: postgresql://reader@host:5432/shop
password = ""                     # where it is: env:NAME or file:PATH
table = ""                        # a table or view, e.g. public.orders; or
query = ""                        # a SELECT
incremental = ""                  # a column that only grows: only newer rows are asked for

[data.columns]                    # your own names
customer = "user_id"
item = "item_id"
time = "timestamp"
quantity = ""                     # rows of 0 or less, which are returns, are left out; empty: there is none
time_format = "auto"              # ISO 8601 or epoch seconds; or a format such as "%d.%m.%Y %H:%M"
timezone = "UTC"                  # of times that say none, e.g. Europe/Berlin

[catalogue]                       # how your item codes become items of the league's catalogue
key = "item_id"                   # the catalogue's column with the same codes, e.g. gtin or sku
# mapping = "mapping.csv"         # or a CSV file with the columns code and item_id

[budget]                          # for everything that ever leaves
epsilon = 8.0                     # the lifetime ceiling
delta = 1e-5                      # of the whole lifetime; it cannot be changed once the ledger is there, and
                                  # is at most 1 / customers; proposed: min(1e-5, customers^-1.1)
customers = 1000                  # a round figure above your number of customers; it is public

[approvals]                       # what may run without asking you
plans = "ranges"                  # ranges: plans inside what follows; ask: each waits for your decision, too
dp = ["distributed"]              # and perhaps "local"; central and none never run
methods = ["popularity", "cooccurrence", "hybrid", "subspace", "dpals", "dpsgd"]
epsilon = 6.0                     # most that one plan may cost with its repeats; it is per plan: many plans
                                  # may go up to the ceiling, budget.epsilon
noise = 0.3                       # least noise multiplier of any release, whatever its epsilon
releases = 1000                   # most private sums of one plan: its rounds, each times its local steps
plans_a_day = 24                  # most plans that are accepted within 24 hours
repeats = 2                       # lost rounds of one run that are paid for again, at most
shops = 3                         # fewest shops invited, where this shop's part is hidden in a sum
bundles = []                      # SHA-256 of the coordinator's app bundles

[masking]                         # the terms on which this shop's part goes into a masked sum
vouched = []                      # shops whose fingerprints you have compared
threshold = 3                     # fewest shops in a sum
honest = 2                        # fewest honest vouched-for shops in it
bits = 8
colluders = 1                     # vouched-for shops that may be curious, at most

[network]
port = 0                          # of the node's own interface, on loopback; 0: any free one
pace = 1.0                        # replies leave at whole multiples of this many seconds
poll = 1.0                        # seconds between looks for work
megabytes = 1024                  # most that one message may have; less where the plan's arrays need less

[serving]                         # what your customers get
model = "newest"                  # or a version that is pinned
keep = 5                          # versions that are kept
shared_only = false               # true: only what is private serves

[logs]                            # what the shop's processes write down; never anything of a customer
megabytes = 5.0                   # of one file; then the next is begun
files = 5                         # files that are kept
"""


def open_document(path: Path) -> TOMLDocument:
    """The file as it is, or a new one.

    Raises:
        UsageError: It is there and no TOML.
    """
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return tomlkit.parse(TEMPLATE)
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise UsageError(f"{path}: {error}") from error


def change(document: TOMLDocument, changes: Mapping[str, object]) -> None:
    """Set fields by dotted name; None takes one out."""
    for name, value in changes.items():
        *sections, key = name.split(".")
        table = cast(Table, document)
        for section in sections:
            if section not in table:
                table[section] = tomlkit.table()
            table = cast(Table, table[section])
        if value is None:
            table.pop(key, None)
        elif key not in table or table[key] != value:
            table[key] = _written(value)


def checked(document: TOMLDocument, path: Path) -> ShopSettings:
    """The settings of a document.

    Raises:
        UsageError: A field is wrong.
    """
    try:
        return ShopSettings.model_validate(tomllib.loads(tomlkit.dumps(document)))
    except ValidationError as error:
        raise UsageError(f"{path}: {problem(error)}") from error


def write_document(document: TOMLDocument, path: Path) -> None:
    """Write the file in one piece, for its owner alone."""
    write_whole(path, tomlkit.dumps(document).encode())


def _written(value: object) -> Any:
    return list(value) if isinstance(value, tuple) else value
