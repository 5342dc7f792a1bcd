"""Runs of a league: begun, followed, stopped, and gone on with, by what lies in ``runs/RUN``.

``plan.json`` and ``roster.json`` are written before anything is asked of a shop, ``run.json`` says which of
Flower's runs it is; the ServerApp writes the rest, see ``hansa_server.checkpoint``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hansa.errors import HansaError, RefusalError, UsageError
from hansa.plan import Plan, parse_plan
from hansa_server.deploy import Control, FlowerRun
from hansa_server.files import write_private
from hansa_server.home import ServerHome, plain_name
from hansa_server.journal import read_log
from hansa_server.members import admitted, roster_of
from hansa_server.planning import plan_run
from hansa_server.receipts import newest
from hansa_server.settings import Training
from hansa_server.setup import read_catalogue

Line = dict[str, Any]
"""A line of ``rounds.jsonl``: a round, who takes part, or a warning about a shop's receipt."""

_LOOK, _ASK = 0.3, 2.0  # seconds between looks into the folder, and between questions to Flower
_ENDS = 20.0  # seconds from a run's outcome to the end of its process, at most


@dataclass(frozen=True)
class Run:
    """A run in its folder.

    Attributes:
        path: The folder; its name is the run's.
    """

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def plan(self) -> Plan:
        """Its plan.

        Raises:
            UsageError: It is damaged or gone.
        """
        try:
            return parse_plan((self.path / "plan.json").read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"{self.path}: no run of that name; see 'hansa server status'") from error

    @property
    def about(self) -> Line:
        """``run.json``: ``flower``, the newest of its numbers there; ``started``; ``timeout``."""
        return self._json("run.json") or {}

    @property
    def outcome(self) -> Line | None:
        """How it ended: ``state`` is ``done``, ``refused`` or ``failed``; None if it has not."""
        return self._json("outcome.json")

    def lines(self) -> list[Line]:
        """What has happened so far."""
        try:
            text = (self.path / "rounds.jsonl").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [
            json.loads(line) for line in text.split("\n")[:-1]
        ]  # what follows the last newline is unfinished

    def _json(self, name: str) -> Line | None:
        try:
            found: Line = json.loads((self.path / name).read_text(encoding="utf-8"))
            return found
        except FileNotFoundError:
            return None


def runs(home: ServerHome) -> list[Run]:
    """All runs, the newest last."""
    found = [Run(path.parent) for path in home.runs.glob("*/plan.json")]
    return sorted(found, key=lambda run: (run.about.get("started", ""), run.name))


def find_run(home: ServerHome, name: str | None) -> Run:
    """The run of this name, the newest by default.

    Raises:
        UsageError: There is none.
    """
    if name is not None:
        run = Run(home.runs / plain_name("run", name))
        _ = run.plan
        return run
    found = runs(home)
    if not found:
        raise UsageError(f"{home.runs}: no run yet; 'hansa server train' begins one")
    return found[-1]


def begin(home: ServerHome, control: Control, training: Training, name: str | None) -> tuple[Run, str]:
    """Make a plan for the admitted shops and start it.

    Returns:
        The run, and why its method is another than the one asked for; else empty.

    Raises:
        UsageError: The plan cannot be made, the name is taken, or another run is going on.
    """
    _nothing_else(home, control)
    cards = admitted(home)
    if not cards:
        raise UsageError("no shop is admitted; 'hansa server admit KEYFILE' first")
    run = Run(home.runs / (plain_name("run", name) if name else _new_name(home)))
    if run.path.exists():
        raise UsageError(f"run {run.name}: exists; give another name, or --resume to go on with it")
    roster = roster_of(cards) if training.dp == "distributed" else None
    _, items = read_catalogue(home.catalogue)
    plan, why = plan_run(training, run.name, len(cards), items, roster)
    if roster is not None:
        write_private(run.path / "roster.json", roster.to_json())
    write_private(run.path / "plan.json", plan.model_dump_json())
    _start(home, control, run, training.timeout)
    return run, why


def resume(home: ServerHome, control: Control, name: str | None, timeout: float) -> Run:
    """Go on with a run that was cut short, after its last complete round.

    Raises:
        UsageError: There is no such run, it is complete, or a run is going on.
    """
    _nothing_else(home, control)
    run = find_run(home, name)
    outcome = run.outcome
    if outcome is not None and outcome["state"] == "done":
        raise UsageError(f"run {run.name}: complete; 'hansa server train' begins another")
    (run.path / "outcome.json").unlink(missing_ok=True)
    _start(home, control, run, timeout)
    return run


def send(home: ServerHome, control: Control, model: str, timeout: float) -> int:
    """Have a version of the model sent to all connected shops once more; Flower's number of the run.

    Raises:
        UsageError: There is no such version, or a run is going on.
    """
    if not (home.models / plain_name("model", model) / "card.json").exists():
        raise UsageError(f"model {model}: no such version; see 'hansa server models list'")
    _nothing_else(home, control)
    number = control.start(home.bundle.read_bytes(), {"model": model})
    while (flower := control.runs().get(number)) is not None and flower.going:
        time.sleep(_ASK)
    if flower is None or flower.state != "completed":
        raise HansaError(f"model {model}: not sent: {flower.details if flower else 'the run is lost'}")
    return number


def going(home: ServerHome, control: Control) -> Run | None:
    """The run that is going on, if any."""
    flower = control.runs()
    return next((run for run in reversed(runs(home)) if _is_going(flower, run)), None)


def stop_run(home: ServerHome, control: Control, name: str | None) -> Run:
    """Stop a run; ``resume`` goes on with it.

    Raises:
        UsageError: None is going on.
    """
    run = going(home, control) if name is None else find_run(home, name)
    if run is None or not _is_going(control.runs(), run):
        raise UsageError("no run is going on; see 'hansa server status'")
    control.stop(int(run.about["flower"]))
    return run


def follow(control: Control, run: Run, tell: Callable[[Line], None], since: int = 0) -> Line:
    """Tell what happens in a run until it ends; how it ended.

    Args:
        control: The SuperLink.
        run: The run.
        tell: Called with every line of it.
        since: How many lines are known already.

    Raises:
        HansaError: It ended without saying how: its process was killed, or the SuperLink.
    """
    asked, ended = 0.0, False
    while True:
        outcome, lines = run.outcome, run.lines()  # in this order: nothing comes after an outcome
        for line in lines[since:]:
            tell(line)
        since = len(lines)
        if outcome is not None:
            return outcome
        again = f"'hansa server train {run.name} --resume' goes on with it"
        if ended:
            flower = control.runs().get(run.about.get("flower", 0))
            why = flower.details or flower.state if flower else "the SuperLink does not know it any more"
            raise HansaError(f"run {run.name}: cut short ({why}); {again}")
        if time.monotonic() - asked > _ASK:
            asked = time.monotonic()
            try:
                ended = not _is_going(control.runs(), run)
            except UsageError as error:
                raise HansaError(
                    f"run {run.name}: the SuperLink is gone; 'hansa server start', then {again}"
                ) from error
        if not ended:
            time.sleep(_LOOK)


def judge(run: Run, outcome: Line) -> None:
    """Raise for a run that is not done.

    Raises:
        RefusalError: The shops refused it.
        HansaError: It failed.
    """
    if outcome["state"] == "refused":
        raise RefusalError(f"run {run.name}: {outcome['message']}")
    if outcome["state"] != "done":
        raise HansaError(
            f"run {run.name}: failed: {outcome['message']}; 'hansa server train {run.name} --resume' goes on "
            "with it"
        )


def newest_receipt(home: ServerHome, shop: str) -> str:
    """The furthest receipt of a shop's ledger that any run has left, as JSON.

    Of several ledgers of one shop it is that of the newest file.

    Raises:
        UsageError: There is none.
    """
    found = newest(home.runs, plain_name("shop", shop))
    if found is None:
        raise UsageError(f"shop {shop}: no receipt yet; it comes with the first run that it takes part in")
    return found.to_json()


def warnings(home: ServerHome) -> dict[str, Line]:
    """What runs have noticed of shops' receipts: by shop the last ``warning`` with ``run`` and ``count``."""
    told: dict[str, Line] = {}
    for run in runs(home):
        for line in run.lines():
            if "warning" in line:
                count = told.get(line["shop"], {}).get("count", 0) + 1
                told[line["shop"]] = {**line, "run": run.name, "count": count}
    return told


def _start(home: ServerHome, control: Control, run: Run, timeout: float) -> None:
    config: dict[str, str | float] = {
        "plan": (run.path / "plan.json").read_text(encoding="utf-8"),
        "round-timeout": float(timeout),
    }
    roster = run.path / "roster.json"
    if roster.exists():
        config["hansa-roster"] = roster.read_text(encoding="utf-8")
    number = control.start(home.bundle.read_bytes(), config)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"flower": number, "started": started, "timeout": timeout}
    write_private(run.path / "run.json", json.dumps(about, indent=2) + "\n")


def _nothing_else(home: ServerHome, control: Control) -> None:
    """Raise while another run is going on; one that has its outcome is waited for, it ends by itself.

    It would end at once if the log were broken: that is raised, too.
    """
    read_log(home.log)
    end = time.monotonic() + _ENDS
    while True:
        flower = control.runs()
        if not any(one.going for one in flower.values()):
            return
        busy = next((run for run in runs(home) if _is_going(flower, run)), None)
        if busy is None:
            raise UsageError("a model is being sent; wait for its end, or 'hansa server stop' and 'start'")
        if busy.outcome is None or time.monotonic() > end:
            raise UsageError(
                f"run {busy.name} is going on; 'hansa server train {busy.name} --follow' shows it, "
                "'hansa server stop-run' stops it"
            )
        time.sleep(_LOOK)


def _is_going(flower: Mapping[int, FlowerRun], run: Run) -> bool:
    known = flower.get(run.about.get("flower", 0))
    return known is not None and known.going


def _new_name(home: ServerHome) -> str:
    return next(name for name in _numbered() if not (home.runs / name).exists())


def _numbered() -> Iterator[str]:
    number = 1
    while True:
        yield f"run-{number}"
        number += 1
