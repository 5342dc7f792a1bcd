from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hansa.errors import RefusalError
from hansa.secagg.messages import SEALED, Adverts, Delivery, Envelopes, Message

WHOLE: list[Message] = []


@pytest.fixture
def messages(league: Callable[..., Any]) -> list[Message]:
    """One of each kind, of a real round, by keeping what passes."""
    some, kept = league(4, threshold=3), {}
    resent = Message.from_fields.__func__

    def keep(cls: Any, given: Any) -> Any:
        made = resent(cls, given)
        kept[cls.__name__] = made
        return made

    Message.from_fields = classmethod(keep)  # type: ignore[method-assign]
    try:
        some.run(some.vectors(), {"upload": ["s03"]})
    finally:
        Message.from_fields = classmethod(resent)  # type: ignore[method-assign]
    return list(kept.values())


def spoiled(value: Any) -> list[Any]:
    """Wrong values of the same field."""
    wrong: list[Any] = [None, 1, 1.5, {}, [1], [None]]
    match value:
        case str():
            wrong += ["", "\n", "x" * 200, "\ud800", value.encode()]
        case bytes():
            wrong += [b"", value[:-1], value + b"\0", value.hex(), bytearray(value)]
        case [str(), *_]:
            wrong += [[*value, value[0]], [*value, value[-1]], [*value[::-1], value[0]], tuple(value)]
            wrong += [[*value[:-1], ""], [*value[:-1], 3], value[0], [*value, "zzz"], value[:-1]]
        case [bytes(), *_]:
            wrong += [value[:-1], [*value, value[0]], [*value[:-1], value[-1][:-1]], [*value[:-1], b""]]
            wrong += [[*value[:-1], value[-1] + b"\0"], [*value[:-1], value[-1].hex()], value[0]]
    return wrong


def test_messages_survive_the_journey(messages: list[Message]) -> None:
    kinds = {type(message).__name__ for message in messages}
    assert kinds == {
        "Advert", "Adverts", "Envelopes", "Delivery", "Survivors", "Agreement", "Agreements", "Shares",
    }  # fmt: skip
    for message in messages:
        assert type(message).from_fields(message.to_fields()) == message
        for value in message.to_fields().values():
            assert isinstance(value, str | bytes | list)


def test_malformed_messages_are_refused_in_one_line(messages: list[Message]) -> None:
    count = 0
    for message in messages:
        given = message.to_fields()
        broken = [{**given, "more": 1}]
        for name, value in given.items():
            broken.append({other: kept for other, kept in given.items() if other != name})
            # Who shared is a list of its own: no other field tells how long it should be.
            fine = [[*value, "zzz"], value[:-1]] if name == "shared" else []
            broken += [{**given, name: wrong} for wrong in spoiled(value) if wrong not in fine]
        for fields in broken:
            with pytest.raises(RefusalError) as caught:
                type(message).from_fields(fields)
            assert caught.value.reason == "malformed message"
            assert "\n" not in str(caught.value)
            count += 1
    assert count > 150


def test_lists_are_not_longer_than_a_league() -> None:
    many = [f"{number:04d}" for number in range(501)]
    with pytest.raises(RefusalError):
        Delivery(many, [], [])
    Delivery(many[1:], [], [])
    with pytest.raises(RefusalError):
        Envelopes("s", many, [bytes(SEALED)] * 501)


def test_columns_and_rows(messages: list[Message]) -> None:
    (adverts,) = [message for message in messages if isinstance(message, Adverts)]
    assert Adverts.of(adverts.rows()[::-1]) == adverts
