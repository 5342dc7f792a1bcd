import json
import subprocess
import sys

import pytest

from hansa.cli import main


@pytest.fixture
def run(capsys):
    """Run the command line; its exit code, what it printed and what it complained of."""

    def command(*arguments):
        code = main(["audit", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def report(busy, tmp_path):
    path = tmp_path / "shop.json"
    path.write_bytes(busy.shop_report("north"))
    return path


def test_a_ledger_s_file_becomes_two_files_that_verify(busy, run, tmp_path):
    code, out, err = run("report", busy.ledgers["west"].path, "--out", tmp_path / "new", "--contact", "Ada")
    assert (code, err) == (0, "")
    assert "audit-report.json" in out
    assert "Ada" in (tmp_path / "new" / "audit-report.json").read_text()
    assert (tmp_path / "new" / "audit-report.html").read_text().lower().startswith("<!doctype html>")
    code, out, _ = run("verify", tmp_path / "new" / "audit-report.json")
    assert code == 0
    assert "consistent, signer not authenticated" in out


def test_a_changed_report_is_exit_code_4_with_the_field(report, run):
    report.write_bytes(report.read_bytes().replace(b'"left":', b'"lost":', 1))
    code, out, err = run("verify", report)
    assert code == 4
    assert "budget.left" in err
    assert "NOT consistent" in out


def test_reports_are_held_against_each_other(busy, report, run, tmp_path):
    league = tmp_path / "league.json"
    league.write_bytes(busy.league_report())
    roster = tmp_path / "roster.json"
    roster.write_text(busy.roster.to_json())
    code, out, _ = run("verify", report, league, "--roster", roster, "--json")
    found = json.loads(out)
    assert (code, found["between"]) == (0, [])
    assert [each["authenticated"] for each in found["reports"]] == [True, False]


def test_differences_are_lines_or_json(league, run, tmp_path):
    paths = []
    for number in (1, 2):
        league.run(f"run {number}")
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_bytes(league.shop_report("east"))
    code, out, _ = run("diff", *paths)
    assert code == 0
    assert "runs[run run 2]: missing ->" in out
    assert run("diff", paths[0], paths[0])[1] == "no differences\n"
    fields = [each["field"] for each in json.loads(run("diff", *paths, "--json")[1])]
    assert "budget.left" in fields


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("verify", "nowhere.json"), "give the file of a report"),
        (("report", "nowhere"), "not there; give a shop's or a coordinator's folder"),
        (("report", "."), "neither a shop's folder"),
        (("verify", "{report}", "--coordinator", "abc"), "64 hexadecimal digits"),
        (("verify", "{report}", "--roster", "{report}"), "roster: not a JSON object"),
        (("report", "{ledger}", "--attacks", "{report}"), "give what 'hansa audit attack' wrote"),
    ],
)
def test_wrong_input_is_one_line_that_names_the_fix(
    busy, report, run, tmp_path, monkeypatch, arguments, line
):
    monkeypatch.chdir(tmp_path)
    names = {"report": report, "ledger": busy.ledgers["north"].path}
    code, out, err = run(*(word.format(**names) for word in arguments))
    assert (code, out) == (2, "")
    assert line in err
    assert err.count("\n") == 1


def test_verification_needs_no_client_server_network_or_data(report):
    """In a process of its own, where nothing can be connected to."""
    code = (
        "import socket, sys\n"
        "def closed(*arguments, **more): raise AssertionError('a connection was made')\n"
        "socket.socket.connect = socket.socket.connect_ex = closed\n"
        "from hansa.cli import main\n"
        f"assert main(['audit', 'verify', {str(report)!r}]) == 0\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(loaded & {'hansa_client', 'hansa_server', 'hansa_simulations', 'flwr'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


ATTACK = {
    "attack": "door",
    "method": "popularity",
    "dp": "local",
    "claimed": 4.0,
    "delta": 1e-5,
    "bound": 3.25,
    "confidence": 0.99,
    "trials": 1000,
    "figures": {"share_of_claim": 0.8125},
    "broken": False,
    "words": "Epsilon is at least 3.250; nothing contradicts it.",
}


def test_attacks_that_were_run_become_part_of_the_report(busy, run, tmp_path):
    found = tmp_path / "attacks.json"
    found.write_text(json.dumps([ATTACK]))
    ledger = busy.ledgers["east"].path
    assert run("report", ledger, "--out", tmp_path, "--attacks", found)[0] == 0
    statement = json.loads((tmp_path / "audit-report.json").read_bytes())["statement"]
    assert statement["empirical"] == [ATTACK]
    assert "nothing contradicts it" in (tmp_path / "audit-report.html").read_text()
    assert "only the signer's word: empirical" in run("verify", tmp_path / "audit-report.json")[1]
