"""The command line: finds its commands through entry points and turns errors into exit codes.

An entry point of the group ``hansa.commands`` names a function, which is a command with Typer-annotated
parameters, or a Typer app, which is a group; ``audit.attack`` puts a command into the group ``audit``.
A docstring is the help. Its "Examples:" paragraph shows complete command lines, and a paragraph with
an indented line keeps its line breaks.

Exit codes: 0 done; 2 wrong usage, configuration or data; 3 refused by a privacy budget or a policy;
4 verification failed; 130 interrupted; 1 anything unexpected. Whatever fails says so in one line.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

import click
import typer
import typer.core
import typer.main
from click.shell_completion import shell_complete

from hansa import __version__
from hansa.errors import HansaError, UsageError
from hansa.quiet import no_phone_home

ENTRY_POINTS = "hansa.commands"
COMPLETE = "_HANSA_COMPLETE"
INTERRUPTED = 130
UNEXPECTED = 1

# Plain help. Setting rich_markup_mode on each app would not do: Typer then still escapes brackets for Rich.
typer.core.HAS_RICH = False


class EntryPointGroup(click.Group):
    """A group whose members are entry points, each imported only when it is asked for.

    Args:
        path: Dotted name of the group; empty for ``hansa`` itself.
        entries: All entry points below ``path``, by dotted name.
        base: The Typer group to which the entry points are added.
    """

    def __init__(self, path: str, entries: dict[str, EntryPoint], base: click.Group) -> None:
        super().__init__(
            base.name,
            base.commands,
            no_args_is_help=True,
            help=base.help,
            params=base.params,
            callback=base.callback,
        )
        self._prefix = f"{path}." if path else ""
        self._entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the members, sorted."""
        found = {name.removeprefix(self._prefix).split(".")[0] for name in self._entries}
        return sorted(found.union(self.commands))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The member called ``cmd_name``, assembled from its own entry point and those nested below it."""
        if cmd_name not in self.commands:
            path = self._prefix + cmd_name
            own = self._entries.get(path)
            nested = {name: entry for name, entry in self._entries.items() if name.startswith(f"{path}.")}
            if own is None and not nested:
                return None
            command = _load(own, cmd_name) if own else click.Group(cmd_name)
            if nested and isinstance(command, click.Group):
                command = EntryPointGroup(path, nested, command)
            self.add_command(command, cmd_name)
        return self.commands[cmd_name]


def commands() -> click.Group:
    """The command ``hansa`` with everything that the installed packages add to it."""
    base = click.Group(
        "hansa", help="Independent shops train one recommender together, without showing a single customer."
    )
    found = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    return click.version_option(__version__, message="hansa %(version)s")(EntryPointGroup("", found, base))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Args:
        arguments: What follows ``hansa``; those of the process by default.
    """
    no_phone_home()
    if COMPLETE in os.environ:
        return shell_complete(commands(), {}, "hansa", COMPLETE, os.environ[COMPLETE])
    try:
        return _run(sys.argv[1:] if arguments is None else list(arguments))
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        return _fail(_usage(error), UsageError.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNEXPECTED
    except Exception as error:
        if os.environ.get("HANSA_DEBUG") == "1":
            traceback.print_exc()
        if isinstance(error, HansaError):
            return _fail(str(error), error.exit_code)
        again = "run again with HANSA_DEBUG=1 for the traceback"
        return _fail(f"unexpected {type(error).__name__}: {error} ({again})", UNEXPECTED)


def _run(arguments: list[str]) -> int:
    names = ["-h", "--help"]
    group = commands()
    with group.make_context("hansa", arguments, help_option_names=names) as context:
        outcome = group.invoke(context)
    sys.stdout.flush()  # a closed pipe shows here, not at exit
    return outcome if isinstance(outcome, int) else 0


def _fail(message: str, exit_code: int) -> int:
    click.echo(f"hansa: {' '.join(message.split())}", err=True)
    return exit_code


def _usage(error: click.ClickException) -> str:
    """Click's message with the parameter first and the way to the help last."""
    message = error.format_message()
    if isinstance(error, click.BadParameter) and error.param and error.message:
        is_option = isinstance(error.param, click.Option)
        message = f"{error.param.opts[0] if is_option else error.param.human_readable_name}: {error.message}"
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message.rstrip('.')} (try '{context.command_path} --help')" if context else message


def _load(entry: EntryPoint, name: str) -> click.Command:
    """The command behind an entry point, or a stand-in that says why there is none."""
    try:
        found = entry.load()
        if isinstance(found, typer.Typer):
            command: click.Command = typer.main.get_group(found)
        else:
            app = typer.Typer(add_completion=False)
            app.command()(found)
            command = typer.main.get_command(app)
    except Exception as error:
        return _stand_in(entry, name, error)
    command.name = name
    _keep_layout(command)
    return command


def _stand_in(entry: EntryPoint, name: str, cause: Exception) -> click.Command:
    reason = f"cannot be loaded from {entry.value} ({type(cause).__name__}: {cause})"

    def explain() -> None:
        raise HansaError(f"{name}: {reason}; install its package again") from cause

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, callback=explain, help=reason, short_help=reason, context_settings=settings)


def _keep_layout(command: click.Command) -> None:
    """Mark the paragraphs with indented lines, of this command and all below, as not to be rewrapped."""
    paragraphs = (command.help or "").split("\n\n")
    command.help = "\n\n".join(f"\b\n{text}" if "\n " in text else text for text in paragraphs)
    if isinstance(command, click.Group):
        for member in command.commands.values():
            _keep_layout(member)
