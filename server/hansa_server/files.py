"""Files of a coordinator: there as a whole or not at all, readable by their owner alone."""

from __future__ import annotations

from pathlib import Path

from hansa.durable import write_whole
from hansa.units import template_environment


def write_private(path: Path, content: bytes | str) -> None:
    """Write a file of mode 0600 in one step; folders that are missing are made with mode 0700."""
    make_private(path.parent)
    write_whole(path, content.encode() if isinstance(content, str) else content)


def make_private(folder: Path) -> None:
    """A folder of mode 0700, and those above it that are missing."""
    if not folder.is_dir():
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def rendered(template: str, **values: object) -> str:
    """A template of the wheel, filled in; a value that it needs and does not get is an error."""
    # Configuration files, not HTML: what goes into them is checked by the settings or written by ``tojson``.
    return template_environment("hansa_server").get_template(template).render(values)
