"""Copies, restored files and receipts: what is noticed, and what takes them into use again."""

import json
import shutil

import pytest

from hansa.dp.accounting import gaussian
from hansa.dp.ledger import Budget, Ledger
from hansa.dp.ledger.beside import Beside
from hansa.dp.ledger.check import check, read_file
from hansa.dp.ledger.entries import Receipt
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import RefusalError

BUDGET = Budget(10.0, 1e-5)
EVENT = gaussian(9.0)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "shop.sqlite"
    ledger = LedgerFile(path, BUDGET)
    ledger.reserve("run", (EVENT,) * 6)
    ledger.charge("run", EVENT)
    return path


def copies(path, folder):
    folder.mkdir(exist_ok=True)
    for file in path.parent.glob("shop.*"):
        shutil.copy2(file, folder)
    return folder / path.name


def charge(path, event=EVENT):
    LedgerFile(path, BUDGET).charge("run", event)


def refused(path, what):
    with pytest.raises(RefusalError, match=what) as refusal:
        charge(path)
    assert refusal.value.reason == "the shop's ledger cannot be used now"
    with pytest.raises(RefusalError, match=what):
        LedgerFile(path, BUDGET).reserve("other", (EVENT,))


def test_an_older_file_put_back_is_noticed_by_its_mark(path, tmp_path):
    older = copies(path, tmp_path / "backup")
    opened_before = LedgerFile(path, BUDGET)
    charge(path)
    path.write_bytes(older.read_bytes())  # into the same file
    refused(path, "it ends at entry 3, and its mark knows of entry 4")
    with pytest.raises(RefusalError, match="its mark knows of entry 4"):
        opened_before.charge("run", EVENT)


def test_a_copy_elsewhere_is_noticed_and_the_original_goes_on(path, tmp_path):
    copy = copies(path, tmp_path / "copy")
    refused(copy, "it is a copy")
    charge(path)


def test_a_folder_restored_from_a_backup_is_noticed(path, tmp_path):
    backup = copies(path, tmp_path / "backup")
    charge(path)
    for file in path.parent.glob("shop.*"):
        file.unlink()
    # Inodes are used again where they are free, so something takes them first.
    (path.parent / "other").write_text("x" * 9000)
    for file in backup.parent.iterdir():
        (path.parent / f"{file.name}.part").write_bytes(file.read_bytes())
        (path.parent / f"{file.name}.part").rename(path.parent / file.name)
    mark = Beside(path).read_mark()
    if mark.inode == path.stat().st_ino:
        pytest.fail("the system gave the same inode again; the test shows nothing")
    refused(path, "it is a copy")


def test_a_file_moved_within_its_disk_goes_on(path, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    for file in path.parent.glob("shop.*"):
        file.rename(home / file.name)
    charge(home / path.name)


@pytest.mark.parametrize("remains", ["key", "mark", "sqlite-wal"])
def test_a_missing_file_is_not_begun_anew(path, remains):
    kept = path.with_suffix(f".{remains}")
    if remains == "sqlite-wal":
        kept.write_bytes(b"log")
    for file in (path, Beside(path).key_path, Beside(path).mark_path):
        if file != kept:
            file.unlink()
    refused(path, f"the ledger is missing while {kept.name} remains")
    assert not path.exists()
    kept.unlink()
    assert LedgerFile(path, BUDGET).spent() == 0.0


@pytest.mark.parametrize("damage", ["missing", "empty", "garbled", "another's"])
def test_without_its_mark_a_used_ledger_is_refused(path, tmp_path, damage):
    mark = Beside(path).mark_path
    if damage == "missing":
        mark.unlink()
    elif damage == "another's":
        other = tmp_path / "other.sqlite"
        assert LedgerFile(other, BUDGET).spent() == 0.0
        shutil.copy(Beside(other).mark_path, mark)
    else:
        mark.write_bytes(b"" if damage == "empty" else b"\xff" * 512)
    refused(path, "its mark is")


def test_without_its_key_a_ledger_is_refused(path):
    Beside(path).key_path.unlink()
    refused(path, r"shop\.key: No such file")
    assert not Beside(path).key_path.exists()


def test_a_key_of_another_ledger_is_refused(path, tmp_path):
    other = tmp_path / "other.sqlite"
    assert LedgerFile(other, BUDGET).spent() == 0.0
    shutil.copy(Beside(other).key_path, Beside(path).key_path)
    refused(path, "entry 3 is not signed with the key beside it")


@pytest.mark.parametrize("waiting", [(), ("mark",), ("key", "mark")])
def test_a_creation_cut_short_after_the_file_is_in_place_is_finished(tmp_path, waiting):
    fresh = LedgerFile(tmp_path / "new.sqlite", BUDGET)
    assert fresh.spent() == 0.0
    for kind in waiting:
        fresh.path.with_suffix(f".{kind}").rename(tmp_path / f"new.{kind}.new")
    LedgerFile(fresh.path, BUDGET).reserve("run", (EVENT,))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["new.key", "new.mark", "new.sqlite"]


def test_a_creation_cut_short_before_is_begun_again(path):
    beside = Beside(path)
    for file in (path, beside.key_path, beside.mark_path):
        file.rename(file.with_name(file.name + ".new"))
    assert LedgerFile(path, BUDGET).spent() == 0.0
    assert check(read_file(path)[0]) == []
    charged = LedgerFile(path, BUDGET)
    charged.reserve("run", (EVENT,))
    assert beside.read_mark().sequence == 2


def test_a_copy_from_right_after_the_opening_does_not_start_again_at_nothing(tmp_path):
    path, early = tmp_path / "shop.sqlite", tmp_path / "early"
    assert LedgerFile(path, BUDGET).spent() == 0.0
    copies(path, early)
    ledger = LedgerFile(path, BUDGET)
    ledger.reserve("run", (EVENT,))
    for file in tmp_path.glob("shop.*"):
        file.unlink()
    for name in ("shop.sqlite", "shop.key"):
        shutil.copy2(early / name, tmp_path)
    refused(path, "its mark is missing")


def test_a_copy_with_the_last_receipt_goes_on_but_not_what_was_under_way(path, tmp_path):
    copy = copies(path, tmp_path / "copy")
    LedgerFile(copy).reconcile(LedgerFile(path).receipt())
    with pytest.raises(RefusalError, match="no such release left"):
        charge(copy)
    ledger = LedgerFile(copy, BUDGET)
    spent = ledger.spent()
    ledger.reserve("next", (EVENT,))
    ledger.charge("next", EVENT)
    assert ledger.spent() > spent > 0
    assert check(read_file(copy)[0]) == []


def test_an_older_copy_does_not_pass_for_the_receipts(path, tmp_path):
    copy = copies(path, tmp_path / "copy")
    charge(path)
    receipt = LedgerFile(path).receipt()
    with pytest.raises(RefusalError, match="the receipt is of entry 4, this file ends at 3"):
        LedgerFile(copy).reconcile(receipt)
    refused(copy, "it is a copy")


def test_a_fork_does_not_pass_for_the_receipts(path, tmp_path):
    copy = copies(path, tmp_path / "copy")
    LedgerFile(copy).reconcile(LedgerFile(path).receipt())  # both have spent from here on
    charge(path)
    with pytest.raises(RefusalError, match="entry 4 is another than the receipt's"):
        LedgerFile(copy).reconcile(LedgerFile(path).receipt())


def test_only_this_ledgers_own_receipt_counts(path, tmp_path):
    other = LedgerFile(tmp_path / "other.sqlite", BUDGET)
    mine, foreign = LedgerFile(path).receipt(), other.receipt()
    forged = Receipt(mine.ledger, foreign.sequence, foreign.hash, foreign.signature)
    for receipt in (foreign, forged, Receipt(mine.ledger, 1, mine.hash, mine.signature), Receipt("", 0, "")):
        with pytest.raises(RefusalError, match="the receipt is not signed by this ledger"):
            LedgerFile(path).reconcile(receipt)


def test_without_a_receipt_the_ceiling_counts_as_spent(path, tmp_path):
    copy = copies(path, tmp_path / "copy")
    LedgerFile(copy).reconcile(None)
    for budget in (BUDGET, Budget(99.0, 1e-5)):
        with pytest.raises(RefusalError, match="its ceiling counts as spent"):
            LedgerFile(copy, budget).reserve("next", (gaussian(1e5),))
    with pytest.raises(RefusalError, match="its ceiling counts as spent"):
        charge(copy)
    assert check(read_file(copy)[0]) == []


def test_a_receipt_travels_as_json(path):
    receipt = LedgerFile(path).receipt()
    assert Receipt.from_json(receipt.to_json()) == receipt
    assert set(json.loads(receipt.to_json())) == {"ledger", "sequence", "hash", "signature"}
    for text in ("", "[]", "{}", '{"ledger":1,"sequence":1,"hash":"","signature":""}'):
        with pytest.raises(ValueError):  # noqa: PT011
            Receipt.from_json(text)


def test_a_ledger_in_memory_continues_as_a_file_and_back(tmp_path):
    memory = Ledger(BUDGET)
    memory.reserve("run", (EVENT,) * 3)
    file = LedgerFile(tmp_path / "shop.sqlite", durable=False)
    file.create(memory.entries())
    file.charge("run", EVENT)
    memory.take_over(file.entries())
    assert memory.reservations == file.reservations
    assert memory.reservations["run"].charged == 1
    assert memory.spent() == file.spent() > 0
