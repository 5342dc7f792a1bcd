"""The two processes below a shop's supervisor: Flower's node, and the executor beside it.

``python -P -m hansa_client.runtime.children node|executor HOME PORT``. Each ends with its supervisor: the
pipe that it has for standard input closes, however the supervisor came to its end. The node writes down when
it last heard from the coordinator: its process being there says nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hansa_client.config import read_settings
from hansa_client.home import ShopHome
from hansa_client.logs import set_up
from hansa_client.runtime.notes import CONTACT, SECRET, write_note

if TYPE_CHECKING:
    from hansa_client.shop import Resolver


def be_node(home: ShopHome, port: int) -> None:
    """Carry messages between the coordinator and this machine's loopback ``port``; never returns."""
    from hansa_client.invited import read_invitation
    from hansa_client.runtime.flower import run_node

    set_up(home)  # Flower has brought handlers of its own
    settings = read_settings(home.settings)
    arguments = [
        *("--superlink", read_invitation(home).address),
        *("--root-certificates", str(home.authority)),
        *("--auth-supernode-private-key", str(home.node_key)),
        *("--isolation", "process"),
        *("--superexec-auth-secret-file", str(home.state / SECRET)),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    run_node(arguments, settings.network.poll, _Contact(home.state / CONTACT))


def be_executor(home: ShopHome, port: int, shops: Resolver) -> None:
    """Answer what the node on loopback ``port`` hands over; never returns."""
    from hansa_client.runtime.executor import Executor
    from hansa_client.runtime.flower import NodeRuntime

    set_up(home)
    secret = (home.state / SECRET).read_bytes()
    Executor(home, shops).serve(NodeRuntime(f"127.0.0.1:{port}", secret))


class _Contact:
    """Writes down when the coordinator was last heard of, at most once a second."""

    def __init__(self, path: Path) -> None:
        self._path, self._written, self._looked = path, 0.0, 0.0

    def __call__(self, looked: bool) -> None:
        now = time.time()
        self._looked = now if looked else self._looked
        if abs(now - self._written) >= 1:
            self._written = now
            write_note(self._path, {"contact": now, "looked": self._looked})


def follow_parent() -> None:
    """End this process when standard input, a pipe from the supervisor, closes."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True, name="parent").start()


def main(arguments: list[str]) -> None:
    """Be the process that ``arguments`` name."""
    role, home, port = arguments[0], ShopHome(Path(arguments[1])), int(arguments[2])
    follow_parent()
    set_up(home)
    if role == "node":
        be_node(home, port)
    else:
        from hansa_client.deployed import DeployedShop

        be_executor(home, port, DeployedShop(home))


if __name__ == "__main__":
    main(sys.argv[1:])
