import json

import numpy as np
import pytest

from hansa.errors import UsageError
from hansa.plan import Plan
from hansa_server.checkpoint import Checkpoint, RunFolder
from hansa_server.strategy import Enrolment, RoundReport

PLAN = Plan(
    run="r",
    method="popularity",
    settings={},
    n_items=6,
    dp="local",
    noise_scale=1.0,
    delta=1e-5,
    shops=3,
    customers=100,
)


def report(round_=1, **changed):
    about = {"seconds": 1.25, "shops": ["a"], "reasons": {"b": "no"}, "receipts": {"a": "{}"}, **changed}
    return RoundReport(round_, 1, PLAN.releases[0], {}, 1, ["no"], **about)


def test_a_checkpoint_reads_back_as_it_was(tmp_path):
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    folder = RunFolder(tmp_path / "r", PLAN)
    assert folder.load() is None
    folder.save(Checkpoint(3, {"items": table.T}, {"momentum": table}))
    back = RunFolder(tmp_path / "r", PLAN).load()
    assert back.round == 3
    np.testing.assert_array_equal(back.state["items"], table.T)
    np.testing.assert_array_equal(back.memory["momentum"], table)


def test_a_damaged_checkpoint_is_named(tmp_path):
    folder = RunFolder(tmp_path / "r", PLAN)
    (tmp_path / "r" / "checkpoint.safetensors").write_bytes(b"half of i")
    with pytest.raises(UsageError, match=r"checkpoint.safetensors: damaged .* delete it"):
        folder.load()


def test_no_number_of_a_try_comes_twice(tmp_path):
    numbers = [RunFolder(tmp_path / "r", PLAN).attempt(2) for _ in range(3)]
    assert numbers == [1, 2, 3]
    assert RunFolder(tmp_path / "r", PLAN).attempt(3) == 1


def test_a_folder_keeps_to_its_plan(tmp_path):
    RunFolder(tmp_path / "r", PLAN)
    with pytest.raises(UsageError, match="begun with another plan; give it another name"):
        RunFolder(tmp_path / "r", PLAN.with_noise(2.0))


def test_rounds_are_recorded_with_who_answered_and_a_repetition_counts_last(tmp_path):
    folder = RunFolder(tmp_path / "r", PLAN)
    folder.enrolled(Enrolment({7: "b", 8: "a"}, {"c": "no budget"}, {"b": "its word"}))
    folder.record(report())
    folder.record(report(attempt=2, shops=["a", "b"], reasons={}))
    lines = [json.loads(line) for line in (tmp_path / "r" / "rounds.jsonl").read_text().splitlines()]
    assert [set(line) & {"enrolled", "round"} for line in lines] == [{"enrolled"}, {"round"}, {"round"}]
    assert (lines[0]["enrolled"], lines[0]["refused"]) == (["a", "b"], {"c": "no budget"})
    (last,) = folder.rounds()
    assert (last["attempt"], last["answered"], last["missing"]) == (2, ["a", "b"], {})
    assert (tmp_path / "r" / "receipts" / "a.json").read_text() == "{}\n"
    assert (tmp_path / "r" / "receipts" / "b.json").read_text() == "its word\n"


def test_how_a_run_ended_is_forgotten_when_it_goes_on(tmp_path):
    folder = RunFolder(tmp_path / "r", PLAN)
    folder.finish("failed", "why", extra=1)
    outcome = json.loads((tmp_path / "r" / "outcome.json").read_text())
    assert (outcome["state"], outcome["message"], outcome["extra"]) == ("failed", "why", 1)
    folder.begin()
    folder.begin()
    assert not (tmp_path / "r" / "outcome.json").exists()
