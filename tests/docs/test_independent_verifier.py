import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = Path(__file__).parent
VECTORS = HERE.parents[1] / "docs" / "audit-vectors"
ANSWERS = json.loads((VECTORS / "vectors.json").read_text())
KEY = Ed25519PrivateKey.generate()


@pytest.fixture
def verify(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("independent_verifier").Verifier


def text(name: str) -> str:
    return (VECTORS / name).read_text()


def statement(name: str) -> dict[str, Any]:
    return json.loads(text(name))["statement"]


def sealed(said: dict[str, Any]) -> bytes:
    """A report with a key of our own."""
    spelled = json.dumps(said, sort_keys=True, separators=(",", ":"))
    key, value = (
        KEY.public_key().public_bytes_raw().hex(),
        KEY.sign(f"hansa audit report 1\n{spelled}".encode()).hex(),
    )
    lines = '{"format":"hansa audit report 1",', f'"statement":{spelled},'
    return "\n".join([*lines, f'"signature":{{"key":"{key}","value":"{value}"}}}}', ""]).encode()


def test_it_imports_nothing_of_hansa():
    for path in HERE.glob("independent_*.py"):
        assert not re.search(r"^\s*(import|from) hansa", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("name", sorted(ANSWERS["files"]))
def test_vectors_have_the_stated_answers(verify, name):
    found = verify(text(name).encode()).found
    assert bool(found) == (ANSWERS["files"][name] == "refused"), found


@pytest.mark.parametrize("name", sorted(ANSWERS["epsilon"]))
def test_epsilons_of_vectors_are_those_stated(verify, name):
    said = statement(name)
    assert said["guarantee"]["epsilon"] == ANSWERS["epsilon"][name]
    said["guarantee"]["epsilon"] *= 1.001
    found = verify(sealed(said)).found
    assert any(line.startswith("guarantee.epsilon is") for line in found), found


@pytest.mark.parametrize("name", ANSWERS["authenticated"])
def test_roster_and_coordinator_authenticate(verify, name):
    data, roster, key = text(name).encode(), ANSWERS["roster"], ANSWERS["coordinator"]
    assert verify(data, roster, key).found == []
    swapped = dict(zip(roster, [*list(roster.values())[1:], roster["east"]], strict=True))
    assert any("not endorsed" in line for line in verify(data, swapped, key).found)
    assert verify(data, roster, roster["east"]).found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"delta":1e-05', '"delta":1E-05'),
        ('"delta":1e-05', '"delta":0.00001'),
        ('"ceiling":8.0', '"ceiling":8'),
        ('"ceiling":8.0', '"ceiling":8e0'),
        ('"round":1,', '"round":true,'),
        ('"round":1,', '"round":1.0,'),
        ('"kind":"shop"', '"kind":"shop","kind":"shop"'),
        ('"kind":"shop"', '"kind":"sho\\u0070"'),
        ('"contact":null', '"contact":"\\u00E9"'),
        ('"contact":null', '"contact":"\\ud800"'),
        ('"empirical":null', '"empirical":' + "[" * 100_000 + "]" * 100_000),
        ('"left":4.281577620448368', '"left":1e999'),
        ('"left":4.281577620448368', '"left":1' + "0" * 5000),
        ('"left":4.281577620448368', '"left":NaN'),
        ('"mu":null,"overlap":null', '"overlap":null,"mu":null'),
        (',\n"signature"', ',\r\n"signature"'),
        ('"signature":{"key"', '"signature": {"key"'),
        ('{"format"', '\ufeff{"format"'),
    ],
)
def test_other_spellings_are_refused_before_anything_else(verify, old, new):
    before = text("shop.json")
    after = before.replace(old, new)
    assert after != before
    found = verify(after.encode()).found
    assert len(found) == 1
    assert found[0].startswith("file: ")


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (("budget", "left"), 7.0, "budget.left"),
        (("budget", "ceiling"), None, "budget.ceiling"),
        (("budget", "history", 3, "spent"), 0.5, "budget.history[3].spent"),
        (("budget", "refusals"), [], "budget.refusals"),
        (("guarantee", "mu"), 0.1, "guarantee.mu"),
        (("guarantee", "profile", 1, "delta"), 1e-9, "guarantee.profile[1]"),
        (("guarantee", "overlaps", 2, "epsilon"), 4.0, "guarantee.overlaps[2]"),
        (("releases", 2, "multiplier"), 9.0, "releases[2].multiplier"),
        (("releases", 0, "to"), "nobody", "releases[0].to"),
        (("runs", 1, "epsilon"), 0.1, "runs[1].epsilon"),
        (("runs", 1, "customers"), 5, "runs[1].customers"),
        (("trust", 0, "dp"), "central", "trust[0].dp"),
        (("unit", "caps", 0, "bound"), 0.1, "unit.caps"),
        (("evidence", "plans"), [], "the plan of run spring is not here"),
        (("identity", "shop"), "south", "identity.shop"),
    ],
)
def test_changed_figures_are_found(verify, where, value, words):
    said = statement("shop.json")
    place = said
    for step in where[:-1]:
        place = place[step]
    assert place[where[-1]] != value
    place[where[-1]] = value
    found = verify(sealed(said)).found
    assert any(words in line for line in found), found


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"cost":1.0061967857640353', '"cost":0.9', "cost is 0.9"),
        ('"order":8.0', '"order":9.0', "not the order of its ceiling"),
        ("[[[1.9938318664297991,1.0,1]],1]", "[[[1.9938318664297991,1.0,1]],-1]", "whole number above 0"),
        ("[[[1.9938318664297991,1.0,1]],1]", "[[[1.9938318664297991,1.0,-1]],1]", "is no part"),
        ('"position":1', '"position":2', "not the next release"),
        ('"sequence":2', '"sequence":2.0', "sequence"),
        ('"size":1}', '"size":3}', "the coordinator's log shrinks"),
        ('"reason":"', '"reason":"other: ', "signature"),
    ],
)
def test_changed_entries_are_found(verify, old, new, words):
    said = statement("shop.json")
    for row in said["evidence"]["ledgers"][0]["rows"]:
        row["text"] = row["text"].replace(old, new)
    assert said != statement("shop.json")
    found = verify(sealed(said)).found
    assert any(words in line for line in found), found


@pytest.mark.parametrize("key", ["01" + "00" * 31, "01" + "00" * 30 + "80", "ee" + "ff" * 30 + "7f"])
def test_keys_that_sign_everything_sign_nothing(verify, key):
    value = "01" + "00" * 63
    lines = text("shop.json").split("\n")[:2]
    data = "\n".join([*lines, f'"signature":{{"key":"{key}","value":"{value}"}}}}', ""]).encode()
    assert "signature" in verify(data).found


def test_the_script_says_what_fails():
    for name, code, words in [("shop.json", 0, "consistent"), ("left.json", 4, "budget.left is 7.9")]:
        command = [sys.executable, str(HERE / "independent_verifier.py"), str(VECTORS / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.startswith(words)) == (code, True), done
