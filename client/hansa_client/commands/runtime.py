"""``hansa client start``, ``stop``, ``status``, ``pause`` and ``resume``."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from hansa_client.home import HOME, ShopHome

Home = Annotated[
    Path | None, typer.Option("--home", help=f"The shop's folder; default: ${HOME}, else the current one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def start(
    home: Home = None,
    foreground: Annotated[
        bool,
        typer.Option("--foreground", help="Stay here until SIGTERM or Ctrl-C, for systemd and containers."),
    ] = False,
    wait: Annotated[
        float, typer.Option(help="Most seconds to wait until the coordinator has answered.", min=0)
    ] = 30.0,
) -> None:
    """Start the shop: its node, and the executor that answers. Only outgoing connections are made.

    Examples:

        hansa client start

        hansa client start --foreground
    """
    import time

    from hansa_client.runtime import processes

    shop = ShopHome.found(home)
    if foreground:
        from hansa_client.logs import set_up

        set_up(shop, foreground=True)
        processes.supervise(shop)
        return
    process = processes.start(shop)
    deadline = time.monotonic() + wait
    while not (online := processes.status(shop)["online"]) and time.monotonic() < deadline:
        time.sleep(0.2)
    if online:
        print(f"{shop.root}: started, process {process.pid}, the coordinator answers")
    else:
        print(
            f"{shop.root}: started, process {process.pid}, but the coordinator has not answered yet; "
            f"see 'hansa client status' and {shop.logs / 'node.log'}"
        )


def stop(home: Home = None) -> None:
    """End the shop's processes. A round that is under way goes on without this shop.

    Examples:

        hansa client stop
    """
    from hansa_client.runtime import processes

    shop = ShopHome.found(home)
    print(f"{shop.root}: {'stopped' if processes.stop(shop) else 'it did not run'}")


def status(home: Home = None, json_: Json = False) -> None:
    """Whether the shop runs and is connected, what it does, what is spent, what waits for a decision.

    Examples:

        hansa client status

        hansa client status --json
    """
    from hansa_client.runtime import processes

    shop = ShopHome.found(home)
    found = processes.status(shop)
    if json_:
        print(json.dumps({"home": str(shop.root), **found}, indent=2))
        return
    for name, value in _lines(found).items():
        print(f"{name:<12}{value}")


def pause(home: Home = None) -> None:
    """Answer every request with "the shop has paused" until 'hansa client resume'.

    Examples:

        hansa client pause
    """
    from hansa_client.runtime import processes

    processes.pause(ShopHome.found(home), True)
    print("paused; 'hansa client resume' answers again")


def resume(home: Home = None) -> None:
    """Answer again after 'hansa client pause'.

    Examples:

        hansa client resume
    """
    from hansa_client.runtime import processes

    processes.pause(ShopHome.found(home), False)
    print("the shop answers again")


def _lines(found: dict[str, Any]) -> dict[str, str]:
    contact, ledger = found["last_contact"], found["ledger"]
    running = f"yes, process {found['process']}" if found["running"] else "no"
    when = datetime.fromtimestamp(contact).isoformat(" ", "seconds") if contact else "never"
    doing = "nothing yet"
    if found["message"]:
        done = "working" if found["busy"] else found["answer"]
        doing = (
            f"{found['message']} of run {found['run']!r}, round {found['round']}: {done} ({found['time']})"
        )
    return {
        "running": running + (", paused" if found["paused"] else ""),
        "online": f"{'yes' if found['online'] else 'no'}, last contact {when}",
        "last": doing,
        "budget": "no ledger yet"
        if ledger is None
        else f"epsilon {ledger['spent']:.4g} of {ledger['ceiling']:g} at delta {ledger['delta']:.3g}",
        "pending": ", ".join(found["pending"]) or "nothing",
    }
