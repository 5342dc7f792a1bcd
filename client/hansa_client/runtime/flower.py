"""What Hansa needs of Flower beyond its public interface; every private name is here.

A stock node unpacks the coordinator's bundle and imports it. Here the node only carries messages: the task
behind each is acquired with the node's own secret, read and answered by this process, and the bundle stays
the bytes that it came as. The names are those of Flower 1.41; another minor version needs another look.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import httpx
from flwr.app import Array, Error, Message, RecordDict
from flwr.common.serde import context_from_proto, fab_from_proto, message_from_proto, run_from_proto
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_object import (
    get_object_body,
    get_object_head_values_from_object_content,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.runtime.run_clientapp import push_message

log = logging.getLogger(__name__)

CLIENT_APP = str(TaskType.CLIENT_APP)
"""The one type of task that a shop answers."""

_COMPONENT = "SuperExec"
_ACQUIRE = frozenset({"/flwr.proto.Runtime/AcquireTask"})
_PULLS = "/v1/fleet/pull-messages"
_MOST_PARTS = 1000

Refused = (httpx.HTTPError, ValueError, RuntimeError)
"""What a call to the node may raise."""


@dataclass(frozen=True)
class Task:
    """A message for this shop, as the node hands it over.

    Attributes:
        kind: Type of the task, see ``CLIENT_APP``.
        bundle: SHA-256 of the bundle's bytes, hex.
        run: Flower's number of the run.
        run_config: The run's configuration: the bundle's defaults and the coordinator's values.
        message: The message; its content is empty where it could not be read.
        whole: Whether it could.
    """

    kind: str
    bundle: str
    run: int
    run_config: dict[str, Any]
    message: Message
    whole: bool


class NodeRuntime:
    """The node's interface on this machine, by which it hands out its tasks.

    Args:
        address: ``host:port`` on loopback.
        secret: What the node was started with; only who knows it gets tasks.
    """

    def __init__(self, address: str, secret: bytes) -> None:
        self._address = address
        self._client = self._connect(
            SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=_ACQUIRE)
        )

    @contextmanager
    def next(self) -> Iterator[Claim | None]:
        """The oldest task of any type, or None; the node hears that it is worked on until the block ends.

        Raises:
            httpx.HTTPError: The node does not answer.
        """
        response = self._client.AcquireTask(
            AcquireTaskRequest(supported_task_types=[str(kind) for kind in TaskType])
        )
        if not (response.HasField("task") and response.token):
            yield None
            return
        client = self._connect(RuntimeTokenHttpInterceptor(response.token))
        beats = HeartbeatSender(lambda: _beat(client))
        beats.start()
        try:
            yield Claim(client, response.task.type)
        finally:
            beats.stop()
            client.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _connect(self, interceptor: Any) -> Any:
        return RuntimeHttpClient.from_server_address(
            server_address=self._address,
            insecure=True,  # loopback, between two processes of one owner
            root_certificates=None,
            interceptors=[RuntimeVersionHttpInterceptor(component_name=_COMPONENT), interceptor],
        )


class Claim:
    """A task in hand. If it is not answered, the node says so to the coordinator once heartbeats end."""

    def __init__(self, client: Any, kind: str) -> None:
        self._client, self._kind = client, kind

    def pull(self, most: Callable[[str, Mapping[str, Any]], int]) -> Task:
        """The task's message.

        Args:
            most: How many bytes it may have, by the bundle's SHA-256 and the run's configuration; a larger
                one counts as one that cannot be read.

        Raises:
            httpx.HTTPError: The node does not answer.
        """
        pulled = self._client.PullMessages(PullAppMessagesRequest())
        if not pulled.messages_list:
            raise RuntimeError("the node has no message for this task")
        message, tree = message_from_proto(pulled.messages_list[0]), pulled.message_object_trees[0]
        given = self._client.PullTaskInput(PullTaskInputRequest())
        context = self._context = context_from_proto(given.context)
        TaskIdentity.task_id, TaskIdentity.run_id = given.task_id, run_from_proto(given.run).run_id
        TaskIdentity.node_id = context.node_id
        bundle = hashlib.sha256(fab_from_proto(given.fab).content).hexdigest()
        config = dict(context.run_config)
        node, whole = Node(node_id=context.node_id), True
        try:
            scales = Scales(most(bundle, config))
            message = scales.pull(
                tree,
                make_pull_object_fn_protobuf(self._client.PullObject, node, context.run_id),
                make_confirm_message_received_fn_protobuf(
                    self._client.ConfirmMessageReceived, node, context.run_id
                ),
            )
        except Exception as error:  # whatever bytes a coordinator sends
            log.warning("a message could not be read: %s", type(error).__name__)
            whole = False
        message.metadata.__dict__["_message_id"] = tree.object_id
        return Task(self._kind, bundle, context.run_id, config, message, whole and message.has_content())

    def reply(self, task: Task, content: RecordDict | Error) -> None:
        """Answer the message in an envelope that is made now, and finish the task.

        Raises:
            httpx.HTTPError: The node does not answer.
        """
        push_message(self._client, Message(content, reply_to=task.message), self._context)
        self._client.PushTaskOutput(PushTaskOutputRequest(context=None, sub_status="completed", details=""))


class Scales:
    """Weighs a message while it is pulled, and again before it is put together.

    Flower sends each part once, however often it is used, so that a small message can become a large one.

    Args:
        most: Bytes that it may have, either way.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._sizes: dict[str, int] = {}
        self._arrays: list[list[str]] = []

    def pull(self, tree: ObjectTree, pull: Callable[[str], bytes], confirm: Callable[[str], None]) -> Message:
        """The message.

        Raises:
            ValueError: It is too large, or malformed.
        """
        if len(list(iterate_object_tree(tree))) > _MOST_PARTS:
            raise ValueError("too many parts")

        def weighed(part: str) -> bytes:
            content = pull(part)
            kind, children, _ = get_object_head_values_from_object_content(content)
            if kind == Array.__qualname__:
                places = json.loads(get_object_body(content, Array))["arraychunk_ids"]
                self._arrays.append([children[place] for place in places])
            self._sizes[part] = len(content)
            self._check(sum(list(self._sizes.values())))
            return content

        def pulled(part: str) -> None:
            self._check(sum(self._sizes[chunk] for array in self._arrays for chunk in array))
            confirm(part)

        return pull_and_inflate_object_from_tree(tree, weighed, pulled, return_type=Message)

    def _check(self, size: int) -> None:
        if size > self._most:
            raise ValueError("too large")


def array_bytes(content: RecordDict) -> int:
    """Bytes of all arrays of a message, each as often as it is named."""
    return sum(len(each.data) for record in content.array_records.values() for each in record.values())


def _beat(client: Any) -> bool:
    try:
        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
    except Refused:
        return False
    return True


def run_node(arguments: Sequence[str], poll: float, heard: Callable[[bool], None]) -> None:
    """Be a Flower SuperNode; the process ends when the node does.

    A stock node whose work ends by an error leaves its process behind, alive and deaf. It also looks for
    messages every 3 seconds, whatever its options say.

    Args:
        arguments: Of ``flower-supernode``.
        poll: Seconds between looks for messages.
        heard: Called whenever the coordinator has answered; with True if it was asked for messages.
    """
    from flwr.supernode import start_client_internal as worker
    from flwr.supernode.cli import flower_supernode

    vars(worker)["time"] = _Clock(poll)
    transport = logging.getLogger("httpx")
    transport.setLevel(logging.INFO)
    transport.propagate = False
    transport.addHandler(_Listener(heard))
    threading.excepthook = _end  # heartbeats have a thread of their own; without it the shop counts as away
    sys.argv = ["flower-supernode", *arguments]
    try:
        flower_supernode()
    except BaseException as error:  # SystemExit too: nothing may keep the process
        log.error("the node has ended: %s", type(error).__name__)
    finally:
        _leave()


def _end(failure: threading.ExceptHookArgs) -> None:
    log.error("a thread of the node has ended: %s", failure.exc_type.__name__)
    _leave()


def _leave() -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


class _Clock:
    """Stands in for ``time`` in the node's loop."""

    def __init__(self, poll: float) -> None:
        self._poll = poll

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, self._poll))


class _Listener(logging.Handler):
    """Hears every answer of the coordinator, as httpx logs it: method, URL, version, status, phrase."""

    def __init__(self, heard: Callable[[bool], None]) -> None:
        super().__init__()
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple) and len(record.args) == 5 and record.args[3] == 200:
            self._heard(str(record.args[1]).endswith(_PULLS))
