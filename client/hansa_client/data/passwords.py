"""Where a password is: in the environment or in a file, never in ``shop.toml``, a message or a log."""

from __future__ import annotations

import os
from pathlib import Path

from hansa.errors import UsageError


def secret(where: str, root: Path, field: str = "data.password") -> str | None:
    """The secret itself; None where none is needed.

    Args:
        where: ``env:NAME``, ``file:PATH`` (relative to ``root``), or empty.
        root: The shop's folder.
        field: Of ``shop.toml``, for messages.

    Raises:
        UsageError: There is none.
    """
    kind, _, name = where.partition(":")
    if not where:
        return None
    if kind == "env":
        found = os.environ.get(name)
        if found is None:
            raise UsageError(f"shop.toml: {field}: the environment has no {name}; set it for this process")
        return found
    try:
        return (root / name).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise UsageError(f"shop.toml: {field}: {root / name}: {reason}; write the password there") from None
