"""What Hansa takes for granted of Flower's private parts; the rest shows in test_deployed_runs.py."""

import inspect
import logging
import subprocess
import sys

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.supercore.constant import TaskType
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import start_client_internal

from hansa_client.runtime.flower import CLIENT_APP, Scales, _Clock, _Listener

DEAF_NODE = """
import threading, time
import flwr.supernode.cli as cli
def dies():  # as Flower's does: its API's thread lives on
    threading.Thread(target=time.sleep, args=(600,)).start()
    {end}
cli.flower_supernode = dies
from hansa_client.runtime.flower import run_node
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


def pulled(content, most):
    """The message that comes of a content's parts, weighed."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    message, confirmed = Message(content, 1, "query.plan"), []
    parts = {name: part.deflate() for name, part in get_all_nested_objects(message).items()}
    found = Scales(most).pull(get_object_tree(message), parts.__getitem__, confirmed.append)
    assert confirmed == [message.object_id]
    return found, sum(map(len, parts.values()))


def zeros(megabytes):
    return Array.from_numpy_ndarray(np.zeros(megabytes * 2**18, np.float32))


def test_a_message_is_weighed_while_it_comes():
    content = RecordDict({"state": ArrayRecord({"a": Array.from_numpy_ndarray(np.arange(1e5))})})
    found, size = pulled(content, 10**7)
    assert found.content == content
    assert pulled(content, size)
    with pytest.raises(ValueError, match="too large"):
        pulled(content, size - 1)


def test_a_part_weighs_as_often_as_it_is_used():
    content = RecordDict({"state": ArrayRecord({"a": zeros(80)})})
    _, size = pulled(content, 2**28)
    assert size < 60 * 2**20
    with pytest.raises(ValueError, match="too large"):
        pulled(content, 60 * 2**20)


def test_a_message_of_very_many_parts_is_not_pulled():
    content = RecordDict({str(number): ConfigRecord({"n": number}) for number in range(1001)})
    with pytest.raises(ValueError, match="too many parts"):
        pulled(content, 2**28)


def test_clientapp_is_the_one_type_that_is_answered():
    assert CLIENT_APP == "flwr-clientapp"
    assert len(TaskType) == 6  # another one would have to be asked for, too, to be refused
