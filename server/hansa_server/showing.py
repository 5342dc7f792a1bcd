"""Shows a run as it goes: a bar on a terminal, plain lines otherwise, on stderr."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Teller:
    """Told every line of a run's ``rounds.jsonl``.

    Args:
        run: The run's name.
        planned: Rounds in its plan.
    """

    def __init__(self, run: str, planned: int) -> None:
        self._run = run
        console = Console(stderr=True)
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console,
            )
            self._task = self._bar.add_task(f"run {run}", total=planned)

    def __enter__(self) -> Teller:
        if self._bar is not None:
            self._bar.start()
        else:
            print(f"run {self._run}: begun", file=sys.stderr, flush=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is KeyboardInterrupt:
            print(
                f"run {self._run} goes on; 'hansa server train {self._run} --follow' shows it, "
                "'hansa server stop-run' stops it",
                file=sys.stderr,
            )

    def __call__(self, line: dict[str, Any]) -> None:
        """Show a line."""
        text = described(line)
        if self._bar is None:
            print(text, file=sys.stderr, flush=True)
            return
        self._bar.console.print(text, highlight=False, markup=False)
        if "round" in line:
            self._bar.update(self._task, completed=line["round"])


def described(line: dict[str, Any]) -> str:
    """A line of ``rounds.jsonl`` for a reader."""
    if "warning" in line:
        return f"warning: {line['shop']}: {line['warning']}: {line['why']}"
    if "round" not in line:
        without = _reasons(line.get("refused", {}))
        return f"takes part: {', '.join(line.get('enrolled', [])) or 'nobody'}" + without
    again = f", attempt {line['attempt']}" if line.get("attempt", 1) > 1 else ""
    return (
        f"round {line['round']}/{line['planned']} {line['release']}{again}: {len(line['answered'])} shops, "
        f"{line['seconds']:.1f} s" + _reasons(line.get("missing", {}))
    )


def _reasons(missing: dict[str, str]) -> str:
    told = ", ".join(f"{shop} ({reason})" for shop, reason in sorted(missing.items()))
    return f"; without {told}" if told else ""
