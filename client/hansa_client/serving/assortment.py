"""The league's catalogue in the shop's own words: its item codes in and out, titles, categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hansa.errors import UsageError
from hansa.schema import Catalogue
from hansa_client.config import CatalogueMapping
from hansa_client.data.catalogue import item_codes, normalised
from hansa_client.home import ShopHome

Mask = npt.NDArray[np.bool_]
_SHOWN = 3
_PLAIN = CatalogueMapping()


@dataclass(frozen=True)
class Assortment:
    """What a shop calls the items of the catalogue.

    Attributes:
        catalogue: The league's catalogue.
        positions: The shop's codes, and the item that each means; of several for one item the first is shown.
        mapping: How codes are spelt.
    """

    catalogue: Catalogue
    positions: Mapping[str, int]
    mapping: CatalogueMapping = _PLAIN

    @classmethod
    def plain(cls, catalogue: Catalogue) -> Assortment:
        """That of a shop whose codes are the catalogue's own."""
        return cls(catalogue, {code: position for position, code in enumerate(catalogue.item_ids)})

    @classmethod
    def read(cls, home: ShopHome, mapping: CatalogueMapping, catalogue: Catalogue) -> Assortment:
        """That of a shop by its settings: see ``hansa_client.data.catalogue.item_codes``.

        Raises:
            UsageError: The mapping cannot be read, is ambiguous, or lacks a column.
        """
        return cls(catalogue, item_codes(catalogue, mapping, home)[0], mapping)

    @cached_property
    def codes(self) -> Sequence[str | None]:
        """The shop's code of each item; None: it has none, so it cannot sell it."""
        codes: list[str | None] = [None] * len(self.catalogue)
        for code, position in self.positions.items():
            if codes[position] is None:
                codes[position] = code
        if self.mapping.mapping is None and self.mapping.key != "item_id":  # as the catalogue spells them
            spelt = self.catalogue.details[self.mapping.key].to_list()
            codes = [None if code is None else text for code, text in zip(codes, spelt, strict=True)]
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
        spelt = normalised([code], self.mapping)[0]
        if spelt is not None and spelt in self.positions:
            return self.positions[spelt]
        longer = sorted(known for known in self.codes if code and known and known.startswith(code))
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
