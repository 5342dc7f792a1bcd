"""Writes docs/commands.md from the help texts of the commands; run by ``make docs``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from hansa.cli import commands

PAGE = Path(__file__).with_suffix(".md")
WIDTH = 78
INTRODUCTION = """\
# Commands

Written by `make docs` from the help texts, which `--help` prints as well. Exit codes: 0 done; 2 wrong
usage, configuration or data; 3 refused by a privacy budget or an approval policy; 4 verification failed;
130 interrupted (with a valid partial result); 1 anything unexpected (`HANSA_DEBUG=1` shows where).
"""


def walk(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """The contexts of a command and of everything below it, in the order of the help."""
    names = ["-h", "--help"]
    context = click.Context(command, parent, name, terminal_width=WIDTH, help_option_names=names)
    yield context
    if isinstance(command, click.Group):
        for member in command.list_commands(context):
            found = command.get_command(context, member)
            if found is not None and not found.hidden:
                yield from walk(found, member, context)


def page() -> str:
    """The whole of docs/commands.md."""
    sections = (
        f"\n## {context.command_path}\n\n```text\n{context.get_help()}\n```\n"
        for context in walk(commands(), "hansa")
    )
    return INTRODUCTION + "".join(sections)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
