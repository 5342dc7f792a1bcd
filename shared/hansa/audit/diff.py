"""What changed between two reports, section by section; evidence and signatures are left to ``verify``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hansa.audit.document import Report

_KEYS = ("number", "run", "shop", "risk", "role", "shops", "epsilon")
_LEFT_OUT = {"evidence", "signature"}


def diff(one: Report, other: Report) -> list[tuple[str, Any, Any]]:
    """(place, in the one, in the other) of everything that differs; None: it is not there.

    Parts of lists are matched by what names them (number, run, shop), so that an added run is one line.
    """
    before, after = (report.statement.model_dump(mode="json", exclude=_LEFT_OUT) for report in (one, other))
    return list(_differ(before, after, ""))


def _differ(one: Any, other: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            yield from _differ(one.get(name), other.get(name), f"{path}.{name}" if path else name)
    elif isinstance(one, list) and isinstance(other, list):
        mine, theirs = _named(one), _named(other)
        for name in [*mine, *(name for name in theirs if name not in mine)]:
            yield from _differ(mine.get(name), theirs.get(name), f"{path}[{name}]")
    elif one != other:
        yield path, one, other


def _named(values: list[Any]) -> dict[str, Any]:
    """The values by what names them; by place where nothing does, or a name is there twice."""
    for key in _KEYS:
        if values and all(isinstance(value, dict) and key in value for value in values):
            named = {f"{key} {value[key]}": value for value in values}
            if len(named) == len(values):
                return named
    if all(isinstance(value, str) for value in values) and len(set(values)) == len(values):
        return {value[:60]: value for value in values}
    return {str(number): value for number, value in enumerate(values)}
