"""What Hansa takes for granted of Flower's private parts; the rest shows in test_deployed_runs.py."""

import inspect
import logging
import subprocess
import sys

from flwr.supercore.constant import TaskType
from flwr.supernode import start_client_internal

from hansa_client.runtime import CLIENT_APP, _Clock, _Listener

DEAF_NODE = """
import threading, time
import flwr.supernode.cli as cli
def dies():  # as Flower's does: its API's thread lives on
    threading.Thread(target=time.sleep, args=(600,)).start()
    {end}
cli.flower_supernode = dies
from hansa_client.runtime import run_node
run_node([], 1.0, print)
"""


def _ends(end):
    code = DEAF_NODE.format(end=end)
    done = subprocess.run([sys.executable, "-P", "-c", code], timeout=60, check=False, capture_output=True)
    return done.returncode


def test_a_node_whose_work_ends_leaves_no_process_behind():
    assert _ends('raise ValueError("a setting of the run is not known")') == 1
    assert _ends("return") == 1


def test_a_node_without_its_heartbeats_ends():
    assert _ends("threading.Thread(target=lambda: 1 / 0).start(); time.sleep(600)") == 1


def test_the_nodes_loop_waits_by_the_name_that_is_replaced(monkeypatch):
    assert "time.sleep(3)" in inspect.getsource(start_client_internal)
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    _Clock(0.5).sleep(3)
    _Clock(5).sleep(3)
    assert slept == [0.5, 3]


def test_answers_of_the_coordinator_are_heard():
    heard = []
    listener = _Listener(heard.append)
    for path, status in [("pull-messages", 200), ("send-node-heartbeat", 200), ("pull-messages", 502)]:
        arguments = ("POST", f"https://h:1/v1/fleet/{path}", "HTTP/1.1", status, "said")
        listener.handle(
            logging.LogRecord("httpx", 20, "", 0, 'HTTP Request: %s %s "%s %d %s"', arguments, None)
        )
    assert heard == [True, False]


def test_clientapp_is_the_one_type_that_is_answered():
    assert CLIENT_APP == "flwr-clientapp"
    assert len(TaskType) == 6  # another one would have to be asked for, too, to be refused
