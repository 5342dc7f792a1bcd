"""The shared catalogue, and how a shop's item codes become its items; nothing is guessed."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hansa.durable import write_whole
from hansa.errors import UsageError
from hansa.schema import Catalogue
from hansa_client.config import CatalogueMapping, ShopSettings
from hansa_client.data.sources import listed
from hansa_client.home import ShopHome
from hansa_client.invited import read_invitation

GTIN = "gtin"
_MOST_SHOWN = 1000


@dataclass(frozen=True)
class Mapped:
    """What became of a shop's item codes.

    Attributes:
        interactions: Of all codes.
        unknown: Of those that the catalogue does not know.
        codes: Different codes.
        unknown_codes: Different codes that the catalogue does not know.
        file: Where the most frequent of these are; None where there are none.
        strangers: Lines of the mapping file whose item the catalogue does not have.
    """

    interactions: int
    unknown: int
    codes: int
    unknown_codes: int
    file: Path | None = None
    strangers: int = 0

    @property
    def share_known(self) -> float:
        """Of all interactions, those with a known item; 1 where there are none."""
        return 1 - self.unknown / self.interactions if self.interactions else 1.0

    def lines(self) -> list[str]:
        """What to show, a line each."""
        told = [f"{self.share_known:.1%} of the interactions are with items of the catalogue"]
        if self.unknown_codes:
            where = f"; see {self.file}" if self.file else ""
            told.append(f"{self.unknown_codes:,} of {self.codes:,} codes are unknown{where}")
        if self.strangers:
            told.append(f"{self.strangers:,} lines of the mapping file name no item of the catalogue")
        return told


def load_catalogue(home: ShopHome) -> Catalogue:
    """The catalogue that came with the invitation, with all its columns; price is a number, the rest text.

    Raises:
        UsageError: It is missing or damaged.
    """
    path = home.catalogue
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}; 'hansa client init' writes it") from error
    if home.invitation.exists():
        stated = read_invitation(home).catalogue
        if hashlib.sha256(content).hexdigest() != stated:
            raise UsageError(f"{path}: another catalogue than the invitation names; run 'hansa client init'")
    try:
        details = pl.read_csv(io.BytesIO(content), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"{path}: not a CSV file with a header; ask the coordinator for it") from error
    if "item_id" not in details.columns:
        raise UsageError(f"{path}: no column 'item_id'; ask the coordinator for the catalogue")
    ids = details["item_id"].to_list()
    if None in ids or len(set(ids)) < len(ids):
        raise UsageError(f"{path}: an item_id is empty or twice; ask the coordinator for the catalogue")
    if "price" in details.columns:
        details = details.with_columns(pl.col("price").cast(pl.Float64, strict=False))
    return Catalogue(tuple(ids), details.drop("item_id"))


def map_items(
    frame: pl.DataFrame, catalogue: Catalogue, settings: ShopSettings, home: ShopHome
) -> tuple[pl.DataFrame, Mapped]:
    """Replace the shop's codes with positions in the catalogue.

    Args:
        frame: Interactions; see ``hansa_client.data.connectors.read_interactions``.
        catalogue: The shared catalogue.
        settings: What ``shop.toml`` says.
        home: The shop's folder; the most frequent unknown codes are written into its vault.

    Returns:
        The interactions with known items, ``item`` being int32 positions, in the same order. And what became
        of the codes.

    Raises:
        UsageError: The mapping itself is wrong: a column or file is missing, or a code is ambiguous.
    """
    positions, strangers = item_codes(catalogue, settings.catalogue, home)
    seen = frame["item"].value_counts(name="interactions")
    codes = seen["item"].to_list()
    asked = normalised(codes, settings.catalogue)
    found = pl.DataFrame(
        {"item": codes, "position": [positions.get(code) if code else None for code in asked]},
        schema={"item": pl.String, "position": pl.Int32},
    )
    known = frame.join(found, on="item", how="left", maintain_order="left")
    known = known.drop_nulls("position").drop("item").rename({"position": "item"}).select(frame.columns)
    lost = seen.join(found.filter(pl.col("position").is_null()), on="item", how="semi")
    path = _write_unknown(home, lost)
    return known, Mapped(
        interactions=len(frame),
        unknown=len(frame) - len(known),
        codes=len(codes),
        unknown_codes=len(lost),
        file=path,
        strangers=strangers,
    )


def item_codes(catalogue: Catalogue, mapping: CatalogueMapping, home: ShopHome) -> tuple[dict[str, int], int]:
    """The positions of all codes that mean an item; see ``normalised`` for their spelling.

    Returns:
        Positions by code, and how many lines of the mapping file name no item of the catalogue.

    Raises:
        UsageError: As ``map_items``.
    """
    place = {item: position for position, item in enumerate(catalogue.item_ids)}
    if mapping.mapping is not None:
        return _from_file(home.root / mapping.mapping, place)
    if mapping.key == "item_id":
        return place, 0
    if mapping.key not in catalogue.details.columns:
        raise UsageError(
            f"shop.toml: catalogue.key: the catalogue has no column {mapping.key!r}; found "
            f"{listed(['item_id', *catalogue.details.columns])}; write one of these, or catalogue.mapping"
        )
    codes: dict[str, int] = {}
    column = catalogue.details[mapping.key].to_list()
    for position, code in enumerate(normalised(column, mapping)):
        if code is None:
            continue
        if codes.setdefault(code, position) != position:
            one, other = (catalogue.item_ids[at] for at in (codes[code], position))
            raise UsageError(
                f"shop.toml: catalogue.key: {mapping.key} {code!r} is ambiguous, items {one!r} and {other!r} "
                "have it; use another key, or catalogue.mapping"
            )
    return codes, 0


def normalised(codes: Iterable[str | None], mapping: CatalogueMapping) -> list[str | None]:
    """Codes in the spelling that is compared; None for one that cannot be such a code."""
    if mapping.mapping is None and mapping.key == GTIN:
        return [None if code is None else gtin(code) for code in codes]
    return [None if code is None else code.strip() or None for code in codes]


def gtin(code: str) -> str | None:
    """A GTIN of 8, 12, 13 or 14 digits as 14; None where the check digit is wrong, or it is none.

    Spaces and hyphens are passed over, and so are leading zeros that a spreadsheet has lost.
    """
    digits = code.strip().replace(" ", "").replace("-", "")
    whole, _, zeros = digits.partition(".")
    digits = whole if zeros and not zeros.strip("0") else digits
    if not (digits.isascii() and digits.isdigit() and 7 <= len(digits) <= 14):
        return None
    padded = digits.zfill(14)
    weighted = sum(int(digit) * (3 if at % 2 == 0 else 1) for at, digit in enumerate(padded[:13]))
    return padded if (10 - weighted % 10) % 10 == int(padded[13]) else None


def _from_file(path: Path, place: dict[str, int]) -> tuple[dict[str, int], int]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "not CSV in UTF-8"
        raise UsageError(f"shop.toml: catalogue.mapping: {path}: {reason}; write code,item_id") from None
    header = [name.strip() for name in rows[0]] if rows else []
    if not {"code", "item_id"} <= set(header):
        raise UsageError(
            f"shop.toml: catalogue.mapping: {path}: no columns 'code' and 'item_id'; found {listed(header)}"
        )
    at, to = header.index("code"), header.index("item_id")
    codes: dict[str, int] = {}
    strangers = 0
    for number, row in enumerate(rows[1:], start=2):
        if len(row) <= max(at, to) or not row[at].strip():
            continue
        position = place.get(row[to].strip())
        if position is None:
            strangers += 1
        elif codes.setdefault(row[at].strip(), position) != position:
            raise UsageError(
                f"shop.toml: catalogue.mapping: {path}, line {number}: code {row[at].strip()!r} is "
                "ambiguous, an earlier line gives it another item; keep one of them"
            )
    return codes, strangers


def _write_unknown(home: ShopHome, lost: pl.DataFrame) -> Path | None:
    path = home.vault / "unknown-items.csv"
    most = lost.sort(["interactions", "item"], descending=[True, False]).head(_MOST_SHOWN)
    try:
        if lost.is_empty():
            path.unlink(missing_ok=True)
            return None
        home.vault.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, most.rename({"item": "code"}).write_csv().encode())
    except OSError:  # a full disk keeps nobody from taking part for want of this file
        return None
    return path
