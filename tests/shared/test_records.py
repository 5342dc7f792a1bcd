import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from hansa.errors import UsageError
from hansa.records import (
    Answer,
    Request,
    answer_to_content,
    content_to_request,
    exact_answer,
    exact_request,
    message_to_answer,
    record_to_state,
    request_to_content,
    state_to_record,
)

STATE = {"items": np.arange(6, dtype=np.float32).reshape(3, 2), "bias": np.ones((3, 1), dtype=np.float32)}


@pytest.fixture(autouse=True)
def _task():
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1


def reply(content):
    return Message(content, reply_to=Message(RecordDict(), 1, "train.release"))


def test_state_survives():
    back = record_to_state(state_to_record(STATE))
    assert list(back) == list(STATE)
    assert all((back[name] == STATE[name]).all() and back[name].dtype == np.float32 for name in STATE)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((3, 2)),
        np.zeros((3, 2), dtype=np.float16),
        np.zeros((3, 2), dtype=np.int32),
        np.zeros(3, dtype=np.float32),
        np.zeros((3, 2, 1), dtype=np.float32),
        np.array([[np.nan, 1]], dtype=np.float32),
        np.array([[np.inf, 1]], dtype=np.float32),
        np.array([["a"]]),
    ],
)
def test_only_finite_float32_tables_are_state(bad):
    record = ArrayRecord({"items": Array.from_numpy_ndarray(bad)})
    with pytest.raises(UsageError, match="state 'items': not a finite float32 table"):
        record_to_state(record)


@pytest.mark.parametrize("packed", [None, state_to_record(STATE)])
def test_requests_survive(packed):
    request = Request("run 7", 3, "{}", STATE)
    back = content_to_request(request_to_content(request, packed))
    assert (back.run, back.round, back.body) == ("run 7", 3, "{}")
    assert all((back.state[name] == STATE[name]).all() for name in STATE)


def changed(**entries):
    content = request_to_content(Request("r", 1, "", STATE))
    config = {**content.config_records["config"], **entries}
    content["config"] = ConfigRecord({name: value for name, value in config.items() if value is not None})
    return content


@pytest.mark.parametrize("entries", [{"version": 2}, {"version": "1"}, {"version": None}])
def test_other_versions_are_refused(entries):
    with pytest.raises(UsageError, match="request: not a message of version 1"):
        content_to_request(changed(**entries))


@pytest.mark.parametrize(
    "entries", [{"run": None}, {"run": 3}, {"round": "1"}, {"round": 1.0}, {"body": None}, {"body": b"x"}]
)
def test_incomplete_requests_are_refused(entries):
    with pytest.raises(UsageError, match="run, round or body is missing"):
        content_to_request(changed(**entries))


@pytest.mark.parametrize("entries", [{"head": None}, {"head": 1}, {"head": b"x"}])
def test_requests_without_a_head_are_refused(entries):
    with pytest.raises(UsageError, match="the head of the log is missing"):
        content_to_request(changed(**entries))


def test_heads_and_statements_survive():
    content = request_to_content(Request("r", 1, "", STATE, head="{}"))
    assert exact_request(content).head == "{}"
    packed = answer_to_content(Answer(True, release=STATE["items"], receipt="{}", statement='{"a":1}'))
    assert exact_answer(packed).statement == '{"a":1}'
    del packed["answer"]["statement"]
    with pytest.raises(UsageError, match="more than an answer"):
        exact_answer(packed)


def test_requests_without_records_are_refused():
    for missing in ("config", "state"):
        content = request_to_content(Request("r", 1, "", STATE))
        del content[missing]
        with pytest.raises(UsageError, match="not a message of version 1"):
            content_to_request(content)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(True),
        Answer(False, "no budget"),
        Answer(False, "ü" * 200),
        Answer(True, release=STATE["items"]),
    ],
)
def test_answers_survive_and_carry_nothing_else(answer):
    content = answer_to_content(answer)
    back = message_to_answer(reply(content))
    assert (back.accepted, back.reason) == (answer.accepted, answer.reason)
    if answer.release is None:
        assert back.release is None
        assert set(content) == {"answer"}
    else:
        np.testing.assert_array_equal(back.release, answer.release)
        assert set(content) == {"answer", "release"}
        assert set(content["release"]) == {"release"}
    assert set(content["answer"]) == {"accepted", "reason", "receipt", "statement"}


def test_an_error_is_a_refusal():
    message = Message(Error(3, "private details"), reply_to=Message(RecordDict(), 1, "train.release"))
    answer = message_to_answer(message)
    assert answer == Answer(False, "no answer (Flower error 3)")


def with_release(array):
    content = answer_to_content(Answer(True))
    content["release"] = ArrayRecord({"release": array})
    return content


HUGE = Array.from_numpy_ndarray(STATE["items"])
HUGE.data = HUGE.data.replace(b"(3, 2)", b"(3, 2" + b"0" * 15 + b")")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (RecordDict(), "malformed answer"),
        (RecordDict({"answer": ConfigRecord({"accepted": 1})}), "malformed answer"),
        (RecordDict({"answer": ConfigRecord({"reason": "x"})}), "malformed answer"),
        (answer_to_content(Answer(False, "\x1b]0;owned\x07")), "malformed answer"),
        (answer_to_content(Answer(False, "two\nlines")), "malformed answer"),
        (answer_to_content(Answer(False, "x" * 201)), "malformed answer"),
        (answer_to_content(Answer(True, "\x1b[2J")), "malformed answer"),
        (with_release(Array("float32", (2, 1), "numpy.ndarray", b"garbage")), "malformed release"),
        (with_release(Array("float32", (2, 1), "numpy.ndarray", b"")), "malformed release"),
        (with_release(Array("float32", (2, 1), "other", b"garbage")), "malformed release"),
        (with_release(Array.from_numpy_ndarray(np.zeros((2, 1)))), "malformed release"),
        (with_release(Array.from_numpy_ndarray(np.zeros((2, 1), dtype=complex))), "malformed release"),
        (with_release(Array.from_numpy_ndarray(np.array([["a"]]))), "malformed release"),
        (with_release(HUGE), "malformed release"),
    ],
)
def test_malformed_answers_are_refusals(content, reason):
    assert message_to_answer(reply(content)) == Answer(False, reason)


def released(array):
    """What a coordinator reads from a reply with ``array`` as its release."""
    config = ConfigRecord({"accepted": True, "reason": ""})
    return message_to_answer(
        reply(RecordDict({"answer": config, "release": ArrayRecord({"release": array})}))
    )


@pytest.mark.parametrize("table", [STATE["items"], STATE["items"].T, np.zeros((0, 3), dtype=np.float32)])
def test_releases_are_packed_as_flower_packs_arrays(table):
    content = answer_to_content(Answer(True, release=table))
    packed = content.array_records["release"]["release"]
    theirs = Array.from_numpy_ndarray(np.ascontiguousarray(table))
    assert (packed.data, packed.dtype, packed.shape, packed.stype) == (
        theirs.data,
        theirs.dtype,
        theirs.shape,
        theirs.stype,
    )
    np.testing.assert_array_equal(released(packed).release, table)
    np.testing.assert_array_equal(released(Array.from_numpy_ndarray(np.asfortranarray(table))).release, table)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda array: setattr(array, "data", array.data[:-1]),
        lambda array: setattr(array, "data", array.data + b"x"),
        lambda array: setattr(array, "data", b""),
        lambda array: setattr(array, "stype", "pickle"),
    ],
)
def test_a_spoilt_release_costs_itself_only(spoil):
    array = Array.from_numpy_ndarray(STATE["items"])
    spoil(array)
    answer = released(array)
    assert answer.release is None or (answer.release == STATE["items"]).all()


def test_a_shape_that_is_not_the_data_s_counts_for_nothing():
    array = Array.from_numpy_ndarray(STATE["items"])
    array.shape = (2, 3)
    assert released(array).release.shape == (3, 2)


def test_many_shops_share_one_unpacked_state():
    record = state_to_record(STATE)
    first, second = record_to_state(record), record_to_state(record)
    assert all(first[name] is second[name] for name in STATE)
