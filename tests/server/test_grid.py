import time

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from hansa_server.grid import StreamingGrid


class Inner:
    """Nodes that answer after so many looks; None never does."""

    def __init__(self, looks):
        self.looks, self.sent, self.asked, self.forged = looks, {}, [], {}

    def push_messages(self, messages):
        for message in messages:
            number = f"m{message.metadata.dst_node_id}"
            message.metadata.__dict__["_message_id"] = number
            self.sent[number] = message
            yield number

    def pull_messages(self, message_ids):
        self.asked.append(list(message_ids))
        for number in message_ids:
            message = self.sent[number]
            left = self.looks[message.metadata.dst_node_id]
            if left == 0:
                reply = Message(RecordDict(), reply_to=message)
                if number in self.forged:
                    reply = Message(Error(3, "lost"), reply_to=message)
                    reply.metadata.__dict__["_src_node_id"] = self.forged[number]
                yield reply
            elif left is not None:
                self.looks[message.metadata.dst_node_id] = left - 1


@pytest.fixture(autouse=True)
def _task():
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1


def messages(nodes):
    return [Message(RecordDict(), node, "train.release") for node in nodes]


def sources(replies):
    return [reply.metadata.src_node_id for reply in replies]


def test_replies_come_as_they_are_ready_and_never_more_than_a_batch_is_asked_for():
    inner = Inner({2: 1, 3: 0, 4: 2, 5: 0})
    grid = StreamingGrid(inner, pause=0.001, batch=2)
    assert sources(grid.send_and_receive(messages([2, 3, 4, 5]), timeout=5)) == [3, 5, 2, 4]
    assert max(map(len, inner.asked)) == 2


def test_a_reply_is_handed_out_before_the_next_batch_is_asked_for():
    inner = Inner({2: 0, 3: 0})
    replies = StreamingGrid(inner, pause=0.001, batch=1).send_and_receive(messages([2, 3]))
    next(replies)
    assert inner.asked == [["m2"]]


def test_who_does_not_answer_in_time_is_left_out():
    inner = Inner({2: 0, 3: None})
    started = time.monotonic()
    replies = StreamingGrid(inner, pause=0.01).send_and_receive(messages([2, 3]), timeout=0.1)
    assert sources(replies) == [2]
    assert 0.1 <= time.monotonic() - started < 2


def test_flowers_word_that_a_reply_is_lost_is_nobodys_reply():
    inner = Inner({2: 0, 3: 0})
    inner.forged["m3"] = 1
    replies = StreamingGrid(inner, pause=0.001).send_and_receive(messages([2, 3]), timeout=1)
    assert sources(replies) == [2]
