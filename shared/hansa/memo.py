"""Work on public state that the many shops of one process would otherwise each repeat."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Memo(Generic[Value]):
    """Remembers what was made of the last few subjects, which are told apart by identity.

    Subjects are large and never changed in place (released arrays, received bytes), so that neither
    comparing nor hashing them would do. They are kept alive, hence an identity is never taken over.

    Args:
        size: How many results are kept.
    """

    def __init__(self, size: int = 2) -> None:
        self._kept: deque[tuple[object, Hashable, Value]] = deque(maxlen=size)
        self._lock = Lock()

    def get(self, subject: object, detail: Hashable, make: Callable[[], Value]) -> Value:
        """What ``make`` returned for this subject and detail, called once by whoever comes first."""
        with self._lock:
            for known, known_detail, value in self._kept:
                if known is subject and known_detail == detail:
                    return value
            value = make()
            self._kept.appendleft((subject, detail, value))
            return value
