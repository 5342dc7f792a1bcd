"""What parties sign with their own keys, and lies about: found, though every signature is right."""

import json

import pytest

from hansa.audit.document import Report
from hansa.audit.making import make_report
from hansa.audit.signing import seal
from hansa.audit.together import compare
from hansa.audit.verify import Trusted, verify
from hansa.dp.ledger.account import Draft
from hansa.dp.ledger.beside import Beside
from hansa.dp.ledger.entries import Row, public_hex, write
from hansa.errors import UsageError
from hansa.transparency import LogHead, next_line, read_lines


def key_of(league, shop="north"):
    return Beside(league.ledgers[shop].path).read_key()


def resealed(content, change, key):
    report = json.loads(content)
    change(report["statement"])
    return seal(Report.model_validate_json(json.dumps(report)).statement, key)


def appended(league, *drafts, shop="north"):
    """A change of a shop's report: entries of its own, signed with its ledger's key."""

    def change(statement):
        rows = statement["evidence"]["ledgers"][0]["rows"]
        for draft in drafts:
            last = rows[-1]
            row = Row(len(rows), last["text"].encode(), bytes.fromhex(last["signature"]))
            new = write(draft, row, key_of(league, shop))
            rows.append({"text": new.text.decode(), "signature": new.signature.hex()})

    return resealed(league.shop_report(shop), change, key_of(league, shop))


def relogged(league, change):
    """The federation's report with other lines, signed by the coordinator as a whole."""

    def apply(statement):
        bodies = [(line.kind, line.body) for line in read_lines(statement["evidence"]["log"])]
        change(bodies)
        texts = []
        for kind, body in bodies:
            lines = read_lines(texts)
            texts.append(next_line(kind, body, lines[-1] if lines else None))
        last = read_lines(texts)[-1]
        statement["evidence"]["log"] = texts
        head = LogHead.make("baltic", last.sequence, last.hash, league.signer)
        statement["evidence"]["head"] = head.to_json()

    return resealed(league.league_report(), apply, league.signer)


def found_in(content, trusted=None):
    return verify(content, "report", trusted).findings


@pytest.mark.parametrize("program", ["0.0.9", "99.0"])
def test_no_version_words_a_report_in_its_own_way(busy, program):
    def change(statement):
        statement["identity"]["program"] = program
        statement["guarantee"]["claim"] = "Everything is (0.001, 0)-differentially private."

    (finding,) = found_in(resealed(busy.shop_report("north"), change, key_of(busy)))
    assert f"made by version {program}" in finding


RESERVE = {"run": "x", "cost": 0.0, "epsilon_before": 0.0, "epsilon_after": 0.0}


@pytest.mark.parametrize(
    "part",
    [
        ["skellam", 100.0, 10, 10, -16],
        ["skellam", 100.0, 10, 10, 0.5],
        ["skellam", 100.0, 100, 2, 1],
        [3.0, 1.0, 0.5],
        [3.0, 1.0, True],
        [3.0, 2.0, 1],
        [3.0, 0.0, 1],
        [-1.0, 1.0, 1],
        [1e200, 1.0, 1],
        [3.0, 0.5, 10**18],
    ],
)
def test_parts_that_mean_nothing_pay_for_nothing(busy, part):
    content = appended(busy, Draft("reserve", {**RESERVE, "releases": [[[part], 1]]}))
    assert any("nothing that can be understood" in finding for finding in found_in(content))


@pytest.mark.parametrize("count", [-1, 0, 10**12, 10**400, 0.5])
def test_numbers_of_releases_without_sense_are_findings_and_take_no_time(busy, count):
    content = appended(busy, Draft("reserve", {**RESERVE, "releases": [[[[3.0, 1.0, 1]], count]]}))
    assert found_in(content)


def test_a_ceiling_that_no_number_holds_is_a_finding(busy):
    content = appended(busy, Draft("ceiling", {"epsilon_before": 8.0, "epsilon_after": 10**400}))
    assert found_in(content)


def test_a_reconciliation_needs_a_receipt_of_this_ledger(busy):
    for receipt in ("seen by the regulator", "{}", busy.ledgers["east"].receipt().to_json()):
        content = appended(busy, Draft("reconcile", {"receipt": receipt}))
        assert any("its receipt" in finding for finding in found_in(content))


def test_lost_history_guarantees_nothing(league):
    league.run("spring")
    league.ledgers["north"].reconcile(None)
    verdict = verify(league.shop_report("north"), "report")
    assert verdict.findings == []
    statement = verdict.report.statement
    assert statement.guarantee.epsilon is None
    assert [each.epsilon for each in statement.guarantee.overlaps] == [None] * 3
    assert "history is lost" in statement.guarantee.claim
    assert statement.budget.left == 0


@pytest.mark.parametrize(
    "changed",
    [{"noise_scale": 0.01}, {"dp": "central"}, {"method": "cooccurrence"}, {"run": "autumn"}, {"n_items": 7}],
)
def test_a_plan_that_is_not_what_the_ledger_reserved_is_found(league, changed):
    """The ledger names the digest of another plan than the one that it reserved for."""
    from hansa.plan import Plan

    league.run("spring")
    good = league.plans["spring"]
    league.plans["spring"] = Plan(**{**good.model_dump(), **changed})

    def change(statement):
        rows = statement["evidence"]["ledgers"][0]["rows"]
        texts = [json.loads(row["text"]) for row in rows]
        rows[1:] = []
        for entry in texts[1:]:
            body = entry["body"]
            if "plan" in body:
                body["plan"] = league.plans["spring"].digest
            last = rows[-1]
            row = Row(len(rows), last["text"].encode(), bytes.fromhex(last["signature"]))
            new = write(Draft(entry["kind"], body), row, key_of(league))
            rows.append({"text": new.text.decode(), "signature": new.signature.hex()})
        statement["evidence"]["plans"] = [league.plans["spring"].model_dump_json()]

    league.plans["spring"], bad = good, league.plans["spring"]
    content = league.shop_report("north")
    league.plans["spring"] = bad
    found = found_in(resealed(content, change, key_of(league)))
    if "n_items" in changed:  # costs the same: told by the figures
        assert any("runs[0].items" in finding or "trust" in finding for finding in found)
    else:
        assert found


def test_what_nothing_refers_to_is_found(busy):
    def change(statement):
        from hansa.plan import parse_plan

        plan = parse_plan(statement["evidence"]["plans"][0])
        statement["evidence"]["plans"].append(plan.with_noise(9.0).model_dump_json())

    assert any("nothing refers to the plan" in each for each in found_in(
        resealed(busy.shop_report("north"), change, key_of(busy))))  # fmt: skip


def test_a_missing_plan_never_makes_the_overlap_cheaper(league):
    league.run("spring", dp="distributed", epsilon=4.0)
    whole = verify(league.shop_report("north"), "report").report.statement.guarantee.overlaps
    league.plans.clear()
    bare = verify(league.shop_report("north"), "report").report.statement.guarantee.overlaps
    assert [each.epsilon for each in bare] == [each.epsilon for each in whole]
    assert bare[1].epsilon > 7


def test_a_head_that_the_coordinator_has_not_signed_accuses_the_shop_alone(league):
    league.run("spring")
    honest, federation = league.shop_report("west"), league.league_report()
    made_up = {"size": 1, "hash": "f" * 64, "signature": "0" * 128}
    league.ledgers["north"].refuse("summer", "no", {"log": made_up})
    content = league.shop_report("north")
    trusted = Trusted([league.roster], public_hex(league.signer))
    assert any("head" in finding for finding in found_in(content, trusted))
    verdicts = [verify(each, f"report {number}") for number, each in enumerate((content, honest, federation))]
    between = compare(verdicts)
    assert not any("the coordinator show" in line for line in between)
    assert any("has written down a head that the coordinator has not signed" in line for line in between)


def test_a_run_that_the_log_hides_is_found_beside_a_shop_s_report(league):
    league.run("spring")
    log, statements, plans = list(league.log), list(league.statements), dict(league.plans)
    league.run("hidden")
    shop = league.shop_report("north")
    league.log, league.statements, league.plans = log, statements, plans
    verdicts = [verify(shop, "shop"), verify(league.league_report(), "league")]
    assert [verdict.findings for verdict in verdicts] == [[], []]
    assert any("the log has nothing" in line or "was cut" in line for line in compare(verdicts))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines.pop(0), "nothing was said of the run"),
        (lambda lines: lines.insert(2, ("run", {**lines[0][1], "digest": "a" * 64})), "another plan"),
        (lambda lines: lines[0][1].update(plan="{}"), "its plan is of another run, or another text"),
        (lambda lines: lines[0][1].update(roster="{}"), "roster"),
        (lambda lines: lines[1][1]["enrolled"].remove("north"), "had not accepted the run"),
        (lambda lines: lines[2][1].update(missing={"north": "no"}), "both answered and is missing"),
        (lambda lines: lines[2][1].update(attempt=10**9), "no attempt has the number"),
        (lambda lines: lines.append(("model", {"run": "x", "model": "x", "sha256": "a" * 64})), "the run x"),
        (lambda lines: lines.append(("attempt", {"run": "spring", "round": 1, "attempt": -5})), "no attempt"),
    ],
)
def test_a_log_that_contradicts_itself_is_found(league, change, words):
    league.run("spring")
    found = found_in(relogged(league, change))
    assert any(words in finding for finding in found), found


def test_lost_attempts_at_masked_rounds_count(league):
    league.run("spring", dp="distributed", epsilon=2.0)
    once = verify(league.league_report(), "report").report.statement.guarantee.epsilon
    league.write("attempt", {"run": "spring", "round": 1, "attempt": 3})
    verdict = verify(league.league_report(), "report")
    assert verdict.findings == []
    assert verdict.report.statement.guarantee.epsilon > once + 1


@pytest.mark.parametrize("endorsement", ["zz", "0" * 127, "A" * 128])
def test_an_endorsement_that_is_none_is_no_report(busy, endorsement):
    content = busy.shop_report("north")
    text = json.loads(content)["statement"]["evidence"]["ledgers"][0]["endorsement"]
    assert found_in(content.replace(text.encode(), endorsement.encode()))


def test_a_report_of_another_league_is_not_this_one_s(busy):
    for content, key in ((busy.shop_report("north"), key_of(busy)), (busy.league_report(), busy.signer)):
        changed = resealed(content, lambda s: s["identity"].update(league="hanse"), key)
        assert any("names another league" in finding for finding in found_in(changed))


def test_no_report_is_made_of_what_does_not_belong_together(league):
    league.run("spring")
    material = league.league_material()
    evidence = material.evidence.model_copy(update={"rosters": [league.roster.to_json()]})
    with pytest.raises(UsageError, match="nothing refers to the roster"):
        make_report(type(material)(**{**vars(material), "evidence": evidence}))
