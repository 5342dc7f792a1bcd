"""A coordinator in the foreground, for systemd and containers: it ends with its services, they with it."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path
from types import FrameType

from hansa.errors import HansaError
from hansa_server import service
from hansa_server.home import ServerHome
from hansa_server.processes import Processes
from hansa_server.settings import ServerSettings

LARGEST_LOG = 20_000_000
"""Bytes of a log beyond which it is begun anew; the one before is kept."""
_LOOK = 1.0


def stay(home: ServerHome, settings: ServerSettings, stopping: threading.Event | None = None) -> None:
    """Run the services until SIGTERM or SIGINT.

    Args:
        home: The coordinator's folder.
        settings: Its settings.
        stopping: Ends it when it is set, in place of signals.

    Raises:
        HansaError: A service has ended by itself; the others are stopped.
    """
    ending = stopping or threading.Event()
    if stopping is None:

        def stop(number: int, frame: FrameType | None) -> None:
            ending.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
    names = [service.SUPERLINK, *([service.PROXY] if settings.network.proxy else [])]
    processes = Processes(home)
    try:
        service.start(home, settings)
        print(f"running: {', '.join(names)}", flush=True)
        while not ending.wait(_LOOK):
            for name in names:
                if processes.running(name) is None:
                    raise HansaError(f"{name} has ended; see {home.logs / f'{name}.log'}")
            for log in home.logs.glob("*.log"):
                shorten(log)
    finally:
        service.stop(home)


def shorten(log: Path) -> None:
    """Begin a large log anew, keeping what it held in ``NAME.log.1``; who writes appends, and goes on."""
    if log.stat().st_size > LARGEST_LOG:
        shutil.copy2(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)
