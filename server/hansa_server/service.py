"""A coordinator's two services: the SuperLink and the proxy before it."""

from __future__ import annotations

import os
import socket
from typing import Any

from hansa.errors import UsageError
from hansa_server.authority import days_left
from hansa_server.deploy import Control, superlink_command, superlink_environment
from hansa_server.home import ServerHome
from hansa_server.members import members
from hansa_server.processes import Processes
from hansa_server.proxy import proxy_command, write_proxy
from hansa_server.runs import going, warnings
from hansa_server.settings import ServerSettings, parse_address

SUPERLINK, PROXY = "superlink", "nginx"
_PATIENCE = 60.0


def start(home: ServerHome, settings: ServerSettings) -> list[str]:
    """Start what does not run yet, after what was left behind by something killed is ended.

    Returns:
        What was started.

    Raises:
        UsageError: A port is taken by somebody else, or nginx is not there.
        HansaError: One of the two does not start.
    """
    processes, started = Processes(home), []
    if days_left(home) < 0:
        raise UsageError(f"{home.certificate}: has ended; 'hansa server renew' makes another one")
    with processes.alone():
        if processes.running(SUPERLINK) is None:
            processes.stop(PROXY)
            processes.sweep()
            _free(settings.network.control, "network.superlink")
            processes.start(SUPERLINK, superlink_command(home, settings), superlink_environment(home))
            with Control(home, settings) as control:
                processes.await_ready(SUPERLINK, control.answers, _PATIENCE)
                control.stop_all()  # no run outlives its SuperLink; Flower would find that out by and by
            started.append(SUPERLINK)
        if settings.network.proxy and processes.running(PROXY) is None:
            _free(settings.network.listen, "network.listen")
            write_proxy(home, settings)
            processes.start(PROXY, proxy_command(home), os.environ)
            processes.await_ready(PROXY, lambda: _listens(settings.network.listen), _PATIENCE)
            started.append(PROXY)
    return started


def stop(home: ServerHome) -> list[str]:
    """Stop the proxy, the SuperLink and what they have started; what was running."""
    processes = Processes(home)
    with processes.alone():
        stopped = [name for name in (PROXY, SUPERLINK) if processes.stop(name)]
        processes.sweep()
    return stopped


def status(home: ServerHome, settings: ServerSettings) -> dict[str, Any]:
    """Processes, addresses, shops, warnings and the run that is going on, as JSON may hold them."""
    processes, addresses = Processes(home), {SUPERLINK: settings.network.control}
    if settings.network.proxy:
        addresses[PROXY] = settings.network.listen
    living = {name: processes.running(name) for name in addresses}
    shown: dict[str, Any] = {
        "league": home.league.read_text(encoding="utf-8").strip(),
        "address": settings.network.address,
        "certificate_days": days_left(home),
        "processes": {
            name: {"listen": addresses[name], "pid": None if process is None else process.pid}
            for name, process in living.items()
        },
        "shops": {member.shop: {"state": member.state, "online": None} for member in members(home)},
        "warnings": warnings(home),
        "run": None,
    }
    if living[SUPERLINK] is None:
        return shown
    with Control(home, settings) as control:
        online = {node.id: node.online for node in control.nodes()}
        for member in members(home):
            if member.state == "admitted" and member.node is not None:
                shown["shops"][member.shop]["online"] = online.get(member.node, False)
        run = going(home, control)
        if run is not None:
            last: dict[str, Any] = next((line for line in reversed(run.lines()) if "round" in line), {})
            shown["run"] = {
                "name": run.name,
                "round": last.get("round", 0),
                "planned": len(run.plan.releases),
                "missing": last.get("missing", {}),
            }
    return shown


def _free(address: str, field: str) -> None:
    """Raise if somebody listens there already."""
    if _listens(address):
        raise UsageError(f"server.toml: {field}: {address} is taken by another program; use another port")


def _listens(address: str) -> bool:
    host, port = parse_address(address)
    with socket.socket() as probe:
        probe.settimeout(2.0)
        return probe.connect_ex(("127.0.0.1" if host == "0.0.0.0" else host, port)) == 0
