"""The shell of the command line, with commands made up here; the real ones are tested where they live."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated

import click
import pytest
import typer

from hansa import __version__, cli
from hansa.errors import HansaError, RefusalError, UsageError, VerificationError

Epsilon = Annotated[float, typer.Option(min=0.1, help="Privacy budget.")]


def greet(name: str = "you", epsilon: Epsilon = 1.0) -> None:
    """Greet somebody, in a first paragraph that is long enough to be wrapped at the width of the page.

    Examples:
        hansa greet --name them
        hansa greet --epsilon 2
    """
    click.echo(f"hello {name} at {epsilon}")


def fail(kind: str) -> None:
    """Fail in the way that is asked for."""
    raise {
        "usage": UsageError("shop.toml: 'ceiling': not a number;\nwrite one"),
        "refusal": RefusalError("budget spent"),
        "verification": VerificationError("entry 3: signature"),
        "interrupt": KeyboardInterrupt(),
        "abort": click.Abort(),
        "exit": typer.Exit(130),
        "other": ZeroDivisionError("by zero"),
        "expected": HansaError("a plain one"),
    }[kind]


tools = typer.Typer(help="Tools of the trade.")
tools.command()(greet)
not_a_command = 3

FAKES = {
    "greet": f"{__name__}:greet",
    "fail": f"{__name__}:fail",
    "tools": f"{__name__}:tools",
    "tools.fail": f"{__name__}:fail",
    "bench.greet": f"{__name__}:greet",
    "broken": "hansa_of_nowhere.commands:run",
    "tools.wrong": f"{__name__}:not_a_command",
}


@pytest.fixture(autouse=True)
def _fake_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [EntryPoint(name, value, cli.ENTRY_POINTS) for name, value in FAKES.items()]
    monkeypatch.setattr(cli, "entry_points", lambda group: found if group == cli.ENTRY_POINTS else [])
    monkeypatch.delenv("HANSA_DEBUG", raising=False)


def _one_line(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hansa: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.strip()


@pytest.mark.parametrize("line", ["greet --name them", "tools greet --name them", "bench greet --name them"])
def test_functions_groups_and_dotted_names_become_commands(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(line.split()) == 0
    assert capsys.readouterr().out == "hello them at 1.0\n"


def test_a_dotted_name_joins_an_existing_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tools", "fail", "refusal"]) == 3
    assert _one_line(capsys) == "hansa: budget spent"


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("usage", 2, "hansa: shop.toml: 'ceiling': not a number; write one"),
        ("refusal", 3, "hansa: budget spent"),
        ("verification", 4, "hansa: entry 3: signature"),
        ("interrupt", 130, "hansa: interrupted"),
        ("abort", 130, "hansa: interrupted"),
        ("expected", 1, "hansa: a plain one"),
        (
            "other",
            1,
            "hansa: unexpected ZeroDivisionError: by zero (run again with HANSA_DEBUG=1 for the traceback)",
        ),
    ],
)
def test_errors_become_exit_codes_and_one_line(
    kind: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["fail", kind]) == code
    assert _one_line(capsys) == message


def test_a_command_may_choose_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fail", "exit"]) == 130
    assert capsys.readouterr().err == ""


def test_debugging_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HANSA_DEBUG", "1")
    assert cli.main(["fail", "other"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nowhere", "No such command 'nowhere' (try 'hansa --help')"),
        ("greet --epsilon much", "--epsilon: 'much' is not a valid float range (try 'hansa greet --help')"),
        ("greet --epsilon 0", "--epsilon: 0.0 is not in the range x>=0.1 (try 'hansa greet --help')"),
        ("greet --nam", "(try 'hansa greet --help')"),
        ("fail", "Missing argument 'KIND' (try 'hansa fail --help')"),
        ("greet surplus", "(surplus) (try 'hansa greet --help')"),
        ("tools nowhere", "No such command 'nowhere' (try 'hansa tools --help')"),
        ("--nowhere", "(try 'hansa --help')"),
    ],
)
def test_wrong_usage_is_one_line(line: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(line.split()) == 2
    assert expected in _one_line(capsys)


@pytest.mark.parametrize("line", ["broken", "broken --epsilon 4 surplus", "tools wrong"])
def test_a_broken_entry_point_says_so(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(line.split()) == 1
    assert "cannot be loaded from" in _one_line(capsys)


def test_a_broken_entry_point_leaves_the_others_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "Greet somebody" in out
    assert "cannot be loaded from hansa_of_nowhere.commands:run" in " ".join(out.split())


@pytest.mark.parametrize("line", ["", "tools", "bench"])
def test_a_group_without_arguments_prints_its_help(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(line.split()) == 0
    bare = capsys.readouterr().out
    assert cli.main([*line.split(), "--help"]) == 0
    assert capsys.readouterr().out == bare
    assert "greet" in bare


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"hansa {__version__}\n"


@pytest.mark.parametrize("line", ["--help", "greet -h", "tools --help", "tools greet --help"])
def test_help_is_plain_text_of_at_most_80_columns(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(line.split()) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert "\\" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_examples_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tools", "greet", "--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    start = lines.index("Examples:")
    assert lines[start + 1 : start + 3] == ["hansa greet --name them", "hansa greet --epsilon 2"]


def test_only_the_command_asked_for_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = EntryPoint.load
    monkeypatch.setattr(EntryPoint, "load", lambda entry: loaded.append(entry.name) or load(entry))
    assert cli.main(["bench", "greet"]) == 0
    assert loaded == ["bench.greet"]


def _installed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("hansa")), *arguments]
    environ = {**os.environ, **environment}
    return subprocess.run(command, env=environ, text=True, capture_output=True, timeout=60, check=False)


def test_the_installed_command() -> None:
    assert _installed("--version").stdout == f"hansa {__version__}\n"
    assert _installed("nowhere").returncode == 2


def test_shell_completion_knows_the_options() -> None:
    asked = {"_HANSA_COMPLETE": "bash_complete", "COMP_WORDS": "hansa --ver", "COMP_CWORD": "1"}
    assert "--version" in _installed(**asked).stdout


def test_a_closed_pipe_ends_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [str(Path(sys.executable).with_name("hansa")), "--help"]
    with os.fdopen(write) as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
