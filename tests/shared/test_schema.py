import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.schema import Catalogue, Histories, stack

N_ITEMS = 15
rows_of_items = st.lists(
    st.lists(st.integers(0, N_ITEMS - 1), unique=True, max_size=N_ITEMS), min_size=0, max_size=8
)


def pack(rows):
    offsets = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
    return Histories(offsets, np.array([i for row in rows for i in row], dtype=np.int32), N_ITEMS)


def unpack(histories):
    assert histories.offsets.dtype == np.int64
    assert histories.items.dtype == np.int32
    assert histories.offsets[0] == 0
    assert histories.offsets[-1] == len(histories.items)
    return [histories.row(k).tolist() for k in range(len(histories))]


@given(rows=rows_of_items)
def test_rows_lengths_and_index_agree(rows):
    histories = pack(rows)
    assert unpack(histories) == rows
    assert histories.lengths.tolist() == [len(row) for row in rows]
    assert histories.rows_index.tolist() == [k for k, row in enumerate(rows) for _ in row]
    dense = histories.matrix().toarray() if rows else np.zeros((0, N_ITEMS))
    assert [sorted(np.flatnonzero(line).tolist()) for line in dense] == [sorted(row) for row in rows]


@given(rows=rows_of_items, cap=st.integers(1, N_ITEMS + 1))
def test_newest_keeps_the_end_of_each_row(rows, cap):
    assert unpack(pack(rows).newest(cap)) == [row[-cap:] for row in rows]


@given(rows=rows_of_items, data=st.data())
def test_where_keeps_customers_and_order(rows, data):
    histories = pack(rows)
    size = len(histories.items)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)), dtype=bool)
    flags = iter(keep.tolist())
    assert unpack(histories.where(keep)) == [[i for i in row if next(flags)] for row in rows]


@given(rows=rows_of_items, data=st.data())
def test_select_takes_masks_and_positions_in_order(rows, data):
    histories = pack(rows)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), dtype=bool)
    assert unpack(histories.select(mask)) == [row for row, kept in zip(rows, mask, strict=True) if kept]
    if rows:
        order = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10))
        assert unpack(histories.select(np.array(order, dtype=np.int64))) == [rows[k] for k in order]


@given(rows=rows_of_items, size=st.integers(1, 9))
def test_chunks_put_together_are_the_whole(rows, size):
    pieces = list(pack(rows).chunks(size))
    assert [row for piece in pieces for row in unpack(piece)] == rows
    assert all(len(piece) == size for piece in pieces[:-1])


@given(parts=st.lists(rows_of_items, min_size=1, max_size=4))
def test_stack_puts_shops_one_after_the_other(parts):
    assert unpack(stack([pack(rows) for rows in parts])) == [row for rows in parts for row in rows]


@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, N_ITEMS - 1)), max_size=60))
def test_from_pairs_keeps_first_occurrences_in_order(pairs):
    rows = [list(dict.fromkeys(i for u, i in pairs if u == k)) for k in range(6)]
    customers, items = [u for u, _ in pairs], [i for _, i in pairs]
    assert unpack(Histories.from_pairs(customers, items, 6, N_ITEMS)) == rows


def test_a_catalogue_is_as_long_as_its_ids():
    assert len(Catalogue(("a", "b"))) == 2


def test_histories_cannot_be_reassigned():
    with pytest.raises(AttributeError):
        pack([[1]]).n_items = 3
