"""The coordinator's processes: started apart from the terminal, found again, stopped with all they started.

A process is known by its id and the time of its birth, so an id that the system has given to another is no
match. Whatever it starts inherits a mark in its environment, by which ``sweep`` finds what outlived it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from hansa.errors import HansaError, UsageError
from hansa_server.files import make_private, write_private
from hansa_server.home import ServerHome

MARK = "HANSA_SERVER_PROCESS"
"""Environment variable of everything that is started here: the coordinator's folder."""

_LARGEST_LOG = 20_000_000
_CHILDREN = 3.0  # seconds
_SAME = 0.01  # seconds between two readings of the same birth


@dataclass(frozen=True)
class Processes:
    """The processes of one coordinator.

    Attributes:
        home: Its folder.
    """

    home: ServerHome

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else starts or stops the same processes meanwhile.

        Raises:
            UsageError: Somebody does.
        """
        make_private(self.home.state)
        with open(self.home.state / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"{self.home.root}: being started or stopped already; wait a little"
                ) from None
            yield

    def running(self, name: str) -> psutil.Process | None:
        """The process of this name, if it lives."""
        try:
            known = json.loads(self._file(name).read_text(encoding="ascii"))
            process = psutil.Process(int(known["pid"]))
            born = abs(process.create_time() - float(known["born"])) < _SAME
            return process if born and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            return None

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> psutil.Process:
        """Start a process; what it prints goes to ``logs/NAME.log``.

        Raises:
            HansaError: It cannot be started.
        """
        for folder in (self.home.logs, self.home.state):
            make_private(folder)
        log = self._log(name)
        if log.exists() and log.stat().st_size > _LARGEST_LOG:
            log.replace(log.with_suffix(".log.1"))
        environ = {**environment, MARK: str(self.home.root)}
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            child = subprocess.Popen(
                command,
                cwd=self.home.state,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
                umask=0o077,
            )
        except OSError as error:
            raise HansaError(f"{command[0]}: {error.strerror}; install hansa and its tools again") from error
        finally:
            os.close(descriptor)
        process = psutil.Process(child.pid)
        child.returncode = 0  # it outlives this process on purpose: throwing the object away is no mistake
        with contextlib.suppress(psutil.NoSuchProcess):  # what it printed says why it went
            write_private(self._file(name), json.dumps({"pid": child.pid, "born": process.create_time()}))
        return process

    def await_ready(self, name: str, ready: Callable[[], bool], patience: float) -> None:
        """Wait until a process that was started is ready.

        Raises:
            HansaError: It has ended, or takes longer than ``patience`` seconds.
        """
        deadline = time.monotonic() + patience
        while not ready():
            if self.running(name) is None or time.monotonic() > deadline:
                said = self._last_words(name)
                raise HansaError(f"{name} did not start: {said}; see {self._log(name)}")
            time.sleep(0.1)

    def stop(self, name: str, patience: float = 10.0) -> bool:
        """Stop a process and whatever it has started; whether it was running."""
        process = self.running(name)
        if process is not None:
            children = _children(process)
            _end([process], patience)  # it may well end its children itself
            _end(children, _CHILDREN)
        self._file(name).unlink(missing_ok=True)
        return process is not None

    def sweep(self) -> int:
        """End what processes that were killed have left behind; how many there were."""
        left = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == str(self.home.root) and process.pid != os.getpid():
                    left.append(process)
        _end(left, _CHILDREN)
        return len(left)

    def _file(self, name: str) -> Path:
        return self.home.state / f"{name}.json"

    def _log(self, name: str) -> Path:
        return self.home.logs / f"{name}.log"

    def _last_words(self, name: str) -> str:
        try:
            lines = self._log(name).read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return "it said nothing"
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "it said nothing")


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _end(family: list[psutil.Process], patience: float) -> None:
    """Ask processes to go, give them time, then kill those that stay."""
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(family, timeout=patience)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=5.0)
