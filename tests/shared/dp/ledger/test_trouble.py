"""Killed processes, crowds, full disks, files that cannot be written: never overspent, never begun anew."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hansa.dp.accounting import gaussian
from hansa.dp.filter import RenyiFilter
from hansa.dp.ledger.account import TOLERANCE
from hansa.dp.ledger.check import check, read_file
from hansa.dp.ledger.file import LedgerFile

HERE = Path(__file__).parent


def run(script, *arguments):
    command = [sys.executable, HERE / script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def room():
    folder = Path(tempfile.mkdtemp(prefix="hansa-"))  # where another user may look, unlike in tmp_path
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def said(room):
    return json.loads(run("trouble.py", room))


def entries(path):
    rows, findings = read_file(path)
    assert findings + check(rows) == []
    return [row.parse() for row in rows]


def test_kill_9_at_random_moments():
    """See kill.py, which also runs by itself for longer."""
    told = run("kill.py", "--kills", "200")
    assert int(re.search(r"(\d+) charges", told)[1]) > 50, told


def test_processes_that_begin_and_spend_at_once_share_one_sum(room, said):
    accepted = [said[f"crowd {number}"] for number in range(3)]
    path, event = room / "crowd.sqlite", gaussian(20.0)
    assert sum(entry.kind == "reserve" for entry in entries(path)) == sum(accepted)
    rule = RenyiFilter.for_ceiling(3.0, 1e-5)
    spent = rule.epsilon(sum(accepted) * rule.cost([event]))
    assert spent <= 3.0 + TOLERANCE < rule.epsilon((sum(accepted) + 1) * rule.cost([event]))
    assert LedgerFile(path).spent() == pytest.approx(spent)


def test_a_full_disk_refuses_and_nothing_is_lost(room, said):
    told, path = said["full disk"], room / "full.sqlite"
    for detail, reason in told["refusals"]:
        assert "cannot be read or written now" in detail
        assert reason == "the shop's ledger cannot be used now"
    charges = sum(entry.kind == "charge" for entry in entries(path))
    # A commit that failed may still have reached the disk: then it is paid and not released.
    assert 20 < told["accepted"] <= charges <= told["accepted"] + len(told["refusals"])
    assert LedgerFile(path).reservations["run"].charged == charges


@pytest.mark.parametrize(
    ("protected", "expected"),
    [
        ("file", "readonly database"),
        ("folder", "readonly database|unable to open"),
        ("key", "Permission denied"),
    ],
)
def test_what_cannot_be_written_refuses(room, said, protected, expected):
    for line in said[protected][:4]:
        assert re.search(expected, line), line
    looked = [] if protected == "key" else ["2 rows, 0 findings, 2 entries"]
    assert said[protected][4:] == looked
    folder = room / protected
    folder.chmod(0o700)
    assert [entry.kind for entry in entries(folder / "shop.sqlite")] == ["open", "reserve"]
