import json
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from hansa.errors import HansaError, UsageError
from hansa_server.home import ServerHome
from hansa_server.processes import MARK, Processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
PARENT = [
    sys.executable,
    "-c",
    f"import subprocess, time; subprocess.Popen({SLEEP!r}, start_new_session=True); time.sleep(600)",
]


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(ServerHome(tmp_path))


def _marked(home: ServerHome) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(home.root):
                found.append(process.pid)
        except psutil.Error:
            pass
    return found


def test_a_process_is_found_again_and_stopped(processes: Processes) -> None:
    child = processes.start("one", SLEEP, os.environ)
    assert processes.running("one") == child
    assert Processes(processes.home).running("one") == child
    assert processes.stop("one")
    assert processes.running("one") is None
    assert not processes.stop("one")
    assert not child.is_running()


def test_another_process_with_the_same_number_is_not_it(processes: Processes) -> None:
    myself = psutil.Process()
    processes.home.state.mkdir()
    known = {"pid": myself.pid, "born": myself.create_time() - 100}
    (processes.home.state / "one.json").write_text(json.dumps(known))
    assert processes.running("one") is None
    assert not processes.stop("one")  # or this test would not come to its end


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pid": "x", "born": 0}', '{"pid": -1, "born": 0}'])
def test_a_damaged_file_is_no_process(processes: Processes, text: str) -> None:
    processes.home.state.mkdir()
    (processes.home.state / "one.json").write_text(text)
    assert processes.running("one") is None


def test_what_a_killed_process_leaves_is_swept(processes: Processes) -> None:
    parent = processes.start("one", PARENT, os.environ)
    end = time.monotonic() + 20
    while not parent.children() and time.monotonic() < end:
        time.sleep(0.05)
    (child,) = parent.children()
    parent.kill()
    parent.wait()
    assert processes.running("one") is None
    assert child.is_running()
    assert processes.sweep() == 1
    assert not child.is_running()


def test_stopping_takes_the_children_along(processes: Processes) -> None:
    parent = processes.start("one", PARENT, os.environ)
    end = time.monotonic() + 20
    while not parent.children() and time.monotonic() < end:
        time.sleep(0.05)
    assert len(_marked(processes.home)) == 2
    processes.stop("one")
    assert _marked(processes.home) == []


def test_the_last_words_of_one_that_does_not_start(processes: Processes) -> None:
    processes.start("one", [sys.executable, "-c", "raise SystemExit('no such port')"], os.environ)
    with pytest.raises(HansaError, match="one did not start: no such port"):
        processes.await_ready("one", lambda: False, 30.0)
    with pytest.raises(HansaError, match="install hansa"):
        processes.start("two", ["no-such-program"], os.environ)


def test_two_do_not_start_at_once(processes: Processes) -> None:
    with (
        processes.alone(),
        pytest.raises(UsageError, match="wait a little"),
        Processes(processes.home).alone(),
    ):
        pass
