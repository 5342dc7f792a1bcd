"""Many small shops on a few cores: one thread each, several shops at a time.

Matrices of small shops are too small to be shared between threads: two threads inside each of them are
slower than one, while two shops side by side take half the time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

In = TypeVar("In")
Out = TypeVar("Out")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def single_threaded() -> Iterator[None]:
    """Linear algebra uses one thread in each thread that calls it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def over_shops(function: Callable[[In], Out], shops: Iterable[In]) -> list[Out]:
    """``function`` of every shop, in order, several shops at a time."""
    with (
        single_threaded(),
        ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        return list(pool.map(function, shops))
