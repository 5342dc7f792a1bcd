"""The supervisor, with children that do nothing but live and die."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from hansa.cli import main
from hansa.errors import RefusalError, UsageError
from hansa_client.home import ShopHome
from hansa_client.runtime import processes

STAND_IN = """
import sys, time
from hansa_client.runtime.children import follow_parent
follow_parent()
open(sys.argv[2] + "/state/" + sys.argv[1] + ".port", "w").write(sys.argv[3])
time.sleep(600)
"""

SUPERVISE = """
import logging, sys
from pathlib import Path
from hansa_client.home import ShopHome
from hansa_client.runtime.processes import supervise
logging.basicConfig(level=logging.INFO)
home = Path(sys.argv[1])
def command(role, shop, port):
    return [sys.executable, "-P", str(home / "child.py"), role, str(home), str(port)]
supervise(ShopHome(home), command)
"""


@pytest.fixture
def shop(shop_home: ShopHome):
    """A shop's folder that can start, with stand-ins for its processes."""
    shop_home.node_key.parent.mkdir()
    for path in (shop_home.invitation, shop_home.authority, shop_home.node_key):
        path.write_text("{}")
    (shop_home.root / "child.py").write_text(STAND_IN)
    (shop_home.root / "supervise.py").write_text(SUPERVISE)
    yield shop_home
    processes.stop(shop_home)
    while _started:
        _started.pop().wait()


_started = []


def begin(shop):
    command = [sys.executable, "-P", str(shop.root / "supervise.py"), str(shop.root)]
    _started.append(processes.start(shop, command))
    return _started[-1].pid


def wait(until, patience=20.0):
    deadline = time.monotonic() + patience
    while not (found := until()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def children(pid, roles=("executor", "node")):
    """The running children by role, once all are there."""

    def look():
        found = {}
        for child in psutil.Process(pid).children():
            line = child.cmdline()
            if "child.py" in " ".join(line) and child.status() != psutil.STATUS_ZOMBIE:
                found[line[3]] = child
        return found if set(found) == set(roles) else None

    return wait(look)


def ports(shop):
    def look():
        paths = [shop.state / f"{role}.port" for role in ("node", "executor")]
        found = [path.read_text() for path in paths if path.exists()]
        return found if len(found) == 2 and all(found) else None

    return wait(look)


def test_start_and_stop(shop):
    pid = begin(shop)
    both = children(pid)
    assert processes.running(shop) == pid
    assert len(set(ports(shop))) == 1
    with pytest.raises(RefusalError, match="runs already"):
        begin(shop)
    assert processes.stop(shop)
    assert processes.running(shop) is None
    assert not any(child.is_running() for child in both.values())
    assert not processes.stop(shop)


def test_an_executor_that_dies_is_replaced_beside_its_node(shop):
    before = children(begin(shop))
    before["executor"].kill()
    wait(lambda: not before["executor"].is_running())
    after = children(processes.running(shop))
    assert after["node"].pid == before["node"].pid


def test_with_its_node_the_executor_starts_anew(shop):
    before = children(begin(shop))
    before["node"].kill()
    wait(lambda: not before["executor"].is_running())
    assert children(processes.running(shop))["node"].pid != before["node"].pid


def test_children_do_not_outlive_a_killed_supervisor_and_its_pid_is_stale(shop):
    pid = begin(shop)
    both = children(pid)
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not any(child.is_running() for child in both.values()))
    assert (shop.state / "lock").read_text() == str(pid)  # left over, and not believed
    assert processes.running(shop) is None
    assert not processes.status(shop)["running"]
    again = begin(shop)
    assert processes.running(shop) == again


def test_the_secret_is_for_the_owner_alone_and_new_with_every_start(shop):
    begin(shop)
    first = (shop.state / "secret").read_bytes()
    assert (shop.state / "secret").stat().st_mode & 0o077 == 0
    processes.stop(shop)
    begin(shop)
    assert (shop.state / "secret").read_bytes() != first


def test_a_shop_that_is_not_set_up_does_not_start(shop_home):
    with pytest.raises(UsageError, match="'hansa client init' makes it"):
        processes.ready(shop_home)


def supervisor(shop):
    found = processes.Supervisor(shop, processes.ready(shop))
    found.node = processes.Child("node", shop.logs, {})
    return found


def test_a_node_that_asks_for_nothing_is_deaf(shop):
    found = supervisor(shop)
    found.node.started = time.monotonic() - processes.DEAF - 1
    assert found._deaf(time.monotonic())
    (shop.state / "contact.json").write_text(
        json.dumps({"contact": time.time(), "looked": time.time() - 1000})
    )
    assert found._deaf(time.monotonic())  # heartbeats are no sign of work
    (shop.state / "activity.json").write_text(json.dumps({"busy": True}))
    assert not found._deaf(time.monotonic())
    (shop.state / "activity.json").unlink()
    (shop.state / "contact.json").write_text(json.dumps({"contact": time.time(), "looked": time.time()}))
    assert not found._deaf(time.monotonic())


def test_pauses_between_starts_grow_and_end(shop):
    child = processes.Child("node", shop.root, dict(os.environ))
    pauses = []
    for _ in range(9):
        child.start([sys.executable, "-c", ""])
        child.process.wait()
        child.ended()
        pauses.append(round(child.not_before - time.monotonic()))
    assert pauses == [1, 2, 4, 8, 10, 10, 10, 10, 10]
    child.process = subprocess.Popen([sys.executable, "-c", ""])
    child.started = time.monotonic() - 1000
    child.process.wait()
    child.ended()
    assert child.failures == 1


def test_a_long_log_is_cut(shop, monkeypatch):
    monkeypatch.setattr(processes, "_MOST_LOG", 10)
    path = shop.root / "node.log"
    path.write_text("x" * 11)
    processes._shorten(path)
    assert path.read_text() == ""
    assert (shop.root / "node.log.1").read_text() == "x" * 11


def run(shop, *arguments):
    return main(["client", *arguments, "--home", str(shop.root)])


def test_status_pause_and_resume_on_the_command_line(shop, capsys):
    assert run(shop, "pause") == 0
    assert run(shop, "status", "--json") == 0
    found = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert (found["running"], found["paused"], found["online"]) == (False, True, False)
    assert found["ledger"] == {"spent": 0.0, "ceiling": 4.5, "delta": 1e-5}
    assert found["pending"] == []
    assert run(shop, "resume") == 0
    assert run(shop, "status") == 0
    shown = capsys.readouterr().out
    assert "running     no\n" in shown
    assert "epsilon 0 of 4.5 at delta 1e-05" in shown
    assert run(shop, "stop") == 0
    assert "it did not run" in capsys.readouterr().out


def test_the_supervisor_and_the_node_need_none_of_the_libraries_for_learning():
    loaded = (
        "import sys, hansa_client.runtime.processes, hansa_client.runtime.children\n"
        "import hansa_client.runtime.flower, hansa_client.invited\n"
        "print([name for name in ('torch', 'polars', 'dp_accounting', 'opacus') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
