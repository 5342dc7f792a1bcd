"""What lies in a run's folder, and how it is followed; the SuperLink of the league is the real one."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.cli import main
from hansa.dp.ledger.entries import Receipt
from hansa.errors import HansaError, RefusalError, UsageError
from hansa_server.bundle import build_bundle
from hansa_server.deploy import Control
from hansa_server.home import ServerHome
from hansa_server.planning import plan_run
from hansa_server.runs import Run, find_run, follow, judge, newest_receipt, runs, warnings
from hansa_server.settings import Training
from hansa_server.showing import described

PLAN = plan_run(Training(customers=1000, dp="local", method="popularity"), "r", 3, 40, None)[
    0
].model_dump_json()
ROUND = {
    "round": 1,
    "planned": 2,
    "release": "pairs",
    "attempt": 2,
    "answered": ["a", "b"],
    "missing": {"c": "no answer in time"},
    "seconds": 1.25,
}


@pytest.fixture
def run(home: ServerHome, write_plan: Callable[[Path, str], None]) -> Run:
    write_plan(home.runs / "run-1", PLAN)
    return Run(home.runs / "run-1")


def test_a_line_that_is_being_written_is_not_read(run: Run) -> None:
    (run.path / "rounds.jsonl").write_text(json.dumps(ROUND) + "\n" + '{"round": 2, "pla')
    assert run.lines() == [ROUND]
    assert run.outcome is None


def test_the_newest_run_is_found(home: ServerHome, run: Run, write_plan: Callable[[Path, str], None]) -> None:
    write_plan(home.runs / "run-2", PLAN)
    (home.runs / "not-a-run").mkdir()
    assert [one.name for one in runs(home)] == ["run-1", "run-2"]
    assert find_run(home, None).name == "run-2"
    assert find_run(home, "run-1") == run
    for name in ("run-3", "not-a-run", "../runs/run-1"):
        with pytest.raises(UsageError):
            find_run(home, name)


def test_a_run_is_followed_to_its_outcome(run: Run, control: Control) -> None:
    """Lines that come while it is followed are told once, in order; so are those before the outcome."""
    told: list[Any] = []

    def write() -> None:
        with open(run.path / "rounds.jsonl", "a") as file:
            for number in (1, 2, 3):
                file.write(json.dumps({"round": number}) + "\n")
                file.flush()
                time.sleep(0.2)
        (run.path / "outcome.json").write_text('{"state": "done", "message": ""}')

    number = control.start(build_bundle(), {"plan": PLAN, "round-timeout": 30.0})
    (run.path / "run.json").write_text(json.dumps({"flower": number}))
    (run.path / "rounds.jsonl").write_text('{"enrolled": []}\n')
    writer = threading.Thread(target=write)
    writer.start()
    try:
        outcome = follow(control, run, told.append, since=1)
    finally:
        writer.join()
        control.stop(number)
    assert told == [{"round": 1}, {"round": 2}, {"round": 3}]
    assert outcome["state"] == "done"


def test_a_run_that_the_superlink_does_not_know_was_cut_short(run: Run, control: Control) -> None:
    with pytest.raises(HansaError, match="run-1 --resume' goes on with it") as error:
        follow(control, run, print)
    assert error.value.exit_code == 1


@pytest.mark.parametrize(("state", "code"), [("refused", 3), ("failed", 1)])
def test_how_a_run_ends_is_the_exit_code(run: Run, state: str, code: int) -> None:
    with pytest.raises(HansaError, match="why") as error:
        judge(run, {"state": state, "message": "why"})
    assert error.value.exit_code == code
    assert isinstance(error.value, RefusalError) == (code == 3)
    judge(run, {"state": "done", "message": ""})


def test_a_complete_run_is_not_resumed(
    league: ServerHome, write_plan: Callable[[Path, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    write_plan(league.runs / "complete", PLAN)
    (league.runs / "complete" / "outcome.json").write_text('{"state": "done", "message": ""}')
    assert main(["server", "train", "complete", "--resume", "--home", str(league.root)]) == 2
    assert "complete; 'hansa server train' begins another" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["--resume --epsilon 3", "--follow --dp local", "--follow --resume", "a --run b", "--dp none"]
)
def test_options_that_do_not_go_together(
    home: ServerHome, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["server", "train", *words.split(), "--home", str(home.root)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def _receipt(home: ServerHome, run: str, ledger: str, sequence: int, when: float) -> str:
    path = home.runs / run / "receipts" / "north.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = Receipt(ledger * 32, sequence, "0" * 64).sign(Ed25519PrivateKey.generate()).to_json()
    path.write_text(text + "\n")
    os.utime(path, (when, when))
    return text


def test_the_furthest_receipt_of_the_newest_ledger(
    home: ServerHome, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="no receipt yet"):
        newest_receipt(home, "north")
    _receipt(home, "run-1", "a", 50, 1000)
    furthest = _receipt(home, "run-2", "b", 9, 2000)
    _receipt(home, "run-3", "b", 5, 3000)  # its file was copied later
    assert newest_receipt(home, "north") == furthest
    assert main(["server", "receipts", "north", "--home", str(home.root)]) == 0
    assert Receipt.from_json(capsys.readouterr().out).sequence == 9
    (home.runs / "run-3" / "receipts" / "north.json").write_text("[]")
    with pytest.raises(UsageError, match="not a receipt"):
        newest_receipt(home, "north")


def test_warnings_are_shown_with_receipts_and_status(
    home: ServerHome, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    given = _receipt(home, "run-1", "a", 9, 1000)
    line = {"time": "2030-01-01", "warning": "fork or rollback", "shop": "north", "why": "entry 3 after 9"}
    (run.path / "rounds.jsonl").write_text(f"{json.dumps(line)}\n" * 2)
    assert warnings(home) == {"north": {**line, "run": "run-1", "count": 2}}
    assert main(["server", "receipts", "north", "--home", str(home.root)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{given}\n"
    assert said.err == "warning: north: fork or rollback: entry 3 after 9 (run run-1, 2 in all)\n"
    assert main(["server", "status", "--home", str(home.root)]) == 0
    assert (
        "warning: north: fork or rollback: entry 3 after 9 (run run-1, 2030-01-01" in capsys.readouterr().out
    )
    assert main(["server", "status", "--home", str(home.root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"]["north"]["count"] == 2


def test_lines_for_readers() -> None:
    assert described(ROUND) == "round 1/2 pairs, attempt 2: 2 shops, 1.2 s; without c (no answer in time)"
    assert described({"enrolled": ["a"], "refused": {"b": "budget"}}) == "takes part: a; without b (budget)"
