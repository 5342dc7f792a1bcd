"""What was made of a subject is made once, and never taken for another's."""

import threading

import numpy as np

from hansa.memo import Memo


def test_a_subject_is_known_by_identity_and_detail() -> None:
    memo: Memo[int] = Memo(2)
    made: list[str] = []

    def make(name: str) -> int:
        made.append(name)
        return len(made)

    first, equal = np.zeros(3), np.zeros(3)
    assert memo.get(first, "a", lambda: make("first")) == 1
    assert memo.get(first, "a", lambda: make("again")) == 1
    assert memo.get(first, "b", lambda: make("detail")) == 2
    assert memo.get(equal, "a", lambda: make("equal")) == 3
    assert memo.get(first, "a", lambda: make("forgotten")) == 4
    assert made == ["first", "detail", "equal", "forgotten"]


def test_an_identity_is_not_taken_over() -> None:
    memo: Memo[int] = Memo(1)
    for number in range(100):
        assert memo.get(np.zeros(2), None, lambda number=number: number) == number


def test_threads_make_it_once() -> None:
    memo: Memo[int] = Memo()
    subject, made, barrier = object(), [], threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        memo.get(subject, None, lambda: made.append(1) or 7)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
