import json

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.dp.ledger.entries import Receipt
from hansa.errors import UsageError
from hansa.plan import Plan
from hansa_server.checkpoint import Checkpoint, RunFolder
from hansa_server.receipts import newest
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


KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def word(sequence, hash_="0", ledger="a"):
    return Receipt(ledger * 32, sequence, hash_ * 64).sign(KEY).to_json()


def report(round_=1, **changed):
    about = {"seconds": 1.25, "shops": ["a"], "reasons": {"b": "no"}, "receipts": {"a": word(2)}, **changed}
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
    folder.enrolled(Enrolment({7: "b", 8: "a"}, {"c": "no budget"}, {"b": word(1)}))
    folder.record(report())
    folder.record(report(attempt=2, shops=["a", "b"], reasons={}))
    lines = [json.loads(line) for line in (tmp_path / "r" / "rounds.jsonl").read_text().splitlines()]
    assert [set(line) & {"enrolled", "round"} for line in lines] == [{"enrolled"}, {"round"}, {"round"}]
    assert (lines[0]["enrolled"], lines[0]["refused"]) == (["a", "b"], {"c": "no budget"})
    (last,) = folder.rounds()
    assert (last["attempt"], last["answered"], last["missing"]) == (2, ["a", "b"], {})
    assert (tmp_path / "r" / "receipts" / "a.json").read_text() == word(2) + "\n"
    assert (tmp_path / "r" / "receipts" / "b.json").read_text() == word(1) + "\n"


def warned(folder):
    lines = [json.loads(line) for line in (folder.path / "rounds.jsonl").read_text().splitlines()]
    return [(line["warning"], line["shop"], line["why"]) for line in lines if "warning" in line]


def test_a_receipt_that_goes_back_or_forks_is_told_and_never_kept(tmp_path):
    RunFolder(tmp_path / "q", PLAN).record(report(receipts={"a": word(9)}))
    folder = RunFolder(tmp_path / "r", PLAN)  # another run, and the older one's receipt counts
    folder.record(report(receipts={"a": word(3)}))
    folder.record(report(receipts={"a": word(9, "1")}))
    assert warned(folder) == [
        ("fork or rollback", "a", "its ledger is at entry 3 and was at entry 9"),
        ("fork or rollback", "a", "entry 9 of its ledger is another than before"),
    ]
    assert newest(tmp_path, "a").to_json() == word(9)
    folder.record(report(receipts={"a": word(10)}))
    RunFolder(tmp_path / "r", PLAN).record(report(receipts={"a": word(10)}))
    assert len(warned(folder)) == 2
    assert newest(tmp_path, "a").to_json() == word(10)


def test_another_ledger_of_a_known_shop_is_told_and_what_was_held_stays(tmp_path):
    folder = RunFolder(tmp_path / "r", PLAN)
    folder.record(report(receipts={"a": word(9)}))
    folder.record(report(receipts={"a": word(1, ledger="b")}))
    folder.record(report(receipts={"a": word(2, ledger="b")}))
    assert newest(tmp_path, "a").to_json() == word(2, ledger="b")
    RunFolder(tmp_path / "r", PLAN).record(report(receipts={"a": word(3)}))
    assert [why for _, _, why in warned(folder)] == [
        "its ledger is another one than before, at entry 1",
        "its ledger is at entry 3 and was at entry 9",
    ]


def test_a_damaged_receipt_is_told_and_ends_no_run(tmp_path):
    folder = RunFolder(tmp_path / "r", PLAN)
    (folder.path / "receipts" / "a.json").write_text("half of")
    folder.record(report())
    assert [kind for kind, _, _ in warned(folder)] == ["damaged receipt"]
    assert newest(tmp_path, "a").to_json() == word(2)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[" * 100_000,
        Receipt("a" * 32, True, "0" * 64, "0" * 128).to_json(),
        Receipt("a" * 32, 0, "0" * 64, "0" * 128).to_json(),
        Receipt("../../a", 1, "0" * 64, "0" * 128).to_json(),
        Receipt("a" * 32, 1, "\x1b[2J", "0" * 128).to_json(),
        Receipt("a" * 32, 1, "0" * 64, "").to_json(),
    ],
)
def test_what_is_no_receipt_by_its_form_is_told_and_not_kept(tmp_path, text):
    folder = RunFolder(tmp_path / "r", PLAN)
    folder.record(report(receipts={"a": text}))
    assert warned(folder) == [("malformed receipt", "a", "its form is not that of a receipt")]
    assert newest(tmp_path, "a") is None


def test_how_a_run_ended_is_forgotten_when_it_goes_on(tmp_path):
    folder = RunFolder(tmp_path / "r", PLAN)
    folder.finish("failed", "why", extra=1)
    outcome = json.loads((tmp_path / "r" / "outcome.json").read_text())
    assert (outcome["state"], outcome["message"], outcome["extra"]) == ("failed", "why", 1)
    folder.begin()
    folder.begin()
    assert not (tmp_path / "r" / "outcome.json").exists()
