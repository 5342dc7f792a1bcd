from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hansa.errors import UsageError
from hansa.secagg.roster import Roster


def test_json_comes_back_and_the_hash_is_of_every_shop_and_key(league: Callable[..., Any]) -> None:
    roster = league(4).roster
    assert Roster.from_json(roster.to_json()) == roster
    assert Roster(dict(reversed(roster.keys.items()))).digest == roster.digest
    keys = dict(roster.keys)
    others = [
        {**keys, "s00": league(3).roster.keys["s00"]},
        {**keys, "s00": keys["s01"], "s01": keys["s00"]},
        {name: key for name, key in keys.items() if name != "s03"},
        {("t00" if name == "s00" else name): key for name, key in keys.items()},
    ]
    assert len({roster.digest, *(Roster(other).digest for other in others)}) == 5


def test_fingerprint_is_forty_digits_of_name_and_key(league: Callable[..., Any]) -> None:
    roster = league(4).roster
    prints = [roster.fingerprint(name) for name in roster.keys]
    assert all(len(each.replace(" ", "")) == 40 and each.replace(" ", "").isdigit() for each in prints)
    renamed = Roster({f"x{name}": key for name, key in roster.keys.items()})
    assert len({*prints, *(renamed.fingerprint(name) for name in renamed.keys)}) == 8
    with pytest.raises(UsageError, match="no shop"):
        roster.fingerprint("t00")


@pytest.mark.parametrize("name", ["", "a\tb", "x" * 129, "\u202e", 3])
def test_names(league: Callable[..., Any], name: Any) -> None:
    keys = dict(league(4).roster.keys)
    key = keys.pop("s00")
    Roster({**keys, "Märkte am Hafen, No. 3": key})
    with pytest.raises(UsageError, match="not a name"):
        Roster({**keys, name: key})


def test_keys_are_keys_and_distinct(league: Callable[..., Any]) -> None:
    keys = dict(league(4).roster.keys)
    with pytest.raises(UsageError, match="the same key"):
        Roster({**keys, "s04": keys["s00"]})
    for key in (b"", bytes(31), "k" * 32, None):
        with pytest.raises(UsageError, match="s04: not an Ed25519"):
            Roster({**keys, "s04": key})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="2 shops"):
        Roster(dict(list(keys.items())[:2]))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"a":1}', '{"a":"zz"}', "null", '{"a":"00","a":"00"}', "{" * 10_000, "1"]
)
def test_what_is_no_roster(text: str) -> None:
    with pytest.raises(UsageError, match="roster") as caught:
        Roster.from_json(text)
    assert "\n" not in str(caught.value)


def test_shop_listed_twice(league: Callable[..., Any]) -> None:
    text = league(3).roster.to_json()
    with pytest.raises(UsageError, match="each shop once"):
        Roster.from_json(text[:-1] + ',"s00":"' + "0" * 64 + '"}')
