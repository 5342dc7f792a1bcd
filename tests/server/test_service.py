"""A coordinator's services and runs, with stock SuperNodes behind the proxy; kill -9 included."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from hansa.cli import main
from hansa.errors import UsageError
from hansa.plan import parse_plan
from hansa.rng import seeded_generator
from hansa_server import service
from hansa_server.bundle import build_bundle, bundle_hash
from hansa_server.deploy import Control
from hansa_server.home import ServerHome
from hansa_server.members import admit, invite, remove
from hansa_server.planning import plan_run
from hansa_server.processes import MARK, Processes
from hansa_server.publishing import publish
from hansa_server.settings import Training, read_settings


def _until(holds: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("not in time")


def _hansa(capsys: pytest.CaptureFixture[str], home: ServerHome, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["server", *words, "--home", str(home.root)])
    said = capsys.readouterr()
    return code, said.out, said.err


def _admit(home: ServerHome, keys: Any) -> None:
    settings = read_settings(home.settings)
    invite(home, settings, keys.card.shop, home.root / "invite")
    with Control(home, settings) as control:
        admit(home, control, keys.card)


def _marked(home: ServerHome) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(home.root):
                found.append(process)
        except psutil.Error:
            pass
    return found


def test_a_node_connects_once_it_is_admitted_and_a_run_reaches_it(
    league: ServerHome,
    make_keys: Any,
    start_node: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The stock node runs the bundle's ClientApp, which finds no shop there: all refuse, exit code 3."""
    stranger, keys = make_keys("stranger"), make_keys("guest")
    _admit(league, keys)
    unknown, known = start_node(league, stranger), start_node(league, keys)

    def online() -> bool:
        shops = json.loads(_hansa(capsys, league, "status", "--json")[1])["shops"]
        return bool(shops["guest"]["online"])

    try:
        _until(online)
        assert "stranger" not in json.loads(_hansa(capsys, league, "status", "--json")[1])["shops"]
        code, out, err = _hansa(
            capsys, league, "train", "--dp", "local", "--run", "first", "--method", "popularity"
        )
        assert (code, out) == (3, "")
        assert "guest (the shop could not answer)" in err
        folder = league.runs / "first"
        plan = parse_plan((folder / "plan.json").read_text())
        assert (plan.run, plan.dp, plan.shops, plan.n_items) == ("first", "local", 1, 40)
        assert json.loads((folder / "outcome.json").read_text())["state"] == "refused"
        # What the node got is the bundle of this version, byte for byte: Flower names its folder by the hash.
        (installed,) = (tmp_path / "node-guest" / "apps").iterdir()
        assert installed.name.endswith(bundle_hash(build_bundle())[:8])
        assert known.poll() is None
        assert _until(lambda: unknown.poll() is not None)
        assert _hansa(capsys, league, "train", "--dp", "local", "--run", "first")[0] == 2
        assert _hansa(capsys, league, "train", "first", "--follow", "--json")[0] == 3
        assert not (Path.home() / ".flwr" / "apps" / installed.name).exists()
    finally:
        with Control(league, read_settings(league.settings)) as control:
            remove(league, control, "guest")


def test_a_model_is_sent_again_by_a_run_of_its_own(
    league: ServerHome, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, _ = plan_run(Training(customers=1000, dp="local"), "old", 3, 40, None)
    state = plan.learner.initial_state(seeded_generator(0, "test"))
    publish(league, "grocers", plan, state, [["a", "b"], ["b"]])
    assert _hansa(capsys, league, "models", "send", "old")[:2] == (0, "model old: sent\n")
    assert "old" in _hansa(capsys, league, "models", "list")[1]
    assert _hansa(capsys, league, "models", "send", "new")[0] == 2


def test_kill_nine(started: ServerHome, make_keys: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _admit(started, make_keys("west"))
    code, out, _ = _hansa(capsys, started, "train", "--dp", "local", "--detach")
    assert (code, out) == (0, "run-1\n")
    assert _hansa(capsys, started, "train", "--dp", "local")[0] == 2  # one at a time
    serverapp = _until(lambda: [p for p in _marked(started) if "flwr-serverapp" in " ".join(p.cmdline())])
    superlink = Processes(started).running(service.SUPERLINK)
    assert superlink is not None
    os.kill(superlink.pid, signal.SIGKILL)
    superlink.wait()
    code, out, _ = _hansa(capsys, started, "status")
    assert code == 0
    assert "not running; 'hansa server start'" in out
    code, _, err = _hansa(capsys, started, "train", "--follow")
    assert code == 1
    assert "'hansa server train run-1 --resume' goes on with it" in err

    assert _hansa(capsys, started, "start")[:2] == (0, "started: superlink\n")
    assert not any(process.is_running() for process in serverapp)
    shown = json.loads(_hansa(capsys, started, "status", "--json")[1])
    assert shown["run"] is None
    assert shown["shops"] == {
        "west": {"state": "admitted", "online": False}
    }  # its registration is still there
    with Control(started, read_settings(started.settings)) as control:
        assert [node.name for node in control.nodes()] == ["west"]
    before = json.loads((started.runs / "run-1" / "run.json").read_text())["flower"]
    assert _hansa(capsys, started, "train", "--resume", "--detach")[0] == 0
    assert json.loads((started.runs / "run-1" / "run.json").read_text())["flower"] != before
    assert _hansa(capsys, started, "stop-run")[:2] == (0, "run run-1: stopped\n")
    assert _hansa(capsys, started, "stop-run")[0] == 2

    assert _hansa(capsys, started, "stop")[:2] == (0, "stopped: superlink\n")
    assert _marked(started) == []
    assert _hansa(capsys, started, "stop")[:2] == (0, "nothing was running\n")


def test_a_port_that_is_taken(home: ServerHome) -> None:
    settings = read_settings(home.settings)
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.network.superlink))
        other.listen()
        with pytest.raises(UsageError, match=re.escape("server.toml: network.superlink")):
            service.start(home, settings)
    assert _marked(home) == []


def test_the_superlink_listens_on_loopback_only(league: ServerHome) -> None:
    settings = read_settings(league.settings)
    superlink = Processes(league).running(service.SUPERLINK)
    assert superlink is not None
    listening = [c.laddr for c in superlink.net_connections() if c.status == psutil.CONN_LISTEN]
    assert [(address.ip, address.port) for address in listening] == [
        ("127.0.0.1", settings.network.superlink)
    ]


def test_nothing_phones_home(league: ServerHome) -> None:
    environ = [process.environ() for process in _marked(league)]
    assert len(environ) >= 2
    for found in environ:
        assert found["FLWR_TELEMETRY_ENABLED"] == "0"
        assert found["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    superlink = Processes(league).running(service.SUPERLINK)
    assert superlink is not None
    assert superlink.environ()["HANSA_SERVER"] == str(league.root)
    assert superlink.environ()["FLWR_HOME"] == str(league.flower)
