"""What every source of a shop's rows can do, and the high-water mark that it is asked to go on from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hansa.errors import UsageError
from hansa_client.data.cleaning import Chunk, Kind

CHUNK = 200_000
"""Rows that are in memory at a time before they are cleaned."""


@dataclass(frozen=True)
class Mark:
    """The largest value of the incremental column so far.

    Attributes:
        kind: ``number`` or ``text`` (dates in ISO 8601, whose order is that of the text).
        value: As text.
    """

    kind: Kind
    value: str


class Source(Protocol):
    """A file, a folder or a database."""

    def columns(self) -> list[str]:
        """The names of its columns.

        Raises:
            UsageError: It cannot be opened.
        """

    def head(self, rows: int) -> list[dict[str, object]]:
        """Its first rows with all their columns, to look at on the shop's own screen."""

    def chunks(self, columns: Mapping[str, str], since: Mark | None) -> Iterator[Chunk]:
        """Its rows, some at a time.

        Args:
            columns: The source's names by role: customer, item, time, perhaps quantity and mark.
            since: Only rows whose mark is at least this; None: all.

        Raises:
            UsageError: A column is missing, or the source fails.
        """


def missing(field: str, name: str, place: str, found: Sequence[str]) -> UsageError:
    """The error for a column that is not there."""
    return UsageError(
        f"shop.toml: {field}: {place} has no column {name!r}; found {listed(found)}; write one of these"
    )


def listed(names: Sequence[str]) -> str:
    """Names for one line."""
    shown = ", ".join(map(repr, names[:20])) or "none"
    return shown + ", ..." if len(names) > 20 else shown


def field_of(role: str) -> str:
    """The field of ``shop.toml`` that names a column."""
    return "data.incremental" if role == "mark" else f"data.columns.{role}"
