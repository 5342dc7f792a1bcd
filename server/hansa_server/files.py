"""Files of a coordinator: there as a whole or not at all, readable by their owner alone."""

from __future__ import annotations

import os
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined


def write_private(path: Path, content: bytes | str) -> None:
    """Write a file of mode 0600 in one step; folders that are missing are made with mode 0700."""
    make_private(path.parent)
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def make_private(folder: Path) -> None:
    """A folder of mode 0700, and those above it that are missing."""
    if not folder.is_dir():
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def rendered(template: str, **values: object) -> str:
    """A template of the wheel, filled in; a value that it needs and does not get is an error."""
    # Configuration files, not HTML: what goes into them is checked by the settings or written by ``tojson``.
    loader = Environment(
        loader=PackageLoader("hansa_server"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return loader.get_template(template).render(values)
