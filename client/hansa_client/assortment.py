"""The league's catalogue in the shop's own words: its item codes in and out, titles, categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.exceptions import PolarsError

from hansa.errors import UsageError
from hansa.schema import Catalogue
from hansa_client.config import CatalogueMapping
from hansa_client.home import ShopHome

Mask = npt.NDArray[np.bool_]
_SHOWN = 3


@dataclass(frozen=True)
class Assortment:
    """What a shop calls the items of the catalogue.

    Attributes:
        catalogue: The league's catalogue.
        positions: The shop's codes, and the item that each means; of several for one item the first is shown.
    """

    catalogue: Catalogue
    positions: Mapping[str, int]

    @classmethod
    def plain(cls, catalogue: Catalogue) -> Assortment:
        """That of a shop whose codes are the catalogue's own."""
        return cls(catalogue, {code: position for position, code in enumerate(catalogue.item_ids)})

    @classmethod
    def read(cls, home: ShopHome, mapping: CatalogueMapping, catalogue: Catalogue) -> Assortment:
        """That of a shop by its settings: a column of the catalogue, or a mapping file.

        Raises:
            UsageError: They cannot be read, or lack a column.
        """
        if mapping.mapping is not None:
            return cls._of(_pairs(home.root / mapping.mapping, "code"), catalogue)
        if mapping.key == "item_id":
            return cls.plain(catalogue)
        return cls._of(_pairs(home.catalogue, mapping.key), catalogue)

    @classmethod
    def _of(cls, pairs: pl.DataFrame, catalogue: Catalogue) -> Assortment:
        place = {item: position for position, item in enumerate(catalogue.item_ids)}
        positions: dict[str, int] = {}
        for code, item in pairs.iter_rows():
            if code and item in place:
                positions.setdefault(code, place[item])
        return cls(catalogue, positions)

    @cached_property
    def codes(self) -> Sequence[str | None]:
        """The shop's code of each item; None: it has none, so it cannot sell it."""
        codes: list[str | None] = [None] * len(self.catalogue)
        for code, position in self.positions.items():
            if codes[position] is None:
                codes[position] = code
        return codes

    @cached_property
    def sold(self) -> Mask:
        """Which items have a code of the shop, bool [items]."""
        return np.array([code is not None for code in self.codes], dtype=np.bool_)

    @cached_property
    def _titles(self) -> list[str | None]:
        if "title" not in self.catalogue.details.columns:
            return [None] * len(self.catalogue)
        return self.catalogue.details["title"].to_list()

    def code(self, position: int) -> str:
        """The shop's code of an item, or the catalogue's where it has none."""
        return self.codes[position] or self.catalogue.item_ids[position]

    def title(self, position: int) -> str:
        """An item's title, or its code."""
        return self._titles[position] or self.code(position)

    def position(self, code: str) -> int:
        """The item that a code of the shop means.

        Raises:
            UsageError: None; the message names codes that begin with it, and guesses nothing.
        """
        if code in self.positions:
            return self.positions[code]
        longer = sorted(known for known in self.positions if code and known.startswith(code))
        more = ", ..." if len(longer) > _SHOWN else ""
        near = f"; codes that begin with it: {', '.join(longer[:_SHOWN])}{more}" if longer else ""
        raise UsageError(
            f"item {code!r}: means no item of the league's catalogue{near}; give a code of the shop's own"
        )

    def category(self, name: str) -> Mask:
        """Which items are of a category, by its whole name or a part of it between bars, bool [items].

        Raises:
            UsageError: No item is.
        """
        if "category" not in self.catalogue.details.columns:
            raise UsageError("--category: the catalogue has no categories; leave the option out")
        wanted = name.strip().casefold()
        texts = [(text or "").casefold() for text in self.catalogue.details["category"].to_list()]
        mask = np.array([wanted in (text, *text.split("|")) for text in texts], dtype=np.bool_)
        if not wanted or not mask.any():
            longer = sorted({text for text in texts if wanted and text.startswith(wanted)})[:_SHOWN]
            near = f"; some begin with it: {', '.join(longer)}" if longer else ""
            raise UsageError(f"--category {name!r}: no item of the catalogue is of it{near}")
        return mask


def _pairs(path: Path, code: str) -> pl.DataFrame:
    """Two columns of a CSV file as strings: codes and the catalogue's ``item_id``."""
    try:
        return pl.read_csv(path, infer_schema=False).select(pl.col(code), pl.col("item_id").alias("__item"))
    except (OSError, PolarsError) as error:
        raise UsageError(f"{path}: columns {code!r} and 'item_id' cannot be read ({error})") from error
