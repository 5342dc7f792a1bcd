"""A Flower strategy that runs a plan: ask the shops, sum their releases, take the method's step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from hansa.dp.private_sum import Release
from hansa.errors import RefusalError, UsageError
from hansa.models.base import State
from hansa.models.optimizers import Memory
from hansa.plan import Plan
from hansa.records import (
    MODEL_MESSAGE,
    PLAN_MESSAGE,
    RELEASE_MESSAGE,
    STAGE_MESSAGES,
    Answer,
    Request,
    message_to_answer,
    record_to_state,
    request_to_content,
    state_to_record,
)
from hansa.rng import Generator
from hansa.secagg.roster import Roster
from hansa_server.masked import Ask, MaskedSum
from hansa_server.sums import ResidueSum, RoundSum, TableSum


@dataclass(frozen=True)
class RoundReport:
    """What a round came to; nothing in it is computed from customers but through the door.

    Attributes:
        round: From 1.
        planned: Rounds in the plan.
        release: What was released.
        state: The public state after the round.
        answered: Shops whose release is in the sum.
        missing: Reasons of the others.
        seconds: Duration of the round.
        attempt: Of a masked round, which try it was.
        shops: Names of those that answered, sorted.
        reasons: Of each of the others that said or sent something; and of those that were not heard of.
        receipts: The shops' word on their ledgers, as JSON.
        statements: The shops' word on their releases of this round, as JSON.
    """

    round: int
    planned: int
    release: Release
    state: State
    answered: int
    missing: list[str]
    seconds: float
    attempt: int = 1
    shops: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    receipts: dict[str, str] = field(default_factory=dict)
    statements: dict[str, str] = field(default_factory=dict)


@dataclass
class Enrolment:
    """Who takes part in a run.

    Attributes:
        nodes: The shops that accepted the plan: name by node.
        refused: Why each of the others does not.
        receipts: The shops' word on their ledgers, as JSON.
    """

    nodes: dict[int, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    receipts: dict[str, str] = field(default_factory=dict)


Listener = Callable[[RoundReport], None]

PATIENCE = 30.0
"""Most seconds that a run waits for all invited shops to be connected, before it asks those that are."""


@dataclass
class PlanStrategy(Strategy):
    """Runs ``plan`` on whichever of the nodes accept it.

    A shop that fails, refuses or is late costs its contribution; the round goes on with the others.

    Attributes:
        plan: What to run.
        noise: Generator of the noise of ``central``.
        listeners: Called after every round.
        roster: The shops of a league whose sums are masked; None where they are not.
        names: Which shop each node is, where the transport knows; then no other node is asked.
        done: Rounds that are complete: those of this run's earlier processes.
        next_attempt: Numbers the tries of a masked round; None: from 1.
        head: The coordinator's signed word on its log as it is now, as JSON; it goes with every request.
    """

    plan: Plan
    noise: Generator
    listeners: list[Listener] = field(default_factory=list)
    roster: Roster | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    done: int = 0
    next_attempt: Callable[[int], int] | None = None
    head: Callable[[], str] = lambda: ""
    enrolment: Enrolment = field(default_factory=Enrolment)
    nodes: list[int] = field(default_factory=list)
    memory: Memory = field(default_factory=dict)
    timeout: float = 3600.0
    _state: State = field(default_factory=dict)
    _started: float = 0.0

    def enrol(self, grid: Grid, timeout: float) -> None:
        """Ask every node whether it takes part; those that accept are the run's shops.

        Raises:
            RefusalError: Nobody takes part.
        """
        content = self._pack(Request(self.plan.run, 0, self.plan.model_dump_json(), {}))
        nodes = self._known(_await_nodes(grid, self.plan.shops, min(timeout, PATIENCE)))
        messages = [Message(content, node, PLAN_MESSAGE) for node in sorted(nodes)]
        refusals, enrolled = [], self.enrolment
        enrolled.refused.update({self.names[node]: "not connected" for node in set(self.names) - set(nodes)})
        for reply in grid.send_and_receive(messages, timeout=timeout):
            answer, node = message_to_answer(reply), reply.metadata.src_node_id
            if answer.receipt:
                enrolled.receipts[self._name(node)] = answer.receipt
            if answer.accepted:
                self.nodes.append(node)
                enrolled.nodes[node] = self._name(node)
            else:
                refusals.append(answer.reason)
                enrolled.refused[self._name(node)] = answer.reason
        if not self.nodes:
            reasons = sorted(set(refusals)) or ["no shop answered"]
            raise RefusalError(f"all {len(messages)} shops refused the plan; for example: {reasons[0]}")
        self.nodes.sort()
        self.timeout = timeout

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask every shop of the run for its release of this round."""
        server_round += self.done
        self._started = time.perf_counter()
        self._state = record_to_state(arrays)
        release = self.plan.releases[server_round - 1]
        group = str(server_round)
        if self.plan.dp == "distributed" and self.plan.masked:
            roster, ask = self._pinned_roster(), self._asking(grid, group)
            masked = MaskedSum(self.plan, server_round, roster, ask, self.names)
            if self.next_attempt is not None:
                masked.next_attempt = partial(self.next_attempt, server_round)
            self._sum: RoundSum = masked
            return [
                Message(self._pack(request, arrays), node, STAGE_MESSAGES["upload"], group_id=group)
                for node, request in masked.begin(self.nodes, self._state).items()
            ]
        unmasked = self.plan.dp == "distributed"
        self._sum = ResidueSum(self.plan, release) if unmasked else TableSum(self.plan, release, self.noise)
        content = self._pack(Request(self.plan.run, server_round, "", {}), arrays)
        return [Message(content, node, RELEASE_MESSAGE, group_id=group) for node in self.nodes]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Sum the releases one by one, finish the noise, take the method's step.

        Raises:
            RefusalError: No shop released anything.
        """
        server_round += self.done
        release = self.plan.releases[server_round - 1]
        total, answered, missing = self._sum, 0, []
        shops: list[str] = []
        receipts: dict[str, str] = {}
        statements: dict[str, str] = {}
        reasons = {self._name(node): "no answer in time" for node in self.nodes}
        for reply in replies:
            answer, shop = message_to_answer(reply), self._name(reply.metadata.src_node_id)
            if answer.receipt:
                receipts[shop] = answer.receipt
            if answer.statement:
                statements[shop] = answer.statement
            problem = total.add(answer) if answer.accepted else answer.reason or "nothing released"
            if problem is None:
                answered += 1
                shops.append(shop)
                reasons.pop(shop, None)
            else:
                missing.append(problem)
                reasons[shop] = problem
        if isinstance(total, MaskedSum):
            reasons.update({self._name(node): why for node, why in total.said.items() if node in self.nodes})
        missing += ["no answer in time"] * (len(self.nodes) - answered - len(missing))
        if not answered:
            raise RefusalError(f"round {server_round}: no shop released anything; {sorted(set(missing))[:1]}")
        noisy = total.finish(answered)
        learner = self.plan.learner
        self._state = learner.update(server_round, release, self._state, noisy, self.memory)
        seconds = time.perf_counter() - self._started
        report = RoundReport(
            server_round,
            len(self.plan.releases),
            release,
            self._state,
            answered,
            missing,
            seconds,
            total.attempt if isinstance(total, MaskedSum) else 1,
            sorted(shops),
            reasons,
            receipts,
            statements,
        )
        for listener in self.listeners:
            listener(report)
        return state_to_record(self._state), None

    def _pack(self, request: Request, packed: ArrayRecord | None = None) -> RecordDict:
        return request_to_content(replace(request, head=self.head()), packed)

    def _known(self, nodes: list[int]) -> list[int]:
        return [node for node in nodes if node in self.names] if self.names else nodes

    def _name(self, node: int) -> str:
        return self.names.get(node, f"node {node}")

    def _pinned_roster(self) -> Roster:
        if self.roster is None or self.roster.digest != self.plan.roster:
            raise UsageError(f"plan {self.plan.run}: give the roster that the plan names")
        return self.roster

    def _asking(self, grid: Grid, group: str) -> Ask:
        def ask(stage: str, requests: Mapping[int, Request]) -> Iterator[tuple[int, Answer]]:
            contents: dict[int, RecordDict] = {}  # one for all nodes that are asked the same
            for request in requests.values():
                if id(request) not in contents:
                    contents[id(request)] = self._pack(request)
            messages = [
                Message(contents[id(request)], node, STAGE_MESSAGES[stage], group_id=group)
                for node, request in requests.items()
            ]
            for reply in grid.send_and_receive(messages, timeout=self.timeout):
                yield reply.metadata.src_node_id, message_to_answer(reply)

        return ask

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nothing: an evaluation at the shops would be a release, and no plan has one."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing, see ``configure_evaluate``."""
        return None

    def summary(self) -> None:
        """Nothing: the plan says it all."""


def hand_over(grid: Grid, names: Mapping[int, str], request: Request, timeout: float) -> dict[str, str]:
    """Send a model to every connected shop.

    Returns:
        What each shop said, empty where it has kept the model; of shops that are not connected, that.
    """
    content = request_to_content(request)
    said = dict.fromkeys(names.values(), "not connected")
    nodes = [node for node in grid.get_node_ids() if node in names]
    messages = [Message(content, node, MODEL_MESSAGE) for node in sorted(nodes)]
    for reply in grid.send_and_receive(messages, timeout=timeout):
        answer = message_to_answer(reply)
        said[names[reply.metadata.src_node_id]] = "" if answer.accepted else answer.reason
    return said


def _await_nodes(grid: Grid, wanted: int, patience: float) -> list[int]:
    """The connected nodes, as soon as there are ``wanted`` of them or ``patience`` seconds have passed."""
    deadline = time.monotonic() + patience
    while len(nodes := list(grid.get_node_ids())) < wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return nodes
