"""Arrays and settings to and from Flower's records, version 1 of Hansa's messages.

A coordinator asks two things: ``query.plan`` (will you take part in this run?) and ``train.release``
(your private sum of this round), or in its place the five stages of a masked one. In the end ``query.model``
hands over what was learnt. Replies carry an ``answer`` and, where it accepts, the released array or the
stage's message, and the shop's signed word on its ledger; nothing else: no counts, no metrics, no timings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode

from hansa.dp.private_sum import Table
from hansa.errors import UsageError
from hansa.memo import Memo
from hansa.models.base import State

VERSION = 1
_FORMAT = "numpy.ndarray"  # Flower's name for NumPy's own format
_PACKED = "hansa.residues"
_POLICY = (ErrorCode.INVALID_FAB, ErrorCode.MOD_FAILED_PRECONDITION)
_MOST_SAID = 200
PLAN_MESSAGE = "query.plan"
MODEL_MESSAGE = "query.model"
RELEASE_MESSAGE = "train.release"
STAGE_MESSAGES = {
    "advertise": "query.advertise",
    "share": "query.share",
    "upload": "train.upload",
    "agree": "query.agree",
    "unmask": "query.unmask",
}
"""Of a masked round: the stages in their order."""


@dataclass(frozen=True)
class Request:
    """What a coordinator asks.

    Attributes:
        run: The run's name.
        round: The absolute round, from 1; 0 when asking whether to take part.
        body: The plan as JSON when asking whether to take part, a model's card with a model, else empty.
        state: The public state for a release, the model itself with a model, else empty.
        fields: Of a stage of a masked round, its message (``hansa.secagg.messages``).
        message: The id of the message that it came in; it is not part of what is packed.
        head: The coordinator's signed word on its log (``hansa.transparency.LogHead``), as JSON; empty in
            simulations.
    """

    run: str
    round: int
    body: str
    state: State
    fields: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    head: str = ""


@dataclass(frozen=True)
class Answer:
    """What a shop replies: yes, with the release if one was asked for, or a reason for its refusal.

    Attributes:
        accepted: Yes or no.
        reason: Of a no.
        release: The shop's own sum.
        residues: Or its part of a sum over shops, packed (``hansa.secagg.masks``).
        fields: Of a stage of a masked round, its message (``hansa.secagg.messages``).
        receipt: The shop's signed word on its ledger where it has just entered something, as JSON.
        statement: Of a release, the shop's signed word on what was charged for it
            (``hansa.transparency.ReleaseReceipt``), as JSON.
    """

    accepted: bool
    reason: str = ""
    release: Table | None = None
    residues: bytes | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    receipt: str = ""
    statement: str = ""


_received: Memo[State] = Memo()


def state_to_record(state: State) -> ArrayRecord:
    """Pack public state, names kept."""
    return ArrayRecord({name: Array.from_numpy_ndarray(array) for name, array in state.items()})


def record_to_state(record: ArrayRecord) -> State:
    """Unpack public state, once for all shops of a process that the same record reaches.

    Raises:
        UsageError: An array is not a finite float32 table.
    """
    return _received.get(record, None, lambda: _unpack(record))


def _unpack(record: ArrayRecord) -> State:
    state: State = {}
    for name, array in record.items():
        table = array.numpy()
        if table.dtype != np.float32 or table.ndim != 2 or not np.isfinite(table).all():
            raise UsageError(f"state {name!r}: not a finite float32 table")
        state[name] = table
    return state


def request_to_content(request: Request, packed: ArrayRecord | None = None) -> RecordDict:
    """Pack a request; ``packed`` spares packing the same state for every shop."""
    config = ConfigRecord(
        {
            "version": VERSION,
            "run": request.run,
            "round": request.round,
            "body": request.body,
            "head": request.head,
        }
    )
    content = RecordDict({"config": config, "state": packed or state_to_record(request.state)})
    if request.fields:
        content["protocol"] = ConfigRecord(dict(request.fields))
    return content


def content_to_request(content: RecordDict) -> Request:
    """Unpack a request.

    Raises:
        UsageError: It is not one of this version.
    """
    config = content.config_records.get("config")
    state = content.array_records.get("state")
    if config is None or state is None or config.get("version") != VERSION:
        raise UsageError(f"request: not a message of version {VERSION}")
    run, round_, body, head = (config.get(name) for name in ("run", "round", "body", "head"))
    if not (isinstance(run, str) and isinstance(round_, int)) or not isinstance(body, str):
        raise UsageError("request: run, round or body is missing")
    if not isinstance(head, str):
        raise UsageError("request: the head of the log is missing")
    return Request(run, round_, body, record_to_state(state), _fields(content), head=head)


def exact_request(content: RecordDict) -> Request:
    """Unpack a request that packs to the same again: no other record, key, array or byte is in it.

    Raises:
        UsageError: It does not.
    """
    try:
        request = content_to_request(content)
        same = request_to_content(request) == content
    except UsageError:
        raise
    except Exception as error:  # whatever bytes a coordinator sends
        raise UsageError(f"request: not a message of version {VERSION}") from error
    if not same or any(type(value) is bool for value in content.config_records["config"].values()):
        raise UsageError("request: holds more than a message of its kind")
    return request


def exact_answer(content: RecordDict) -> Answer:
    """Unpack an answer that packs to the same again: no other record, key, array or byte is in it.

    Raises:
        UsageError: It does not.
    """
    try:
        answer = _content_to_answer(content)
        same = answer is not None and answer_to_content(answer) == content
    except Exception as error:
        raise UsageError("answer: malformed") from error
    if answer is None or not same:
        raise UsageError("answer: holds more than an answer")
    return answer


def _pack(table: Table) -> Array:
    """The array as Flower packs it, in NumPy's own format, without copying it twice."""
    payload = b"".join((_head(table.shape), np.ascontiguousarray(table).data))
    return Array("float32", table.shape, _FORMAT, payload)


def _unpack_table(array: Array) -> Table:
    """The array, not copied and read-only where it is packed as ``_pack`` does it."""
    head = _head(array.shape)
    size = len(head) + 4 * math.prod(array.shape)
    if array.stype == _FORMAT and len(array.data) == size and array.data.startswith(head):
        return np.frombuffer(array.data, np.dtype("<f4"), offset=len(head)).reshape(array.shape)
    return array.numpy()


@lru_cache(maxsize=64)
def _head(shape: tuple[int, ...]) -> bytes:
    """The head of a float32 array in NumPy's format."""
    head = BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return head.getvalue()


def answer_to_content(answer: Answer) -> RecordDict:
    """Pack an answer."""
    said = ConfigRecord(
        {
            "accepted": answer.accepted,
            "reason": answer.reason,
            "receipt": answer.receipt,
            "statement": answer.statement,
        }
    )
    content = RecordDict({"answer": said})
    if answer.release is not None:
        content["release"] = ArrayRecord({"release": _pack(answer.release)})
    if answer.fields:
        content["protocol"] = ConfigRecord(dict(answer.fields))
    if answer.residues is not None:
        packed = Array("uint8", (len(answer.residues),), _PACKED, answer.residues)
        content["release"] = ArrayRecord({"residues": packed})
    return content


def message_to_answer(message: Message) -> Answer:
    """Unpack a reply; an error or a malformed reply is a refusal, in a shop's own words or generic ones."""
    if message.has_error():
        code, said = message.error.code, message.error.reason
        if code in _POLICY and isinstance(said, str) and _is_line(said):
            return Answer(False, said)
        return Answer(False, f"no answer (Flower error {code})")
    try:
        answer = _content_to_answer(message.content)
    except Exception:  # whatever bytes a shop sends, they cost its contribution only
        return Answer(False, "malformed release")
    if answer is None or not _is_line(answer.reason):
        return Answer(False, "malformed answer")
    return answer


def _is_line(said: str) -> bool:
    """Whether a shop's words may go into files and onto terminals."""
    return said.isprintable() and len(said) <= _MOST_SAID


def _content_to_answer(content: RecordDict) -> Answer | None:
    config = content.config_records.get("answer")
    if config is None or not isinstance(config.get("accepted"), bool):
        return None
    arrays = content.array_records.get("release")
    release = _unpack_table(arrays["release"]) if arrays and "release" in arrays else None
    residues = None
    if arrays and "residues" in arrays and arrays["residues"].stype == _PACKED:
        residues = arrays["residues"].data
    if release is not None and release.dtype != np.float32:
        raise UsageError("answer: not a float32 table")
    said = {name: str(config.get(name, "")) for name in ("reason", "receipt", "statement")}
    return Answer(
        bool(config["accepted"]), release=release, residues=residues, fields=_fields(content), **said
    )


def _fields(content: RecordDict) -> dict[str, Any]:
    return dict(content.config_records.get("protocol", {}))
