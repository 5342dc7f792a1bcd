"""A Flower Grid that hands out replies as they come in, few of them in memory at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

if TYPE_CHECKING:
    from flwr.supercore.run import Run

log = logging.getLogger(__name__)


@dataclass
class StreamingGrid(Grid):
    """Another grid, asked for replies in small batches and more often than Flower's own three seconds.

    Attributes:
        inner: The grid that does the work.
        pause: Seconds between looks for replies.
        batch: Replies that are asked for at a time.
    """

    inner: Grid
    pause: float = 0.5
    batch: int = 8

    def set_run(self, run: Run) -> None:
        """See ``Grid``."""
        self.inner.set_run(run)

    @property
    def run(self) -> Run:
        """See ``Grid``."""
        return self.inner.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See ``Grid``."""
        return self.inner.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """See ``Grid``."""
        return self.inner.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See ``Grid``."""
        return self.inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See ``Grid``."""
        return self.inner.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """The replies in the order in which they come; those that are lost or late are left out."""
        sent = list(messages)
        waiting = {
            number: message.metadata.dst_node_id
            for number, message in zip(self.inner.push_messages(sent), sent, strict=True)
            if number is not None  # what Flower says of a message that it could not send
        }
        del sent
        end = None if timeout is None else time.monotonic() + timeout
        while waiting:
            for numbers in _batches(list(waiting), self.batch):
                for reply in self.inner.pull_messages(numbers):
                    node = waiting.pop(reply.metadata.reply_to_message_id, None)
                    if node == reply.metadata.src_node_id:
                        yield reply
                    else:  # Flower's own word that a reply is lost
                        log.warning("the reply of node %s did not arrive", node)
            if not waiting or (end is not None and time.monotonic() > end):
                return
            time.sleep(self.pause)


def _batches(numbers: list[str], size: int) -> Iterator[list[str]]:
    left = iter(numbers)
    while batch := list(islice(left, size)):
        yield batch
