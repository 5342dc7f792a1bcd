"""Looking at a shop's first rows: which column is which, and how its dates are written.

A proposal is shown to the operator, who decides; what is ambiguous is not proposed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from hansa_client.data.times import AUTO, seconds

_NAMES = {
    "customer": (
        *("user_id", "customer_id", "customer", "user", "client_id", "client", "member_id", "card_id"),
        *("customer_no", "customer_number", "kunde", "kundennr", "kundennummer", "kunden_id", "kundenid"),
        *("household_id", "account_id", "buyer_id", "email", "who"),
    ),
    "item": (
        *("item_id", "product_id", "article_id", "item", "product", "article", "sku", "gtin", "ean"),
        *("upc", "item_code", "product_code", "articleno", "artikel", "artikelnr", "artikelnummer"),
        *("article_number", "asin", "isbn", "what"),
    ),
    "time": (
        *("timestamp", "time", "date", "datetime", "ordered_at", "order_date", "purchased_at", "created_at"),
        *("purchase_date", "bought_at", "sold_at", "datum", "zeit", "bestelldatum", "kaufdatum", "at"),
    ),
    "quantity": ("quantity", "qty", "units", "menge", "anzahl", "stueck", "stuck"),
}
_DATES = ("%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d")
_CLOCKS = (" %H:%M:%S", " %H:%M", "", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", "T%H:%M:%S", ", %H:%M:%S")
_SEPARATORS = ",;\t|"
_LOOKED_AT = 1 << 20


def propose_columns(found: Sequence[str]) -> dict[str, str]:
    """The columns whose names say what they are, by role."""
    plain = {re.sub(r"[^a-z0-9]", "", name.casefold().replace("ü", "u")): name for name in found}
    proposed: dict[str, str] = {}
    for role, names in _NAMES.items():
        for name in names:
            known = plain.get(name.replace("_", ""))
            if known is not None and known not in proposed.values():
                proposed[role] = known
                break
    return proposed


def propose_format(values: Sequence[object]) -> list[str]:
    """The formats that read all of some times; ``auto`` alone where it does; several where it is unclear.

    Args:
        values: Of the column, as the source has them.
    """
    given = [str(value) for value in values if value is not None and str(value).strip()]
    if not given:
        return [AUTO]
    column = pl.Series(given)
    if seconds(column).null_count() == 0:
        return [AUTO]
    candidates = [day + clock for day in _DATES for clock in _CLOCKS]
    fitting = [form for form in candidates if _reads(column, form)]
    # %y reads the first digits of four as a year of its own; %Y and %y never both fit in full.
    return fitting or ([AUTO] if seconds(column).null_count() < len(column) else [])


def _reads(column: pl.Series, form: str) -> bool:
    found = seconds(column, form)
    return found.null_count() == 0 and bool(((found > 0) & (found < 4e9)).all())


def propose_csv(path: Path) -> tuple[str, str]:
    """Separator and encoding of a CSV file, by its first lines."""
    import gzip

    with path.open("rb") as file:
        start = file.read(_LOOKED_AT)
    if start[:2] == b"\x1f\x8b":
        with gzip.open(path, "rb") as packed:
            start = packed.read(_LOOKED_AT)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    else:
        try:
            start[: max(0, len(start) - 4)].decode("utf-8")
            encoding = "utf-8"
        except UnicodeDecodeError:
            encoding = "cp1252"
    lines = start.decode(encoding, "replace").lstrip("\ufeff").splitlines()[:20]
    best, most = ",", (0, 1)
    for mark in _SEPARATORS:
        widths = [len(row) for row in csv.reader(lines, delimiter=mark)] or [0]
        alike = sum(width == widths[0] for width in widths)
        if widths[0] > 1 and (alike, widths[0]) > most:
            best, most = mark, (alike, widths[0])
    return best, encoding
