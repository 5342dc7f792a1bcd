"""The published schema and test vectors of the audit report are what the program has."""

import json
from pathlib import Path

import pytest

from hansa.audit.files import schema_text
from hansa.audit.together import compare
from hansa.audit.verify import Trusted, verify
from hansa.secagg.roster import Roster

DOCS = Path(__file__).parents[2] / "docs"
VECTORS = DOCS / "audit-vectors"
SAID = json.loads((VECTORS / "vectors.json").read_text())


def test_the_published_schema_is_the_program_s():
    assert (DOCS / "audit-report.schema.json").read_text() == schema_text(), "hansa audit schema > it"


def test_every_vector_is_told_of():
    assert {path.name for path in VECTORS.glob("*.json")} == {*SAID["files"], "vectors.json"}


@pytest.mark.parametrize("name", SAID["files"])
def test_a_vector_is_what_is_said_of_it(name):
    verdict = verify((VECTORS / name).read_bytes(), name)
    assert (verdict.findings == []) == (SAID["files"][name] == "consistent"), verdict.findings
    if name in SAID["epsilon"]:
        assert verdict.report.statement.guarantee.epsilon == pytest.approx(SAID["epsilon"][name])


def test_roster_and_key_authenticate_those_that_are_said():
    roster = Roster({shop: bytes.fromhex(key) for shop, key in SAID["roster"].items()})
    trusted = Trusted([roster], SAID["coordinator"])
    found = {name: verify((VECTORS / name).read_bytes(), name, trusted) for name in SAID["files"]}
    assert sorted(name for name in found if found[name].authenticated) == sorted(SAID["authenticated"])
    for names in SAID["together"]:
        assert compare([found[name] for name in names.split()]) == []
