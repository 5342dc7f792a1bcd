"""What a shop keeps between stages."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hansa.errors import RefusalError
from hansa.secagg.shop import Round


@pytest.fixture
def states(league: Callable[..., Any]) -> list[bytes]:
    """A shop's state after each of the first four stages; its name is a field's in the state."""
    some = league(4, threshold=3)
    shop, kept = some.shops["s01"], []
    honest = shop.reply

    def keeping(stage: str, request: Any) -> Any:
        kept.append(shop.state)
        return honest(stage, request)

    shop.reply = keeping
    some.run(some.vectors(), {"upload": ["s03"]})
    return kept


def test_state_comes_back(states: list[bytes]) -> None:
    assert [Round.from_bytes(state).stage for state in states] == ["advertise", "share", "upload", "agree"]
    for state in states:
        assert Round.from_bytes(state).to_bytes() == state
        assert len(state) < 20_000


def test_damaged_state_is_lost(states: list[bytes]) -> None:
    for state in states:
        found = json.loads(state)
        broken: list[bytes] = [b"", b"{}", b"[]", b"\xff", state[:-1], state[1:], b"[" * 100_000]
        changes = [{name: wrong} for name in found for wrong in (3, "?", [7], {"a": 1})]
        changes += [{"stage": stage} for stage in ("advertise", "share", "agree") if stage != found["stage"]]
        broken += [json.dumps({**found, **change}).encode() for change in changes]
        broken += [
            json.dumps({name: value for name, value in found.items() if name != gone}).encode()
            for gone in found
        ]
        for bad in broken:
            with pytest.raises(RefusalError, match="damaged") as caught:
                Round.from_bytes(bad)
            assert caught.value.reason == "state lost"


def test_state_of_another_shop_is_not_taken(league: Callable[..., Any]) -> None:
    some = league(4, threshold=3)
    server = some.begin()
    for shop in some.shops.values():
        server.advert(shop.advertise(some.parameters))
    some.shops["s00"].state = some.shops["s01"].state
    with pytest.raises(RefusalError, match="last stage"):
        some.shops["s00"].reply("share", server.adverts())
