import hashlib
import json

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.dp.events import to_parts
from hansa.dp.ledger.entries import Receipt
from hansa.errors import UsageError
from hansa.plan import Plan
from hansa.transparency import ReleaseReceipt
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
    words = {"a": word(9 if "statements" in changed else 2)}
    about = {"seconds": 1.25, "shops": ["a"], "reasons": {"b": "no"}, "receipts": words, **changed}
    return RoundReport(round_, 1, PLAN.releases[0], {}, 1, ["no"], **about)


LONG_TERM = Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))


def statement(shop="a", **changed):
    values = {
        "league": "grocers", "shop": shop, "ledger": "a" * 32, "ledger_key": KEY, "sequence": 3, "run": "r",
        "hash": "0" * 64, "plan": PLAN.digest, "round": 1, "release": PLAN.releases[0].name,
        "events": to_parts(PLAN.releases[0].event),
    }  # fmt: skip
    return ReleaseReceipt.make(**{**values, **changed}).to_json()


def told(folder):
    path = folder.path / "statements.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_receipts_of_releases_are_kept_once_and_named_by_their_digest(tmp_path):
    folder = RunFolder(tmp_path / "r", PLAN, "grocers")
    texts = {"a": statement("a"), "b": statement("b", ledger="b" * 32)}
    for _ in range(2):  # a lost round is sent again as it was
        digests = folder.record(report(statements=texts))
        assert digests == {shop: hashlib.sha256(text.encode()).hexdigest() for shop, text in texts.items()}
    again = {"a": statement("a", sequence=4)}
    RunFolder(tmp_path / "r", PLAN, "grocers").record(report(statements=again, attempt=2))
    assert told(folder) == [
        {"round": 1, "attempt": 1, "shop": "a", "text": texts["a"]},
        {"round": 1, "attempt": 1, "shop": "b", "text": texts["b"]},
        {"round": 1, "attempt": 2, "shop": "a", "text": again["a"]},
    ]
    assert warned(folder) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "ReleaseReceipt: "),
        (statement() + " ", "canonical"),
        (statement().replace('"sequence":3', '"sequence":4'), "not signed with its key"),
        *(
            (statement(**{name: value}), f"its {name} is another than this release's")
            for name, value in {
                "league": "bakers", "shop": "b", "run": "q", "plan": "0" * 64, "round": 2, "release": "x",
                "events": [(9.0, 1.0, 1)], "roster": "0" * 64,
            }.items()
        ),
    ],
)  # fmt: skip
def test_a_receipt_of_something_else_is_told_and_not_kept(tmp_path, text, why):
    folder = RunFolder(tmp_path / "r", PLAN, "grocers")
    assert folder.record(report(statements={"a": text})) == {}
    assert told(folder) == []
    ((warning, shop, said),) = warned(folder)
    assert (warning, shop) == ("wrong receipt of a release", "a")
    assert why in said


@pytest.mark.parametrize("changed", [{"ledger": "b" * 32}, {"ledger_key": LONG_TERM}])
def test_another_ledger_or_key_than_before_is_told_once_and_not_logged_then(tmp_path, changed):
    plan = Plan(**{**PLAN.model_dump(), "run": "q"})
    earlier = RunFolder(tmp_path / "q", plan, "grocers")
    before = statement(run="q", plan=plan.digest)
    assert earlier.record(report(statements={"a": before}))
    folder = RunFolder(tmp_path / "r", PLAN, "grocers")
    new = statement(**changed)
    assert folder.record(report(statements={"a": new})) == {}
    assert [why for _, _, why in warned(folder)] == ["it is of another ledger or key than the one before"]
    newer = statement(**changed, sequence=9)
    assert set(folder.record(report(statements={"a": newer}))) == {"a"}
    assert [line["text"] for line in told(folder)] == [new, newer]
    assert len(warned(folder)) == 1


def test_a_line_that_a_crash_has_cut_short_spoils_no_other(tmp_path):
    folder = RunFolder(tmp_path / "r", PLAN, "grocers")
    folder.record(report(statements={"a": statement("a")}))
    for name in ("statements.jsonl", "rounds.jsonl"):
        with (folder.path / name).open("a") as file:
            file.write('{"half of')
    folder = RunFolder(tmp_path / "r", PLAN, "grocers")
    assert [line["round"] for line in folder.rounds()] == [1]
    folder.record(report(statements={"a": statement("a"), "b": statement("b")}))
    assert [line["shop"] for line in told(folder)] == ["a", "b"]
    assert [line["round"] for line in folder.rounds()] == [1]


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


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (statement(sequence=2**60), "it is of a later entry than the ledger has"),
        (statement(endorsement=""), "not endorsed by the key that the shop was admitted with"),
        (statement(endorsement="0" * 128), "not endorsed by the key that the shop was admitted with"),
    ],
)
def test_a_statement_that_no_report_could_use_is_told_and_not_kept(tmp_path, text, why):
    folder = RunFolder(tmp_path / "r", PLAN, "grocers", {} if "later" in why else {"a": bytes(range(32))})
    assert folder.record(report(statements={"a": text})) == {}
    assert told(folder) == []
    assert why in (folder.path / "rounds.jsonl").read_text()
