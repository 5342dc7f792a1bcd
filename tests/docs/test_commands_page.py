"""The documentation of the commands is current, and its examples are command lines that exist."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from hansa.cli import commands
from hansa.units import unit_files

ROOT = Path(__file__).parents[2]
GENERATOR = runpy.run_path(str(ROOT / "docs" / "commands.py"))
EXAMPLE = re.compile(r"^ *(?:\$ )?(hansa [^`\n]*)$", re.MULTILINE)

needs_commands = pytest.mark.skipif(
    find_spec("hansa_simulations.commands") is None, reason="there is no command yet"
)


def _leaves() -> list[click.Context]:
    contexts = GENERATOR["walk"](commands(), "hansa")
    return [context for context in contexts if not isinstance(context.command, click.Group)]


def _assert_parses(line: str) -> None:
    """Find the command of an example, leaving out what the shell does, and let it parse its arguments."""
    name, *arguments = shlex.split(re.split(r" (?:>|\||&&) ", line)[0], comments=True)
    command: click.Command = commands()
    context = click.Context(command, info_name=name)
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, found, arguments = command.resolve_command(context, arguments)
        assert found is not None, line
        command, context = found, click.Context(found, context, name)
    try:
        command.make_context(name, arguments, context.parent)
    except click.exceptions.Exit:  # --help and --version end here
        pass
    except click.UsageError as error:
        pytest.fail(f"{line}: {error.format_message()}")


@needs_commands
def test_commands_page_is_current() -> None:
    page: Path = GENERATOR["PAGE"]
    assert page.read_text(encoding="utf-8") == GENERATOR["page"](), "run `make docs`"


@needs_commands
def test_every_command_has_examples_that_parse() -> None:
    for context in _leaves():
        _, _, after = context.get_help().partition("Examples:")
        examples = EXAMPLE.findall(after)
        assert examples, f"{context.command_path} has no example"
        assert all(line.startswith(context.command_path) for line in examples), context.command_path
        for line in examples:
            _assert_parses(line)


@needs_commands
@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/runbook.md"])
def test_command_lines_in_pages_parse(name: str) -> None:
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", (ROOT / name).read_text(), re.DOTALL):
        for line in EXAMPLE.findall(block.replace("\\\n", " ")):
            _assert_parses(line)


@needs_commands
def test_command_lines_within_the_runbook_s_text_parse() -> None:
    text = re.sub(r"```.*?```", "", (ROOT / "docs" / "runbook.md").read_text(), flags=re.DOTALL)
    lines = re.findall(r"`(?:[^`\n]* )?(hansa (?:client|server) [^`\n]+)`", text)
    assert lines
    for line in lines:
        _assert_parses(line)
    for words in re.findall(r"`((?:client|server) [a-z -]+)`", text):
        _assert_parses(f"hansa {words} --help")


@needs_commands
@pytest.mark.parametrize(("side", "least"), [("client", 7), ("server", 3)])
def test_command_lines_in_units_parse(side: str, least: int) -> None:
    files = unit_files(f"hansa_{side}", "/var/lib/hansa", "/opt/hansa/bin/hansa", "hansa")
    lines = []
    for text in files.values():
        lines += re.findall(r"^ExecStart=/opt/hansa/bin/(hansa .+)$", text, re.MULTILINE)
        listed = re.findall(r"^(?:CMD| *command:) (\[.*\])$", text, re.MULTILINE)
        lines += [shlex.join(json.loads(words)) for words in listed]
    assert len(lines) >= least
    for line in lines:
        _assert_parses(line)


@needs_commands
@pytest.mark.parametrize("line", ["hansa nowhere", "hansa simulate --no-such-option"])
def test_a_wrong_example_is_noticed(line: str) -> None:
    with pytest.raises((pytest.fail.Exception, click.UsageError)):
        _assert_parses(line)
