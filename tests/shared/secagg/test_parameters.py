from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hansa.errors import UsageError
from hansa.secagg.parameters import RoundParameters, default_threshold


@pytest.mark.parametrize("shops", range(3, 501))
def test_default_thresholds_withstand_their_colluders(shops: int) -> None:
    threshold, colluders = default_threshold(shops)
    assert colluders == max(1, shops // 10)
    assert 2 * threshold > shops + colluders
    assert 4 * shops <= 5 * threshold <= 5 * shops


def test_known_thresholds() -> None:
    assert [default_threshold(shops) for shops in (3, 4, 10, 111)] == [(3, 1), (4, 1), (8, 1), (89, 11)]


@pytest.mark.parametrize(
    ("shops", "threshold", "colluders"),
    [(2, 2, 1), (501, 450, 50), (10, 11, 1), (10, 5, 1), (4, 3, 2), (500, 275, 50), (111, 61, 11)],
)
def test_thresholds_that_do_not_protect(
    league: Callable[..., Any], shops: int, threshold: int, colluders: int
) -> None:
    given = json.loads(league(4).parameters.to_json())
    given |= {"threshold": threshold, "colluders": colluders, "honest": threshold - colluders}
    parameters = RoundParameters(**given)
    with pytest.raises(UsageError, match="shops"):
        parameters.check(shops)


def test_json_comes_back_and_the_hash_is_of_every_field(league: Callable[..., Any]) -> None:
    parameters = league(10).parameters
    text = parameters.to_json()
    assert RoundParameters.from_json(text) == parameters
    given, hashes = json.loads(text), {parameters.digest}
    for name, value in given.items():
        changed = {
            **given,
            name: ("e" * 64 if len(value) == 64 else "new") if isinstance(value, str) else value + 1,
        }
        if name in ("threshold", "honest", "colluders"):
            changed = {**given, "threshold": 8, "colluders": 2, "honest": 6}
            if name == "honest":
                changed = {**given, "threshold": 9, "colluders": 1, "honest": 8}
            if name == "threshold":
                changed = {**given, "threshold": 9, "colluders": 2, "honest": 7}
        hashes.add(RoundParameters(**changed).digest)
    assert len(hashes) == 1 + len(given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run", ""), ("run", 1), ("run", "a\nb"), ("round", 0), ("round", True), ("round", 1.0),
        ("round", "1"),
        ("attempt", 0), ("plan", "0" * 63), ("plan", "G" * 64), ("roster", None), ("state", "0" * 64 + "\n"),
        ("release", "x" * 129), ("entries", 0), ("entries", -1), ("bits", 7), ("bits", 65), ("scale", 0),
        ("sensitivity", 0), ("sigma", -1.0), ("sigma", float("nan")), ("sigma", float("inf")), ("sigma", 1),
        ("threshold", 9), ("honest", 4), ("colluders", 0), ("colluders", []), ("round", 10**30),
    ],
)  # fmt: skip
def test_fields_out_of_range(league: Callable[..., Any], name: str, value: Any) -> None:
    given = json.loads(league(10).parameters.to_json())
    for made in (
        lambda: RoundParameters(**{**given, name: value}),
        lambda: RoundParameters.from_json(json.dumps({**given, name: value}, sort_keys=True)),
    ):
        with pytest.raises(UsageError, match="round parameters") as caught:
            made()
        assert "\n" not in str(caught.value)


def test_only_the_canonical_spelling_is_read(league: Callable[..., Any]) -> None:
    text = league(4).parameters.to_json()
    for other in (
        "", "[]", "null", "{", text + " ", text.replace(":", ": "), text.replace('"attempt":1,', ""),
        text[:-1] + ',"zeal":1}', text.replace('"attempt":1', '"attempt":2,"attempt":1'),
        text.replace("1.0", "1e0"),
        text.replace("1.0", "NaN"), "[" * 100_000,
    ):  # fmt: skip
        assert other != text
        with pytest.raises(UsageError, match="round parameters") as caught:
            RoundParameters.from_json(other)
        assert "\n" not in str(caught.value)
