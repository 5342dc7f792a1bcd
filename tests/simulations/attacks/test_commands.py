import json

import pytest

from hansa.audit.document import Attack
from hansa.cli import main
from hansa.models.popularity import Popularity
from hansa_simulations.attacks import bench, faults
from hansa_simulations.attacks.faults import Caught, less_noise

DOOR = ["audit", "attack", "door", "--dp", "local", "--epsilon", "2", "--trials", "100000", "--repeats", "50"]


def test_the_door_s_results_fit_a_report(tmp_path, capsys):
    out = tmp_path / "new" / "attacks.json"
    assert main([*DOOR, "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(out.read_text())
    assert [Attack.model_validate(each).attack for each in found] == ["door", "entries"]
    assert {each["confidence"] for each in found} == {0.99}


def test_a_refuted_claim_is_exit_code_4(capsys):
    with less_noise(0.3):
        assert main(DOOR) == 4
    said = capsys.readouterr()
    assert "REFUTED" in said.out
    assert said.err.startswith("hansa: 1 of 2 claims are refuted, door on popularity under local first: ")


def test_canaries_as_a_table(capsys):
    command = ["audit", "attack", "canaries", "--method", "popularity", "--trials", "100"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["attack", "method", "dp", "claimed"]
    assert [line.split()[2] for line in lines[1:]] == ["distributed", "local", "central", "none"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["door", "--dp", "lokal"], "dp"),
        (["canaries", "--method", "popular"], "method"),
        (["faults", "--dp", "none"], "--dp none"),
        ([*DOOR[2:], "--out", "/dev/null/x.json"], "--out /dev/null/x.json"),
    ],
)
def test_wrong_usage_is_one_line(arguments, said, capsys):
    assert main(["audit", "attack", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def faulty(by):
    """``try_fault`` that says so without trying."""
    return lambda fault, dp, *_, **__: Caught(fault, dp, {"door: trials": by(fault)}, [])


def test_faults_are_a_table(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(faults, "try_fault", faulty(lambda fault: fault != faults.NONE))
    command = ["audit", "attack", "faults", "--dp", "local", "--out", str(tmp_path / "faults.json")]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["fault", "dp", "door:", "trials"]
    assert "caught" not in lines[1]
    assert all("caught" in line for line in lines[2:-1])
    written = json.loads((tmp_path / "faults.json").read_text())
    assert written[1]["caught_by"] == ["door: trials"]
    monkeypatch.setattr(faults, "try_fault", faulty(lambda fault: fault == "no noise"))
    assert main(command) == 4
    assert "noise halved (local): no attack caught it" in capsys.readouterr().err


def test_the_benchmark_says_what_it_found(monkeypatch):
    monkeypatch.setattr(faults, "try_fault", faulty(lambda fault: fault == "no noise"))
    monkeypatch.setattr("hansa.plan.METHODS", {"popularity": Popularity})
    found = bench.measure(20_000, 40)
    text = "\n".join(bench.text(found))
    assert len(found["cases"]) == 3 * 4 + 4
    assert "| popularity | none | nothing |" in text
    assert "| none planted | local | - |" in text
    assert "| no noise | local | caught |" in text
