"""The in-process engine: Flower's own apps on a Grid that calls them directly, without Ray or network."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field

import torch
from flwr.app import Context, Error, Message, RecordDict, UserConfig
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from hansa.dp.private_sum import Table
from hansa.models.base import State
from hansa.plan import Plan
from hansa.records import (
    RELEASE_MESSAGE,
    STAGE_MESSAGES,
    Answer,
    Request,
    answer_to_content,
    content_to_request,
    message_to_answer,
    record_to_state,
)
from hansa.rng import seeded_generator
from hansa.secagg.roster import Roster
from hansa_client import app as client
from hansa_client.shop import LocalShop, provide_shops
from hansa_server import app as server
from hansa_server.strategy import Listener
from hansa_simulations.parallel import cores, single_threaded

log = logging.getLogger(__name__)

App = Callable[[Message, Context], Message]

RUN_ID = 1
PARTITION = "partition-id"


@dataclass(frozen=True)
class Dropouts:
    """Shops that drop out of a round at a random stage, and are back for the next one.

    Attributes:
        share: Chance of each shop in each round.
        seed: Decides who, and when.
    """

    share: float
    seed: int

    def dropped(self, message: Message) -> bool:
        """Whether the node that a message goes to has dropped out of the message's round before it."""
        stage = _STAGES.get(message.metadata.message_type)
        if not self.share or stage is None:
            return False
        about = ("dropouts", message.metadata.group_id, message.metadata.dst_node_id)
        chance, place = seeded_generator(self.seed, *about).random(2)
        return bool(chance < self.share and stage >= int(place * len(STAGE_MESSAGES)))


_STAGES = {kind: place for place, kind in enumerate(STAGE_MESSAGES.values())}
_STAGES[RELEASE_MESSAGE] = _STAGES[STAGE_MESSAGES["upload"]]


@dataclass
class InProcessGrid(Grid):
    """Delivers every message by calling the client app in a worker thread.

    Replies are handed out one by one, so that memory holds few of them at a time. A client that
    raises is answered for with an error, one that is late likewise; a late one is left to finish in its
    thread, and asked again only then.
    """

    app: App
    contexts: dict[int, Context]
    _run: Run = field(default_factory=lambda: Run.create_empty(RUN_ID))
    _busy: dict[int, Future[Message]] = field(default_factory=dict)
    dropouts: Dropouts | None = None
    workers: int = field(default_factory=cores)

    def __post_init__(self) -> None:
        self._pool = self._new_pool()

    def set_run(self, run: Run) -> None:
        """See ``Grid``."""
        self._run = run

    @property
    def run(self) -> Run:
        """See ``Grid``."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See ``Grid``."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """See ``Grid``."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Not offered: messages here are answered as they are sent."""
        raise NotImplementedError("the in-process grid only sends and receives")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Not offered, see ``push_messages``."""
        raise NotImplementedError("the in-process grid only sends and receives")

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Each node's reply in the order of the messages, or an error in its place.

        Every node has ``timeout`` seconds of its own: in a deployment they work side by side, so that a
        slow one costs the others nothing.
        """
        waiting: deque[tuple[Message, Future[Message] | None]] = deque()
        for message in messages:
            waiting.append((message, self._submit(message)))
            if len(waiting) >= self.workers:  # none waits for a thread that a late one may hold
                yield self._reply(*waiting.popleft(), timeout)
        while waiting:
            yield self._reply(*waiting.popleft(), timeout)

    def _submit(self, message: Message) -> Future[Message] | None:
        node = message.metadata.dst_node_id
        if node in self._busy and not self._busy[node].done():
            return None
        if self.dropouts is not None and self.dropouts.dropped(message):
            return None
        self._busy[node] = self._pool.submit(self.app, message, self.contexts[node])
        return self._busy[node]

    def _reply(self, message: Message, future: Future[Message] | None, timeout: float | None) -> Message:
        late = Error(ErrorCode.MESSAGE_UNAVAILABLE, "late")
        if future is None:
            return Message(late, reply_to=message)
        try:
            reply = future.result(timeout)
            self._busy.pop(message.metadata.dst_node_id, None)  # or every shop's release stays in memory
            return reply
        except FutureTimeout:
            if not future.cancel():  # its thread is lost to the others until it returns
                self._pool.shutdown(wait=False)
                self._pool = self._new_pool()
            return Message(late, reply_to=message)
        except Exception as error:
            log.warning("the client of node %d failed: %r", message.metadata.dst_node_id, error)
            log.debug("traceback", exc_info=error)
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "client failed"), reply_to=message)

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,))


def run_in_process(
    plan: Plan,
    shops: Sequence[LocalShop],
    *,
    seed: int,
    app: App = client.app,
    round_timeout: float = 3600.0,
    listeners: Sequence[Listener] = (),
    workers: int | None = None,
    roster: Roster | None = None,
    dropouts: Dropouts | None = None,
) -> State:
    """Run a plan over simulated shops through the same two apps that a deployment runs.

    Args:
        plan: What to run.
        shops: One simulated shop a node.
        seed: Of the coordinator's noise and initial state.
        app: What answers for the shops.
        round_timeout: Seconds that each shop has for its answer.
        listeners: Called after every round.
        workers: Threads that serve the shops; None: one a core.
        roster: Of a masked league.
        dropouts: Who drops out, and when.

    Returns:
        The final public state.

    Raises:
        RefusalError: All shops refused the plan, or no shop released anything in a round.
    """
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN_ID, SUPERLINK_NODE_ID
    contexts = {
        node: Context(RUN_ID, node, {PARTITION: node - 1}, RecordDict(), {})
        for node in range(1, len(shops) + 1)
    }
    config: UserConfig = {
        "plan": plan.model_dump_json(),
        "simulation-seed": seed,
        "round-timeout": round_timeout,
    }
    if roster is not None:
        config[server.ROSTER] = roster.to_json()
    context = Context(RUN_ID, SUPERLINK_NODE_ID, {}, RecordDict(), config)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    provide_shops(lambda node_config: shops[int(str(node_config[PARTITION]))])
    server.listen(*listeners)
    try:
        with single_threaded():
            server.app(InProcessGrid(app, contexts, dropouts=dropouts, workers=workers or cores()), context)
    finally:
        server.listen()
        provide_shops(None)
    return record_to_state(context.state.array_records["model"])


Forge = Callable[[Request, Table], Table]
"""What a dishonest shop sends, given what it was asked and what it would send if it were honest."""


def forging(forges: Mapping[int, Forge]) -> App:
    """The client app, but the shops at some positions forge their releases."""

    def app(message: Message, context: Context) -> Message:
        reply = client.app(message, context)
        forge = forges.get(int(str(context.node_config[PARTITION])))
        if forge is None or message.metadata.message_type != RELEASE_MESSAGE or reply.has_error():
            return reply
        honest = message_to_answer(reply).release
        if honest is None:
            return reply
        sent = forge(content_to_request(message.content), honest)
        return Message(answer_to_content(Answer(True, release=sent)), reply_to=message)

    return app


Look = Callable[[int, Request, Answer], None]
"""Sees what the shop at a position was asked for a round, and what it answered."""


def watched(look: Look) -> App:
    """The client app, whose answers to requests for releases are looked at."""

    def app(message: Message, context: Context) -> Message:
        reply = client.app(message, context)
        if message.metadata.message_type == RELEASE_MESSAGE and not reply.has_error():
            position = int(str(context.node_config[PARTITION]))
            look(position, content_to_request(message.content), message_to_answer(reply))
        return reply

    return app
