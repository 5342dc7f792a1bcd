import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.audit.document import Report
from hansa.audit.making import make_report
from hansa.audit.signing import open_report, seal
from hansa.audit.verify import Trusted, verify
from hansa.dp.ledger.entries import public_hex
from hansa.errors import UsageError


def test_a_shop_s_report_is_consistent_and_says_who_signed_only_with_a_roster(busy):
    content = busy.shop_report("north")
    verdict = verify(content, "north.json")
    assert verdict.findings == []
    assert verdict.words == "north.json: consistent, signer not authenticated"
    assert verify(content, "n", Trusted([busy.roster])).authenticated


def test_a_shop_s_report_states_what_its_ledger_says(busy):
    statement = open_report(busy.shop_report("north"), "n").statement
    account = busy.ledgers["north"]
    assert statement.guarantee.epsilon == account.spent()
    assert statement.budget.left == pytest.approx(8.0 - account.spent())
    assert [run.method for run in statement.runs] == ["popularity", "cooccurrence"]
    assert [(change.before, change.after) for change in statement.budget.changes] == [(3.0, 8.0)]
    assert [refusal.run for refusal in statement.budget.refusals] == ["too much"]
    assert len(statement.releases) == 3
    logs = [each.log for each in statement.releases]  # what the coordinator showed with each request
    assert logs == sorted(logs)
    assert logs[0] == 2  # of its log: the run, and who takes part
    assert statement.guarantee.overlaps[0].epsilon == pytest.approx(account.spent())


def test_a_federation_s_report_holds_every_statement_of_its_shops(busy):
    content = busy.league_report()
    verdict = verify(content, "league.json", Trusted([busy.roster], public_hex(busy.signer)))
    assert (verdict.findings, verdict.authenticated) == ([], True)
    statement = verdict.report.statement
    assert [member.statements for member in statement.members] == [3, 3, 3]
    assert {refusal.shop for refusal in statement.budget.refusals} == {"east", "north", "west"}
    # Of a plan that every shop refused nothing was released, but a league cannot prove that.
    assert statement.guarantee.epsilon > 4.5


def resealed(content, change, key):
    """The report after ``change`` of its statement, as JSON, signed with ``key``."""
    statement = json.loads(content)["statement"]
    change(statement)
    report = {
        "format": "hansa audit report 1",
        "statement": statement,
        "signature": json.loads(content)["signature"],
    }
    return seal(Report.model_validate_json(json.dumps(report)).statement, key)


CHANGES = {
    "guarantee.epsilon": lambda s: s["guarantee"].update(epsilon=0.5),
    "guarantee.claim": lambda s: s["guarantee"].update(claim="all is well"),
    "profile": lambda s: s["guarantee"]["profile"][3].update(delta=1e-9),
    "overlap": lambda s: s["guarantee"]["overlaps"][1].update(epsilon=1.0),
    "release": lambda s: s["releases"].pop(),
    "sigma": lambda s: s["releases"][0].update(sigma=9.0),
    "budget.left": lambda s: s["budget"].update(left=7.0),
    "refusals": lambda s: s["budget"]["refusals"].clear(),
    "changes": lambda s: s["budget"]["changes"].clear(),
    "not covered": lambda s: s["protection"]["not_covered"].pop(),
    "trust": lambda s: s["trust"][0].update(words="nobody is trusted"),
    "shop": lambda s: s["identity"].update(shop="east"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_figure_is_found_though_the_shop_itself_signed_it(busy, change):
    from hansa.dp.ledger.beside import Beside

    key = Beside(busy.ledgers["north"].path).read_key()
    assert verify(resealed(busy.shop_report("north"), lambda s: None, key), "n").findings == []
    assert verify(resealed(busy.shop_report("north"), change, key), "n").findings


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["evidence"]["ledgers"][0]["rows"].pop(),
        lambda s: s["evidence"]["ledgers"][0]["rows"].pop(3),
        lambda s: s["evidence"]["ledgers"][0].update(shop="east"),
        lambda s: s["evidence"]["plans"].pop(),
        lambda s: s["evidence"]["plans"].append(s["evidence"]["plans"][0]),
        lambda s: s["evidence"]["plans"].append("{}"),
    ],
)
def test_changed_evidence_is_found_though_the_shop_itself_signed_it(busy, change):
    from hansa.dp.ledger.beside import Beside

    key = Beside(busy.ledgers["north"].path).read_key()
    assert verify(resealed(busy.shop_report("north"), change, key), "n").findings


def test_a_stranger_s_signature_is_found(busy):
    stranger = Ed25519PrivateKey.generate()
    again = resealed(busy.shop_report("north"), lambda s: None, stranger)
    assert "another key than that of the ledger" in verify(again, "n").findings[0]
    again = resealed(busy.league_report(), lambda s: None, stranger)
    assert "head cannot be used" in verify(again, "n").findings[0]
    roster = dict(busy.roster.keys) | {"north": stranger.public_key().public_bytes_raw()}
    trusted = Trusted([type(busy.roster)(roster)], public_hex(stranger))
    found = verify(busy.league_report(), "n", trusted).findings
    assert any("no key on the roster vouches" in finding for finding in found)
    assert "signed with another key than the coordinator's" in found


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda s: s["evidence"]["statements"].pop(0), "answered, and its statement is not here"),
        (
            lambda s: s["evidence"]["statements"].__setitem__(
                0, s["evidence"]["statements"][0].replace('"round":1', '"round":2')
            ),
            "not signed with its key",
        ),
        (lambda s: s["evidence"]["log"].pop(), "its head is of"),
        (lambda s: s["evidence"]["log"].pop(2), "its number is not the next one"),
        (lambda s: s["evidence"].update(head=None), "head"),
        (lambda s: s["evidence"]["plans"].pop(0), "is not here"),
        (
            lambda s: s["evidence"]["receipts"].__setitem__(
                0, s["evidence"]["receipts"][0].replace('"sequence":8', '"sequence":9')
            ),
            "a receipt is not signed by its ledger",
        ),
        (lambda s: s["members"][0].update(epsilon=0.1), "members[0].epsilon"),
    ],
)
def test_a_coordinator_cannot_change_what_shops_signed_with_its_own_key(busy, change, found):
    findings = verify(resealed(busy.league_report(), change, busy.signer), "n").findings
    assert any(found in finding for finding in findings), findings


def test_every_changed_byte_is_found(busy):
    content = busy.shop_report("west")
    for place in range(0, len(content), 97):
        for bit in (1, 32):
            changed = bytearray(content)
            changed[place] ^= bit
            assert verify(bytes(changed), "n").findings, place


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff", b"{" * 5000, b'{"format":"hansa audit report 2"}']
)
def test_what_is_no_report_is_said_in_one_line(content):
    (finding,) = verify(content, "n").findings
    assert "n: not an audit report" in finding
    assert "\n" not in finding


def test_no_report_is_made_of_a_contradiction(busy):
    material = busy.league_material()
    evidence = material.evidence.model_copy(update={"log": material.evidence.log[:-1]})
    with pytest.raises(UsageError, match="no report can be made"):
        make_report(type(material)(**{**vars(material), "evidence": evidence}))


def test_an_answer_without_a_statement_is_told_and_contradicts_nothing(league):
    league.run("spring", silent=("west",))
    verdict = verify(league.league_report(), "n")
    assert verdict.findings == []
    assert any("west answered, and the log names no statement" in note for note in verdict.notes)
