"""The Ray engine: Flower's own simulation runtime, on several cores or a cluster.

``flwr run`` hands a thin app bundle to a SuperLink that is started for this run alone and ended with it.
The shops' data go to its processes, and the rounds' reports come back, through one temporary folder.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from hansa.errors import UsageError
from hansa.models.base import State
from hansa.plan import Plan
from hansa.secagg.roster import Roster
from hansa_client.shop import LocalShop
from hansa_client.shop_files import SHOPS, restore_books, save_shop
from hansa_server.app import ROSTER
from hansa_server.reports import REPORTS, take_report
from hansa_server.strategy import Listener

_POLL = 0.05
_START_SECONDS = 60.0
_LONGEST_RAY_FOLDER = 40  # Ray's sockets lie about 62 characters below its folder; their paths end at 103

_BUNDLE = """\
[project]
name = "hansa-simulation"
version = "1"
description = "Configuration only: the code is the installed wheel."
license = "Apache-2.0"

[tool.flwr.app]
publisher = "hansa"

[tool.flwr.app.components]
serverapp = "hansa_server.app:app"
clientapp = "hansa_client.app:app"

[tool.flwr.app.config]
"""


def run_on_ray(
    plan: Plan,
    shops: Sequence[LocalShop],
    *,
    seed: int,
    round_timeout: float = 3600.0,
    listeners: Sequence[Listener] = (),
    actors: int | None = None,
    cpus: int = 1,
    roster: Roster | None = None,
) -> State:
    """Run a plan over simulated shops on Flower's simulation runtime, with the same two apps.

    The contract is that of ``run_in_process``, and with shops of seeded randomness so is the result, up to
    the rounding of sums. ``RAY_ADDRESS`` in the environment makes Ray use that cluster, see docs/engines.md.

    Args:
        plan: What to run.
        shops: One simulated shop a node; their ledgers are up to date afterwards.
        seed: Of the coordinator's noise and initial state.
        round_timeout: Seconds that the shops have together for a round.
        listeners: Called after every round, here and not in the ServerApp's process.
        actors: Processes that serve the shops; None: as many as there are CPUs for. A cluster has its own.
        cpus: CPUs that one actor takes up, which is also its threads.
        roster: Of a masked league.

    Returns:
        The final public state.

    Raises:
        UsageError: Ray is not installed.
        RefusalError: All shops refused the plan, or no shop released anything in a round.
        RuntimeError: Flower or Ray failed; the message ends with their log.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            "--engine ray: Ray is not installed; pip install 'hansa[demo]' or use --engine inprocess"
        )
    with tempfile.TemporaryDirectory(prefix="hansa-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        homes = [folder / "shops" / str(position) for position in range(len(shops))]
        for shop, home in zip(shops, homes, strict=True):
            save_shop(shop, home)
        (folder / "reports").mkdir()
        config: dict[str, str | int | float] = {
            "plan": plan.model_dump_json(),
            "simulation-seed": seed,
            "round-timeout": float(round_timeout),
            SHOPS: str(folder / "shops"),
            REPORTS: str(folder / "reports"),
        }
        if roster is not None:
            config[ROSTER] = roster.to_json()
        try:
            with _flower(folder, config, _federation(len(shops), actors, cpus)) as run:
                return _follow(run, folder, plan, listeners)
        finally:
            for shop, home in zip(shops, homes, strict=True):
                restore_books(shop, home)


def _follow(run: subprocess.Popen[bytes], folder: Path, plan: Plan, listeners: Sequence[Listener]) -> State:
    """Hand every round's report to the listeners as it appears, and return the last one's state."""
    round_, state, ended = 1, State(), False
    while round_ <= len(plan.releases):
        report = take_report(folder / "reports", plan, round_)
        if report is not None:
            for listener in listeners:
                listener(report)
            round_, state = round_ + 1, report.state
        elif ended:
            raise RuntimeError(f"Flower's run ended before round {round_}\n{_tail(folder)}")
        else:
            ended = run.poll() is not None  # one more look, since the last report may have come just before
            time.sleep(_POLL)
    return state


@contextmanager
def _flower(
    folder: Path, config: dict[str, str | int | float], federation: dict[str, int]
) -> Iterator[subprocess.Popen[bytes]]:
    """A private SuperLink and the client that follows its one run; whatever they start ends with them."""
    port = _free_port()
    app, home, neutral = (folder / name for name in ("app", "flwr", "empty"))
    for path in (app, home, neutral):
        path.mkdir()
    # JSON's strings and numbers are TOML's, too.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in config.items()]
    (app / "pyproject.toml").write_text(_BUNDLE + "".join(lines), encoding="utf-8")
    connection = f'[superlink.hansa]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    (home / "config.toml").write_text(connection, encoding="utf-8")
    environment = _environment(folder, home)
    started: list[subprocess.Popen[bytes]] = []

    def start(command: str, *arguments: str) -> subprocess.Popen[bytes]:
        program = shutil.which(command, path=environment["PATH"])
        if program is None:
            raise RuntimeError(f"{command} is not installed beside this Python")
        with (folder / f"{command}.log").open("wb") as log:
            # Workers import from the directory that the SuperLink started in before anything else: an empty
            # one. In a session of their own they do not hear Ctrl-C; they are ended below.
            process = subprocess.Popen(
                [program, *arguments],
                cwd=neutral,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(process)
        return process

    try:
        kind = ["--insecure", "--simulation", "--disable-runtime-dependency-installation"]
        superlink = start("flower-superlink", *kind, "--host", "127.0.0.1", "--port", str(port))
        _await_superlink(superlink, port, folder)
        wishes = " ".join(f"{key}={value}" for key, value in federation.items())
        yield start("flwr", "run", str(app), "hansa", "--stream", "--federation-config", wishes)
    finally:
        _end(started)


def _federation(shops: int, actors: int | None, cpus: int) -> dict[str, int]:
    wishes = {"num-supernodes": shops, "client-resources-num-cpus": cpus}
    if "RAY_ADDRESS" not in os.environ:  # a running cluster knows its own size
        wishes["init-args-num-cpus"] = actors * cpus if actors else max(cpus, os.cpu_count() or 1)
    return wishes


def _environment(folder: Path, home: Path) -> dict[str, str]:
    loopback = "127.0.0.1,localhost"
    proxy = {
        name: f"{os.environ[name]},{loopback}" if name in os.environ else loopback
        for name in ("no_proxy", "NO_PROXY")
    }
    environment = {
        **os.environ,
        **proxy,
        "FLWR_HOME": str(home),
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    if len(str(folder)) <= _LONGEST_RAY_FOLDER:
        environment["RAY_TMPDIR"] = str(folder)  # else Ray's logs stay behind where it puts them itself
    return environment


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_superlink(superlink: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while superlink.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            time.sleep(_POLL)
        finally:
            connection.close()
    raise RuntimeError(f"Flower's SuperLink did not start\n{_tail(folder)}")


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Kill the processes and all that they have started: nothing of theirs is to be kept."""
    family: list[psutil.Process] = []
    for process in started:
        try:
            parent = psutil.Process(process.pid)
            family += [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    for process in started:
        process.wait()
    psutil.wait_procs(family, timeout=10)


def _tail(folder: Path, lines: int = 30) -> str:
    logs = [path for path in (folder / "flwr.log", folder / "flower-superlink.log") if path.exists()]
    text = logs[0].read_text(encoding="utf-8", errors="replace") if logs else ""
    return "\n".join(text.splitlines()[-lines:])
