import numpy as np
import pytest
from flwr.app import Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

import hansa_server.strategy
from hansa.errors import RefusalError
from hansa.plan import make_plan
from hansa.records import Answer, answer_to_content, state_to_record
from hansa.rng import seeded_generator
from hansa_server.strategy import PlanStrategy

NODES = 6
PLAN = make_plan(
    run="r",
    method="popularity",
    settings={},
    n_items=50,
    dp="none",
    epsilon=None,
    delta=1e-5,
    shops=NODES,
    customers=60,
)


@pytest.fixture(autouse=True)
def _identity(monkeypatch):
    """Flower's messages take their sender from the process."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


class FakeGrid:
    """Nodes that connect one a look, and all accept."""

    def __init__(self, nodes):
        self.nodes, self.looks = nodes, 0

    def get_node_ids(self):
        self.looks += 1
        return range(1, min(self.looks, self.nodes) + 1)

    def send_and_receive(self, messages, *, timeout):
        return [
            Message(answer_to_content(Answer(True)), reply_to=addressed(message, node))
            for node, message in enumerate(messages, 1)
        ]


def addressed(message, node):
    message.metadata.__dict__["_message_id"] = str(node)
    return message


def replies(order):
    made = []
    for node in order:
        draw = seeded_generator(node, "release")
        release = (draw.standard_normal((50, 1)) * 10.0 ** draw.integers(-3, 4)).astype(np.float32)
        asked = addressed(Message(RecordDict(), node, "train.release"), node)
        made.append(Message(answer_to_content(Answer(True, release=release)), reply_to=asked))
    return made


def strategy(nodes=NODES):
    made = PlanStrategy(PLAN, seeded_generator(0, "noise"), nodes=list(range(1, nodes + 1)))
    made.configure_train(1, state_to_record(PLAN.learner.initial_state(seeded_generator(0))), None, None)
    return made


def summed(order):
    arrays, _ = strategy().aggregate_train(1, replies(order))
    return {name: array.numpy() for name, array in arrays.items()}


def test_the_order_of_replies_does_not_matter():
    straight, shuffled = summed([1, 2, 3, 4, 5, 6]), summed([4, 6, 2, 1, 5, 3])
    for name, table in straight.items():
        np.testing.assert_allclose(shuffled[name], table, rtol=1e-6, atol=0)


def test_a_node_that_does_not_reply_is_reported_missing():
    reports = []
    made = strategy()
    made.listeners = [reports.append]
    made.aggregate_train(1, replies([1, 2, 3, 4]))
    assert reports[0].answered == 4
    assert reports[0].missing == ["no answer in time"] * 2


def test_a_round_without_replies_is_refused():
    with pytest.raises(RefusalError, match="no answer in time"):
        strategy().aggregate_train(1, [])


def test_enrolment_waits_for_all_invited_shops():
    made = PlanStrategy(PLAN, seeded_generator(0, "noise"))
    made.enrol(FakeGrid(NODES), timeout=60.0)
    assert made.nodes == list(range(1, NODES + 1))


def test_enrolment_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(hansa_server.strategy, "PATIENCE", 0.3)
    made = PlanStrategy(PLAN, seeded_generator(0, "noise"))
    made.enrol(FakeGrid(2), timeout=60.0)
    assert made.nodes == [1, 2]
