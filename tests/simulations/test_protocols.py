import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.errors import UsageError
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa_simulations.protocols import NEGATIVES, PROTOCOLS, draw_candidates, split


def histories(*lengths, n_items=200):
    """Row u holds items 0, 1, ... oldest first."""
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    items = np.concatenate([np.arange(n) for n in lengths]).astype(np.int32)
    return Histories(offsets, items, n_items)


def rows(part):
    return [part.row(customer).tolist() for customer in range(len(part))]


@pytest.mark.parametrize(
    ("length", "held_out"), [(3, 1), (4, 1), (5, 1), (9, 1), (10, 2), (14, 2), (15, 3), (100, 20)]
)
@pytest.mark.parametrize("protocol", ["last20", "random20"])
def test_a_fifth_rounded_down_and_at_least_one_is_held_out(protocol, length, held_out):
    parts = split(histories(length), protocol, seeded_generator(0))
    assert parts.held_out.lengths.tolist() == [held_out]
    assert parts.train.lengths.tolist() == [length - held_out]


def test_last20_holds_out_the_newest():
    parts = split(histories(3, 10), "last20", seeded_generator(0))
    assert rows(parts.train) == [[0, 1], [0, 1, 2, 3, 4, 5, 6, 7]]
    assert rows(parts.held_out) == [[2], [8, 9]]
    assert parts.validation is None


def test_last1_holds_out_the_newest_and_sets_the_second_newest_aside():
    parts = split(histories(3, 5), "last1", seeded_generator(0))
    assert rows(parts.train) == [[0], [0, 1, 2]]
    assert rows(parts.held_out) == [[2], [4]]
    assert parts.validation is not None
    assert rows(parts.validation) == [[1], [3]]


def test_loo99_holds_out_the_newest_or_the_one_flagged():
    three = histories(3, 3, 3, 3)
    assert rows(split(three, "loo99", seeded_generator(0)).held_out) == [[2]] * 4
    flagged = np.zeros(12, dtype=bool)
    flagged[[1, 6, 7]] = True  # customer 0 once, customer 2 twice
    parts = split(three, "loo99", seeded_generator(0), flagged)
    assert rows(parts.held_out) == [[1], [2], [2], [2]]
    assert rows(parts.train) == [[0, 2], [0, 1], [0, 1], [0, 1]]


def test_flags_matter_to_loo99_only():
    flagged = np.array([True, False, False])
    for protocol in ("last20", "last1"):
        assert rows(split(histories(3), protocol, seeded_generator(0), flagged).held_out) == [[2]]


def test_random20_draws_evenly_and_by_seed():
    many = histories(*[10] * 2000)
    parts = split(many, "random20", seeded_generator(0))
    counts = np.bincount(parts.held_out.items, minlength=10)[:10]
    assert counts.sum() == 4000
    assert abs(counts - 400).max() < 5 * np.sqrt(400 * 0.8)
    assert rows(parts.held_out) == rows(split(many, "random20", seeded_generator(0)).held_out)
    assert rows(parts.held_out) != rows(split(many, "random20", seeded_generator(1)).held_out)


@given(st.lists(st.integers(3, 60), max_size=8), st.sampled_from(PROTOCOLS), st.integers(0, 3))
def test_parts_are_disjoint_complete_and_oldest_first(lengths, protocol, seed):
    whole = histories(*lengths) if lengths else Histories(np.zeros(1, np.int64), np.zeros(0, np.int32), 5)
    parts = split(whole, protocol, seeded_generator(seed))
    validation = [[]] * len(lengths) if parts.validation is None else rows(parts.validation)
    for n, train, held_out, aside in zip(
        lengths, rows(parts.train), rows(parts.held_out), validation, strict=True
    ):
        assert sorted(train + held_out + aside) == list(range(n))
        assert train == sorted(train)
        assert held_out == sorted(held_out)
        assert train
        assert held_out


def test_unknown_protocol():
    with pytest.raises(UsageError, match="--protocol: unknown value 'last10'; use one of: last20, random20"):
        split(histories(3), "last10", seeded_generator(0))


@pytest.mark.parametrize("lengths", [(3, 10, 60), (101,), (3,) * 50])
def test_candidates_are_new_to_the_customer_and_distinct(lengths):
    whole = histories(*lengths)
    held_out = split(whole, "loo99", seeded_generator(0)).held_out
    candidates = draw_candidates(whole, held_out, seeded_generator(1))
    assert candidates.shape == (len(lengths), 1 + NEGATIVES)
    assert candidates.dtype == np.int32
    for length, row in zip(lengths, candidates.tolist(), strict=True):
        assert row[0] == length - 1
        assert len(set(row)) == 100
        assert all(length <= item < 200 for item in row[1:])


def test_candidates_are_drawn_evenly():
    whole = histories(*[100] * 400, n_items=300)
    candidates = draw_candidates(
        whole, split(whole, "last1", seeded_generator(0)).held_out, seeded_generator(0)
    )
    counts = np.bincount(candidates[:, 1:].ravel(), minlength=300)[100:]
    assert abs(counts - 198).max() < 5 * np.sqrt(198)


def test_exactly_99_items_left():
    whole = histories(3, n_items=102)
    candidates = draw_candidates(whole, histories(1, n_items=102), seeded_generator(0))
    assert sorted(candidates[0, 1:].tolist()) == list(range(3, 102))


def test_too_few_items_left():
    with pytest.raises(UsageError, match="needs 99 items new to a customer, one has 98; use last1"):
        draw_candidates(histories(3, n_items=101), histories(1, n_items=101), seeded_generator(0))
