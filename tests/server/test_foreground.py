from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hansa_server import foreground
from hansa_server.home import ServerHome
from hansa_server.processes import Processes
from hansa_server.service import SUPERLINK

HANSA = str(Path(sys.executable).with_name("hansa"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(what: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    (tmp_path / "items.csv").write_text("item_id,title\na,A\nb,B\n")
    command = [
        HANSA,
        "server",
        "init",
        "--league",
        "l",
        "--catalogue",
        str(tmp_path / "items.csv"),
        "--no-proxy",
    ]
    command += ["--host", f"127.0.0.1:{_free_port()}", "--superlink", str(_free_port())]
    subprocess.run([*command, "--home", str(tmp_path / "c")], check=True, capture_output=True, timeout=60)
    return ServerHome(tmp_path / "c")


@pytest.mark.parametrize("crash", [False, True])
def test_it_ends_with_its_services_and_they_with_it(home: ServerHome, crash: bool) -> None:
    command = [HANSA, "server", "start", "--foreground", "--home", str(home.root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "running: superlink\n"
        running = Processes(home).running(SUPERLINK)
        assert running is not None
        if crash:
            running.kill()
        else:
            process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert process.returncode == (1 if crash else 0), said
        assert ("superlink has ended" in said) == crash
        _await(lambda: not running.is_running() or running.status() == "zombie")
        assert Processes(home).running(SUPERLINK) is None
    finally:
        process.kill()
        Processes(home).stop(SUPERLINK)
        Processes(home).sweep()


def test_large_logs_are_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreground, "LARGEST_LOG", 10)
    log = tmp_path / "access.log"
    with open(log, "ab", buffering=0) as writer:
        writer.write(b"0123456789")
        foreground.shorten(log)
        assert not (tmp_path / "access.log.1").exists()
        writer.write(b"a")
        foreground.shorten(log)
        assert (tmp_path / "access.log.1").read_bytes() == b"0123456789a"
        writer.write(b"next")  # the file that is open already goes on
    assert log.read_bytes() == b"next"
