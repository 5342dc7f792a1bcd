"""Runs the command ``hansa simulate``: progress on stderr, the result on stdout, files where asked."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from hansa.audit.document import Attack
from hansa.dp.accounting import epsilon
from hansa.errors import UsageError
from hansa.rng import seeded_generator
from hansa_simulations.attacks.door import Stage, attack_door
from hansa_simulations.auditing import Witnessed, write_audit
from hansa_simulations.experiment import Progress, simulate
from hansa_simulations.report import console_summary, output_folder, to_json, write_report
from hansa_simulations.settings import make_settings, settings_of

INTERRUPTED = 130
_CANARIES, _TRIALS = 20_000, 400_000


class Reporter:
    """Shows where a run is: a bar on a terminal, plain lines otherwise, on stderr."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar: Bar | None = None
        if console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console,
            )
            self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Reporter:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show ``progress``."""
        line = progress.stage
        if progress.round:
            spent = "no privacy" if progress.epsilon is None else f"epsilon so far {progress.epsilon:.3f}"
            line = f"round {progress.round}/{progress.planned}: ndcg@10 {progress.accuracy:.4f}, {spent}"
        if self._bar is not None:
            total = progress.planned or None
            self._bar.update(self._task, description=line, completed=progress.round, total=total)
        else:
            print(line, file=sys.stderr, flush=True)


def run_command(
    options: dict[str, Any],
    assignments: Sequence[str],
    *,
    repeat: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Simulate, report, and exit with 130 after an interruption.

    Args:
        options: Fields of ``SimulationSettings``; None where the user said nothing.
        assignments: ``section.key=value`` each.
        repeat: A result.json whose settings are the defaults.
        out: Where to write files.
        as_json: Print the result as JSON and nothing else on stdout.

    Raises:
        UsageError: Something about the options, the data or ``out`` is wrong.
        RefusalError: All shops refused.
    """
    if options["folder"] is not None and options["scenario"] is not None:
        raise UsageError("--data: give either a scenario or --data, not both")
    settings = make_settings(options, assignments, defaults=settings_of(repeat) if repeat else None)
    if out is not None:
        output_folder(out)
    witnessed: list[Witnessed] = []
    with Reporter() as reporter:
        result, model = simulate(settings, reporter, witnessed.append)
    result["command"] = shlex.join(["hansa", *sys.argv[1:]])
    written = write_report(result, model, out) if out is not None else []
    if out is not None and witnessed:
        audit = write_audit(witnessed[0], result, out, attacked(witnessed[0]))
        written += [audit.json, audit.html]
    if as_json:
        print(to_json(result))
    else:
        print(console_summary(result, written))
    if result["interrupted"]:
        raise SystemExit(INTERRUPTED)


def attacked(witnessed: Witnessed) -> list[Attack] | None:
    """A second's attack on the door at the run's claim, for its report; None where nothing is claimed."""
    plan = witnessed.plan
    if plan.dp == "none":
        return None
    claim = epsilon(plan.event(), plan.delta)
    stage = Stage(plan.dp, claim, _CANARIES, delta=plan.delta)
    found = attack_door(stage, _TRIALS, 0.01, seeded_generator(witnessed.seed, "door"))
    words = f"The door at the run's claim, with {found.method} and not the run itself: {found.words}"
    return [Attack.model_validate({**found.to_json(), "words": words})]
