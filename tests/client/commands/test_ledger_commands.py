import json
import math
import shutil

import pytest

from hansa.cli import main
from hansa.dp.accounting import gaussian, skellam
from hansa.dp.ledger import Budget
from hansa.dp.ledger.beside import Beside
from hansa.dp.ledger.entries import public_hex
from hansa.dp.ledger.file import LedgerFile

EVENT = gaussian(9.0)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "shop.sqlite"
    ledger = LedgerFile(path, Budget(5.0, 1e-5), name="corner shop")
    ledger.reserve("autumn", (EVENT,) * 3, {"asked_by": "league"})
    ledger.charge("autumn", EVENT, {"round": 1, "release": "counts"})
    return path


def run(capsys, *arguments):
    code = main(["client", "ledger", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def tamper(path, number):
    content = path.read_bytes()
    text = b'"sequence":%d' % number
    assert content.count(text) == 1
    path.write_bytes(content.replace(text, b'"sequence":7'))


def test_show_prints_the_entries_and_the_ledgers_own_sum(path, capsys):
    code, out, _ = run(capsys, "show", path)
    lines = out.splitlines()
    assert code == 0
    assert [line.split()[:1] for line in lines[:3]] == [["1"], ["2"], ["3"]]
    assert "ceiling 5 at delta 1e-05, shop 'corner shop'" in lines[0]
    assert "run autumn, 3 releases" in lines[1]
    assert "run autumn, round 1, counts" in lines[2]
    assert lines[3] == f"spent: epsilon {LedgerFile(path).spent():.4g} of 5 at delta 1e-05"


def test_show_prints_a_ledger_without_a_ceiling(tmp_path, capsys):
    path = tmp_path / "open.sqlite"
    LedgerFile(path, Budget(math.inf, 1e-5)).reserve("bare", (gaussian(0.0),))
    code, out, err = run(capsys, "show", path)
    assert (code, err) == (0, "")
    assert "ceiling infinite at delta 1e-05" in out
    assert "epsilon 0 -> infinite" in out


def test_show_as_json_is_one_document(path, capsys):
    code, out, err = run(capsys, "show", path, "--json")
    shown = json.loads(out)
    assert (code, err) == (0, "")
    assert shown["spent"] == LedgerFile(path).spent()
    assert (shown["ceiling"], shown["delta"], shown["closed"]) == (5.0, 1e-5, False)
    assert [entry["kind"] for entry in shown["entries"]] == ["open", "reserve", "charge"]
    assert shown["entries"][1]["body"]["asked_by"] == "league"


@pytest.mark.parametrize("kind", ["file", "digits", "none"])
def test_verify_accepts_a_sound_ledger(path, tmp_path, capsys, kind):
    key = public_hex(Beside(path).read_key())
    (tmp_path / "shop.pub").write_text(key + "\n")
    given = {"file": ["--key", tmp_path / "shop.pub"], "digits": ["--key", key], "none": []}[kind]
    (tmp_path / "receipt.json").write_text(run(capsys, "receipt", path)[1])
    code, out, err = run(capsys, "verify", path, "--receipt", tmp_path / "receipt.json", *given)
    assert (code, err) == (0, "")
    assert "3 entries, all in order" in out
    code, out, _ = run(capsys, "verify", path, "--json", *given)
    assert (code, json.loads(out)["findings"]) == (0, [])


def test_verify_names_every_entry_that_is_wrong_and_ends_with_4(path, capsys):
    tamper(path, 2)
    code, out, err = run(capsys, "verify", path)
    assert code == 4
    assert err.startswith(f"hansa: {path}: entry 2: its signature is not valid")
    assert err.count("\n") == 1
    assert [line[:8] for line in out.splitlines()] == ["entry 2:", "entry 2:", "entry 3:"]
    code, out, _ = run(capsys, "verify", path, "--json")
    assert (code, [finding["entry"] for finding in json.loads(out)["findings"]]) == (4, [2, 2, 3])
    assert run(capsys, "show", path)[0] == 4


def test_verify_finds_a_cut_tail_by_the_receipt(path, tmp_path, capsys):
    shutil.copy(path, tmp_path / "older.sqlite")
    LedgerFile(path).charge("autumn", EVENT)
    (tmp_path / "receipt.json").write_text(run(capsys, "receipt", path)[1])
    assert run(capsys, "verify", tmp_path / "older.sqlite")[0] == 0
    code, _, err = run(capsys, "verify", tmp_path / "older.sqlite", "--receipt", tmp_path / "receipt.json")
    assert code == 4
    assert "entry 4: missing, and the receipt proves it was there: cut after entry 3" in err


def test_verify_leaves_the_file_as_it_is(path, capsys):
    before = path.read_bytes()
    run(capsys, "verify", path)
    run(capsys, "show", path)
    assert path.read_bytes() == before


def test_a_copy_is_taken_into_use_with_the_receipt(path, tmp_path, capsys):
    (tmp_path / "receipt.json").write_text(run(capsys, "receipt", path)[1])
    (tmp_path / "copy").mkdir()
    for file in tmp_path.glob("shop.*"):
        shutil.copy(file, tmp_path / "copy")
    copy = tmp_path / "copy" / path.name
    code, out, _ = run(capsys, "reconcile", copy, "--receipt", tmp_path / "receipt.json")
    assert (code, out) == (0, f"{copy}: reconciled, it matches the receipt\n")
    LedgerFile(copy).reserve("next", (gaussian(200.0),))
    assert run(capsys, "verify", copy)[0] == 0


def test_without_a_receipt_the_ledger_is_closed(path, capsys):
    code, out, _ = run(capsys, "reconcile", path, "--without-receipt")
    assert (code, out) == (0, f"{path}: reconciled, its ceiling counts as spent\n")
    assert "nothing more is accepted" in run(capsys, "show", path)[1]


def test_a_refused_reconciliation_ends_with_3(path, tmp_path, capsys):
    other = LedgerFile(tmp_path / "other.sqlite", Budget(5.0, 1e-5))
    (tmp_path / "receipt.json").write_text(other.receipt().to_json())
    code, _, err = run(capsys, "reconcile", path, "--receipt", tmp_path / "receipt.json")
    assert code == 3
    assert "the receipt is not signed by this ledger" in err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["verify", "{missing}"], "No such file"),
        (["show", "{missing}"], "No such file"),
        (["verify", "{path}", "--receipt", "{missing}"], "not a receipt"),
        (["verify", "{path}", "--receipt", "{path}"], "not a receipt"),
        (["verify", "{path}", "--key", "12"], "not 64 hexadecimal digits"),
        (["reconcile", "{path}"], "give either --receipt FILE or --without-receipt"),
        (["reconcile", "{path}", "--receipt", "{path}", "--without-receipt"], "give either"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_line(path, tmp_path, capsys, arguments, what):
    names = {"path": path, "missing": tmp_path / "missing"}
    code, _, err = run(capsys, *(argument.format(**names) for argument in arguments))
    assert code == 2
    assert what in err
    assert err.count("\n") == 1


def test_a_file_that_is_no_ledger_ends_with_4(tmp_path, capsys):
    (tmp_path / "notes.sqlite").write_text("milk, bread\n" * 100)
    for command in ("verify", "show"):
        code, _, err = run(capsys, command, tmp_path / "notes.sqlite")
        assert code == 4
        assert "the file is damaged or cannot be opened: file is not a database" in err
    assert run(capsys, "receipt", tmp_path / "notes.sqlite")[0] == 3


def test_verify_and_show_know_shared_noise_and_approved_rosters(tmp_path, capsys):
    path, event = tmp_path / "shop.sqlite", skellam(90.0 * 2**24, 2**24, 2**22)
    ledger = LedgerFile(path, Budget(5.0, 1e-5), name="corner shop")
    ledger.approve("a" * 64, ["east"])
    ledger.reserve("autumn", (event,) * 2)
    ledger.charge("autumn", event, {"round": 1, "release": "counts"})
    code, out, err = run(capsys, "verify", path)
    assert (code, err) == (0, "")
    assert "4 entries, all in order" in out
    code, out, err = run(capsys, "show", path)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[:4]] == ["1", "2", "3", "4"]
    assert "roster" in out.splitlines()[1]
    content = path.read_bytes()
    assert content.count(b'"skellam"') == 2
    path.write_bytes(content.replace(b'"skellam",1509949440.0', b'"skellam",1509949441.0'))
    assert run(capsys, "verify", path)[0] == 4
