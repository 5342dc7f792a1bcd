"""``hansa server init|renew|start|stop|status``: a coordinator's folder and its services."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hansa_server.home import ServerHome
    from hansa_server.settings import ServerSettings

Home = Annotated[
    Path | None, typer.Option(help="The coordinator's folder. Default: $HANSA_SERVER, else the current one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def opened(home: Path | None) -> tuple[ServerHome, ServerSettings]:
    """The coordinator's folder and its settings.

    Raises:
        UsageError: There is none.
    """
    from hansa_server.home import ServerHome
    from hansa_server.settings import read_settings

    found = ServerHome.found(home)
    return found, read_settings(found.settings)


def init(
    league: Annotated[str, typer.Option(help="The league's name: letters, digits, '.', '_' and '-'.")],
    catalogue: Annotated[Path, typer.Option(help="CSV file of the public catalogue: item_id and details.")],
    host: Annotated[str, typer.Option(help="HOST[:PORT] that shops connect to. Default port: 8443.")],
    method: Annotated[str | None, typer.Option(help="Default: cooccurrence.")] = None,
    dp: Annotated[str | None, typer.Option(help="distributed or local. Default: distributed.")] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Of a run, for one customer of one shop. Default: 4.")
    ] = None,
    delta: Annotated[float | None, typer.Option(help="Default: min(1e-5, N^-1.1), N the customers.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Default: the method's.")] = None,
    customers: Annotated[
        int | None, typer.Option(help="Public round figure that bounds the number of all shops' customers.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(help="Of distributed: fewest shops in a sum. Default: 80 % of them.")
    ] = None,
    colluders: Annotated[
        int | None, typer.Option(help="Of distributed: most shops that may side with you. Default: 10 %.")
    ] = None,
    shops: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Invite these at once: writes A.invite and so on.")
    ] = None,
    superlink: Annotated[int, typer.Option(help="Port of the SuperLink, on 127.0.0.1 only.")] = 8000,
    proxy: Annotated[bool, typer.Option(help="Have start run nginx.")] = True,
    home: Home = None,
) -> None:
    """Make a coordinator's folder: authority, certificates, keys, settings, catalogue, app bundle.

    Examples:

        hansa server init --league grocers --catalogue c.csv --host hansa.org

        hansa server init --league a --catalogue b.csv --host 127.0.0.1:8443
    """
    from hansa_server.bundle import bundle_hash
    from hansa_server.home import ServerHome, plain_name
    from hansa_server.members import invite
    from hansa_server.settings import ServerSettings, Training, network_for, training_with
    from hansa_server.setup import League, set_up

    training = training_with(
        Training(),
        method=method,
        dp=dp,
        epsilon=epsilon,
        delta=delta,
        rounds=rounds,
        customers=customers,
        threshold=threshold,
        colluders=colluders,
    )
    invited = [plain_name("--shops", name.strip()) for name in (shops or "").split(",") if name.strip()]
    settings = ServerSettings(network=network_for(host, superlink, proxy), training=training)
    found = ServerHome.found(home)
    items = set_up(found, League(league, catalogue, settings))
    print(f"league {league}: {found.root}, {items} items, shops reach it at {settings.network.address}")
    print(f"app bundle: {bundle_hash(found.bundle.read_bytes())}")
    for shop in invited:
        invitation, path = invite(found, settings, shop, None)
        print(f"invitation of {shop}: {path}; read out to them: {invitation.fingerprint}")
    print("next: hansa server start")


def renew(home: Home = None) -> None:
    """Make a new server certificate, signed by the same authority; shops need not do anything.

    Examples:

        hansa server renew --home coordinator
    """
    from hansa_server.authority import days_left, make_certificate, server_names

    found, settings = opened(home)
    make_certificate(found, server_names(settings.network.host))
    print(f"{found.certificate}: {days_left(found)} days; in use after 'hansa server stop' and 'start'")


def start(
    home: Home = None,
    foreground: Annotated[
        bool,
        typer.Option("--foreground", help="Stay here until SIGTERM or Ctrl-C, for systemd and containers."),
    ] = False,
) -> None:
    """Start the SuperLink on loopback and the proxy that shops connect to; what runs stays.

    Examples:

        hansa server start

        hansa server start --foreground --home coordinator
    """
    from hansa_server import service
    from hansa_server.foreground import stay

    found, settings = opened(home)
    if foreground:
        stay(found, settings)
        return
    started = service.start(found, settings)
    print(f"started: {', '.join(started)}" if started else "running already")


def stop(home: Home = None) -> None:
    """Stop both, and a run that is going on; 'train --resume' goes on with it.

    Examples:

        hansa server stop --home coordinator
    """
    from hansa_server import service

    found, _ = opened(home)
    stopped = service.stop(found)
    print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


def status(home: Home = None, json_: Json = False) -> None:
    """Show processes, addresses, shops and the run that is going on.

    Examples:

        hansa server status

        hansa server status --home coordinator --json
    """
    from hansa_server import service
    from hansa_server.showing import described

    found, settings = opened(home)
    shown = service.status(found, settings)
    if json_:
        print(json.dumps(shown, indent=2))
        return
    print(f"league {shown['league']} at {shown['address']}, certificate for {shown['certificate_days']} days")
    for name, process in shown["processes"].items():
        print(f"{name:<12} {process['listen']:<22} {_pid(process['pid'])}")
    for shop, about in shown["shops"].items():
        line = {True: "online", False: "offline", None: ""}[about["online"]]
        print(f"{shop:<24} {about['state']:<9} {line}".rstrip())
    for about in shown["warnings"].values():
        print(f"{described(about)} (run {about['run']}, {about['time']}, {about['count']} in all)")
    print(_run_line(shown["run"]))


def _pid(pid: int | None) -> str:
    return "not running; 'hansa server start'" if pid is None else f"pid {pid}"


def _run_line(run: dict[str, Any] | None) -> str:
    if run is None:
        return "no run is going on"
    missing = f", missing: {', '.join(sorted(run['missing']))}" if run["missing"] else ""
    return f"run {run['name']}: round {run['round']} of {run['planned']} done{missing}"
