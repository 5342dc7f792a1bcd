"""A shop's processes: a supervisor that keeps Flower's node and the executor going, and what they do.

The supervisor holds a lock for as long as it lives, so that whether a shop runs is never judged by a process
number that is left over. What ends is started again after a pause that doubles. A node that has not asked the
coordinator for messages for long is ended, too: a process that is there is no node that works.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from hansa.errors import RefusalError, UsageError
from hansa.quiet import SWITCHES
from hansa_client.config import ShopSettings, read_settings
from hansa_client.home import ShopHome
from hansa_client.logs import set_up
from hansa_client.runtime.notes import ACTIVITY, CONTACT, LOCK, PAUSE, SECRET, read_note

log = logging.getLogger(__name__)

Command = Callable[[str, ShopHome, int], list[str]]
"""The command line of a child: its role (node or executor), the shop's folder, the node's port."""

DEAF = 180.0
"""Seconds after which a node that has not asked for messages, with none in hand, is started again."""
ONLINE = 60.0
"""Seconds since the coordinator was heard of for which a shop counts as connected."""
_LONGEST_PAUSE = 10.0
_STEADY = 120.0
_MOST_LOG = 5_000_000
_TICK = 0.2


def child_command(role: str, home: ShopHome, port: int) -> list[str]:
    """``python -P``: nothing is imported from the current folder."""
    return [sys.executable, "-P", "-m", "hansa_client.runtime.children", role, str(home.root), str(port)]


@dataclass
class Child:
    """A process that is started again whenever it ends.

    Attributes:
        role: What it is.
        logs: Folder of its log.
        environment: Its environment.
    """

    role: str
    logs: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    not_before: float = 0.0

    @property
    def running(self) -> bool:
        """Whether it is there."""
        return self.process is not None and self.process.poll() is None

    def start(self, command: list[str]) -> None:
        """Start it; its standard input is a pipe that closes with this process."""
        self.started = time.monotonic()
        with (self.logs / f"{self.role}.log").open("ab") as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd="/",
                start_new_session=True,
            )
        log.info("%s started, process %d", self.role, self.process.pid)

    def ended(self) -> None:
        """Note that it has ended: the next start waits, the longer the more often it ended soon."""
        assert self.process is not None
        now = time.monotonic()
        self.failures = 1 if now - self.started > _STEADY else self.failures + 1
        self.not_before = now + min(_LONGEST_PAUSE, 2.0 ** (self.failures - 1))
        log.warning("%s ended with code %s", self.role, self.process.returncode)
        self._forget()

    def stop(self, patience: float = 10.0) -> None:
        """End it, by force if it does not go."""
        if self.process is None:
            return
        if self.running:
            self.process.terminate()
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._forget()

    def _forget(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
        self.process = None


@dataclass
class Supervisor:
    """Keeps one shop's node and executor going until it is told to stop.

    Attributes:
        home: The shop's folder.
        settings: Its settings.
        command: How its children are started.
        stopping: Set to end.
    """

    home: ShopHome
    settings: ShopSettings
    command: Command = child_command
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Supervise.

        Raises:
            RefusalError: The shop runs already.
        """
        with _only_one(self.home):
            self._write_secret()
            environment = {**os.environ, **SWITCHES, "FLWR_HOME": str(self.home.state / "flwr")}
            self.node, self.executor = (
                Child(role, self.home.logs, environment) for role in ("node", "executor")
            )
            (self.home.state / CONTACT).unlink(missing_ok=True)
            (self.home.state / ACTIVITY).unlink(missing_ok=True)
            port = self._port()
            try:
                while not self.stopping.is_set():
                    port = self._look(port)
                    self.stopping.wait(_TICK)
            finally:
                self.executor.stop()
                self.node.stop()
                log.info("stopped")

    def _look(self, port: int) -> int:
        now = time.monotonic()
        for child in (self.node, self.executor):
            if child.process is not None and not child.running:
                child.ended()
        if self.node.running and self._deaf(now):
            log.warning("the node has not asked for messages for %d seconds", DEAF)
            self.node.stop()
        if not self.node.running and now >= self.node.not_before:
            port = self._port()
            self.node.start(self.command("node", self.home, port))
            self.executor.stop()  # it knows the old port only, and the node has forgotten its tasks
        if not self.executor.running and now >= self.executor.not_before:
            self.executor.start(self.command("executor", self.home, port))
        for child in (self.node, self.executor):
            _shorten(self.home.logs / f"{child.role}.log")
        return port

    def _deaf(self, now: float) -> bool:
        if now - self.node.started < DEAF or read_note(self.home.state / ACTIVITY).get("busy"):
            return False
        looked = float(read_note(self.home.state / CONTACT).get("looked", 0.0))
        return time.time() - looked > DEAF

    def _port(self) -> int:
        return self.settings.network.port or free_port()

    def _write_secret(self) -> None:
        path = self.home.state / SECRET
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(32))


def supervise(home: ShopHome, command: Command = child_command) -> None:
    """Keep a shop going until SIGTERM or SIGINT.

    Raises:
        RefusalError: It runs already.
        UsageError: It is not set up.
    """
    supervisor = Supervisor(home, ready(home), command)

    def stop(number: int, frame: FrameType | None) -> None:
        supervisor.stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    supervisor.run()


def ready(home: ShopHome) -> ShopSettings:
    """The settings of a shop that has all that it takes to start.

    Raises:
        UsageError: It has not.
    """
    if home.key.exists() and not home.node_key.exists():
        raise UsageError(
            f"{home.node_key}: not there, as where a shop has left; 'hansa client rotate-keys' makes new "
            "keys, which the coordinator has to admit"
        )
    for path, fix in {
        home.invitation: "hansa client init",
        home.authority: "hansa client init",
        home.node_key: "hansa client init",
        home.settings: "hansa client configure",
        home.ledger: "hansa client configure",
    }.items():
        if not path.exists():
            raise UsageError(f"{path}: not there; '{fix}' makes it")
    for folder in (home.state, home.logs):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return read_settings(home.settings)


def start(home: ShopHome, command: list[str] | None = None) -> subprocess.Popen[bytes]:
    """Start a shop's supervisor in the background; its process.

    Raises:
        RefusalError: It runs already.
        UsageError: It is not set up, or ended at once.
    """
    ready(home)
    if running(home) is not None:
        raise RefusalError(f"{home.root}: the shop runs already; see 'hansa client status'")
    command = command or [sys.executable, "-P", "-m", "hansa_client.runtime.processes", str(home.root)]
    with (home.logs / "supervisor.log").open("ab") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
        )
    while running(home) != process.pid:
        if process.poll() is not None:
            raise UsageError(
                f"{home.logs / 'supervisor.log'}: the shop did not start; its last line says why"
            )
        time.sleep(0.05)
    return process


def stop(home: ShopHome, patience: float = 30.0) -> bool:
    """End a shop's processes; whether there were any."""
    pid = running(home)
    if pid is None:
        return False
    deadline = time.monotonic() + patience
    os.kill(pid, signal.SIGTERM)
    while running(home) == pid:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)  # its children end with it
            deadline = float("inf")
        time.sleep(0.05)
    return True


def pause(home: ShopHome, paused: bool) -> None:
    """Have the shop answer nothing, or answer again; a shop that does not run remembers it."""
    home.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if paused:
        (home.state / PAUSE).touch()
    else:
        (home.state / PAUSE).unlink(missing_ok=True)


def running(home: ShopHome) -> int | None:
    """The supervisor's process; None where there is none."""
    try:
        with (home.state / LOCK).open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
    except FileNotFoundError:
        pass
    return None


def status(home: ShopHome) -> dict[str, Any]:
    """What is known of a shop's processes, its budget and what waits for the operator."""
    from hansa.dp.ledger.file import LedgerFile
    from hansa_client.runtime.decisions import Decisions

    pid = running(home)
    contact = read_note(home.state / CONTACT).get("contact") if pid else None
    activity = read_note(home.state / ACTIVITY)
    ledger: dict[str, Any] | None = None
    if home.ledger.exists():
        book = LedgerFile(home.ledger)
        ledger = {"spent": book.spent(), "ceiling": book.ceiling.epsilon, "delta": book.ceiling.delta}
    return {
        "running": pid is not None,
        "process": pid,
        "paused": (home.state / PAUSE).exists(),
        "online": contact is not None and time.time() - float(contact) < ONLINE,
        "last_contact": contact,
        "busy": pid is not None and bool(activity.get("busy")),
        "run": activity.get("run"),
        "round": activity.get("round"),
        "message": activity.get("message"),
        "answer": activity.get("answer"),
        "time": activity.get("time"),
        "ledger": ledger,
        "pending": [question.id for question in Decisions(home).waiting()],
    }


def free_port() -> int:
    """A port on loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _only_one(home: ShopHome) -> Iterator[None]:
    with (home.state / LOCK).open("a+") as file:
        for left in reversed(range(20)):  # others hold it for a moment, to see whether it is held
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    reason = "the shop runs already; see 'hansa client status'"
                    raise RefusalError(f"{home.root}: {reason}") from None
                time.sleep(0.05)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _shorten(path: Path) -> None:
    """Keep a log and the one before it small; the process that writes appends and need not know."""
    if path.exists() and path.stat().st_size > _MOST_LOG:
        shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)


if __name__ == "__main__":
    set_up(ShopHome(Path(sys.argv[1])))
    supervise(ShopHome(Path(sys.argv[1])))
