"""Every simulation ends with a report on its budget that verifies."""

import json

import pytest

from hansa.audit.signing import open_report
from hansa.audit.verify import verify
from hansa.cli import main
from hansa_simulations import auditing

SMALL = (
    *("simulate", "synthetic", "--shops", "4", "--references", "none"),
    *("--set", "scenario.customers=200", "--set", "scenario.items=120"),
)


def report(out, *options):
    assert main([*SMALL, "--out", str(out), *map(str, options)]) == 0
    content = (out / "audit-report.json").read_bytes()
    verdict = verify(content, "report")
    assert verdict.findings == []
    assert (out / "audit-report.html").read_text().startswith("<!")
    return verdict.report.statement


@pytest.mark.parametrize("dp", ["distributed", "local", "central"])
def test_a_private_run_states_its_epsilon_and_was_attacked(tmp_path, capsys, dp):
    statement = report(tmp_path, "--dp", dp, "--epsilon", "2")
    result = json.loads((tmp_path / "result.json").read_text())
    assert "audit-report.json" in capsys.readouterr().out
    assert statement.kind == "simulation"
    assert statement.guarantee.epsilon == pytest.approx(result["privacy"]["epsilon_spent"], rel=1e-4)
    assert len(statement.evidence.ledgers) == len(statement.members) == 4
    assert {release.shops for release in statement.releases} == {4}
    assert statement.accuracy.metrics["shared"] == result["metrics"]["shared"]
    assert set(result["privacy"]["not_covered"]) == set(statement.tuning.declared)
    (attack,) = statement.empirical
    assert not attack.broken
    assert 0 < attack.bound < 2


def test_a_run_without_privacy_guarantees_nothing(tmp_path):
    statement = report(tmp_path, "--dp", "none")
    assert statement.guarantee.epsilon is None
    assert statement.guarantee.claim.startswith("Nothing is guaranteed")
    assert statement.protection.covered == []
    assert [run.epsilon for run in statement.runs] == [None]
    assert statement.empirical is None


def test_masked_runs_name_their_roster(tmp_path):
    statement = report(tmp_path, "--secagg", "full")
    (trust,) = statement.trust
    assert trust.masked
    assert len(statement.evidence.rosters) == 1
    assert len(trust.vouched) == 4


def test_ledgers_on_disk_are_told_over_runs(tmp_path):
    folder = tmp_path / "ledgers"
    options = ("--set", f"ledger.dir={folder}", "--set", "budget.ceiling=3", "--dp", "local")
    first = report(tmp_path / "one", *options, "--epsilon", "1")
    second = report(tmp_path / "two", *options, "--epsilon", "1")
    assert (len(first.runs), len(second.runs)) == (1, 2)
    assert first.guarantee.epsilon < second.guarantee.epsilon < 3
    assert main([*SMALL, "--out", str(tmp_path / "three"), *options, "--epsilon", "2.5"]) == 3
    third = report(tmp_path / "four", *options, "--epsilon", "0.1")
    assert [refusal.reason for refusal in third.budget.refusals] == [
        "the plan does not fit the shop's budget"
    ]


def test_of_many_shops_some_ledgers_are_shown_and_the_rest_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(auditing, "MOST_ENTRIES", 9)
    statement = report(tmp_path, "--dp", "local", "--epsilon", "1")
    assert 1 <= len(statement.evidence.ledgers) < 4
    assert any("of 4 shops" in words for words in statement.evidence.omitted)


def test_several_seeds_give_the_first_one_s_report_and_the_mean_accuracy(tmp_path):
    statement = report(tmp_path, "--seeds", "2", "--dp", "local")
    assert statement.accuracy.seeds == [0, 1]
    assert statement.accuracy.deviations is not None
    assert open_report((tmp_path / "audit-report.json").read_bytes(), "x").statement == statement
