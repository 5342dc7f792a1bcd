"""The reverse proxy between shops and the SuperLink: nginx, with the few paths that a shop's node needs.

Flower serves its control API, its API for nodes and its documentation on one port, so whoever reaches that
port can start runs and register nodes. The proxy passes a closed list of paths, spelled exactly so.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from hansa.errors import UsageError
from hansa_server.files import make_private, rendered, write_private
from hansa_server.home import ServerHome
from hansa_server.settings import ServerSettings

PATHS = tuple(
    f"/v1/fleet/{name}"
    for name in (
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "get-fab",
        "push-object",
        "pull-object",
        "confirm-message-received",
    )
)
"""What shops may call; not ``register-node`` and ``unregister-node``: the coordinator admits shops."""


def nginx_binary() -> Path | None:
    """nginx, where it is installed."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def proxy_text(home: ServerHome, settings: ServerSettings) -> str:
    """The configuration of nginx."""
    return rendered("nginx.conf.j2", home=home, network=settings.network, paths=PATHS)


def write_proxy(home: ServerHome, settings: ServerSettings) -> None:
    """Write it, and the folders that it names.

    Raises:
        UsageError: The folder's name cannot stand in a configuration file.
    """
    if set(str(home.root)) & set("\"'\\;{}$\n"):
        raise UsageError(f"{home.root}: nginx cannot take this name; use one without quotes, $, ; or braces")
    make_private(home.logs)
    make_private(home.state / "nginx")
    write_private(home.proxy, proxy_text(home, settings))


def proxy_command(home: ServerHome) -> list[str]:
    """The arguments that start nginx in the foreground.

    Raises:
        UsageError: It is not installed.
    """
    binary = nginx_binary()
    if binary is None:
        raise UsageError(
            "nginx: not installed; install it, or set network.proxy = false in server.toml and use your own"
        )
    return [str(binary), "-e", str(home.logs / "nginx.log"), "-p", str(home.state), "-c", str(home.proxy)]
