"""Kills a charging process at random moments, again and again, and checks the ledger after each kill.

``python tests/shared/dp/ledger/kill.py --kills 10000`` takes about 5 minutes. It prints one line, or fails.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from hansa.dp.accounting import gaussian
from hansa.dp.ledger import Budget, Ledger
from hansa.dp.ledger.account import TOLERANCE
from hansa.dp.ledger.check import check, read_file
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import RefusalError
from hansa.rng import system_generator

CEILING = Budget(3.0, 1e-5)
PLAN = (gaussian(9.0), gaussian(9.0), gaussian(20.0))
LIVES = 25
"""Kills that one ledger lives through; then a new one is begun, which is killed while it is created."""


def spend(path: Path, said: int) -> None:
    """Reserve and charge without end; say what is done as soon as each call has returned."""
    ledger = LedgerFile(path, CEILING)
    number = 0
    while True:
        number += 1
        run = f"{os.getpid()}-{number}"
        try:
            ledger.reserve(run, PLAN)
        except RefusalError as refusal:
            os.write(said, b"full\n" if "would come to" in str(refusal) else f"{refusal}\n".encode())
            time.sleep(60)
        for position, event in enumerate(PLAN, start=1):
            ledger.charge(run, event)
            os.write(said, f"{run} {position}\n".encode())


def live(path: Path, seconds: float) -> list[str]:
    """What a process said before it was killed."""
    heard, said = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            spend(path, said)
        except BaseException as error:
            os.write(said, f"{error!r}\n".encode())
        finally:
            os._exit(1)
    os.close(said)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(heard) as pipe:
        return pipe.read().splitlines()


def examine(path: Path, said: list[str]) -> tuple[int, bool]:
    """Charges in the file; whether the ledger is full. Fails if anything is not as it was said."""
    done = [line for line in said if line != "full"]
    if not path.exists():
        assert not done, f"charged in a file that is not there: {done[:3]}"
        return 0, False
    before, findings = read_file(path)
    assert not findings, [str(finding) for finding in findings]
    found = check(before)
    assert not found, [str(finding) for finding in found]
    entries = [row.parse() for row in before]
    written = [f"{entry.body['run']} {entry.body['position']}" for entry in entries if entry.kind == "charge"]
    missing = set(done) - set(written)
    assert not missing, f"said and not written: {sorted(missing)[:3]}"
    ledger = LedgerFile(path, CEILING)  # reopens, whatever the last owner left behind
    assert ledger.spent() <= CEILING.epsilon + TOLERANCE
    assert len(ledger.entries()) == len(before)
    return len(written), "full" in said


def main(kills: int, patience: float) -> str:
    """Run the experiment."""
    draw, charges, ledgers, full = system_generator(), 0, 0, 0
    Ledger(CEILING).reserve("warm", PLAN)  # children inherit what is cached of the plan's cost
    with tempfile.TemporaryDirectory() as folder:
        for kill in range(kills):
            if kill % LIVES == 0:
                path = Path(folder) / f"{kill}.sqlite"
                said: list[str] = []
                ledgers, before = ledgers + 1, 0
            said += live(path, patience * float(draw.random()) ** 2)
            now, is_full = examine(path, said)
            charges, before, full = charges + now - before, now, full + is_full
    return f"{kills} kills, {ledgers} ledgers, {charges} charges, full after {full} kills: all in order"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--patience", type=float, default=0.03, help="longest life in seconds")
    arguments = parser.parse_args()
    print(main(arguments.kills, arguments.patience))
    sys.exit(0)
