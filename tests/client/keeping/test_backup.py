import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from hansa.cli import main
from hansa.dp.ledger import Budget
from hansa.dp.ledger.beside import Beside, Mark
from hansa.dp.ledger.check import check, read_file
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import RefusalError, UsageError, VerificationError
from hansa.plan import Plan
from hansa.records import Request
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa.secagg.markers import STAGES, MarkerFolder
from hansa.secagg.roster import Member, Roster
from hansa_client.config import read_settings
from hansa_client.data.loading import load_data
from hansa_client.home import ShopHome
from hansa_client.keeping import backup
from hansa_client.keeping.joining import found_shop
from hansa_client.keys import load_key, make_key
from hansa_client.replies import ReplyFolder
from hansa_client.rounds.masking import answer_stage
from hansa_client.rounds.training import consider, contribute
from hansa_client.shop import LocalShop
from hansa_client.shop_files import PlanFolder

N_ITEMS = 7
BUDGET = Budget(1e4, 1e-5)
SECRET = "correct horse battery"
SETTINGS = """[data]
path = "sales.csv"
password = "file:secrets/database"
[catalogue]
mapping = "codes/mapping.csv"
[budget]
epsilon = 10000.0
delta = 1e-5
"""


@pytest.fixture
def shop(tmp_path, invitation):
    """A shop's folder with everything in it."""
    home = ShopHome(tmp_path / "shop")
    found_shop(home, invitation(tmp_path))
    home.settings.write_text(SETTINGS)
    for name in (
        "secrets/database",
        "codes/mapping.csv",
        "sales.csv",
        "approved-plans",
        "roster.json",
        "excluded",
    ):
        path = home.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"the content of {name}\n")
    (home.models / "v1").mkdir()
    (home.key.parent / "exclusions.key").write_text("k")
    LedgerFile(home.ledger, BUDGET, name="corner").entries()
    return home


@pytest.fixture
def quick(monkeypatch):
    """Scrypt as it is costs 0.4 s a call; one test is with it as it is."""
    from hansa_client.keeping import sealing

    real = sealing.Scrypt
    monkeypatch.setattr(sealing, "Scrypt", lambda n, **settings: real(n=2**4, **settings))


def plan(run="r", **changed):
    about = {
        "run": run,
        "method": "dpsgd",
        "settings": {"dimensions": 2, "gradient_rounds": 2},
        "n_items": N_ITEMS,
        "dp": "local",
        "noise_scale": 4.0,
        "delta": 1e-5,
        "shops": 1,
        "customers": 50,
    }
    return Plan(**{**about, **changed})


def open_shop(home, **changed):
    rows = [seeded_generator(k, "row").permutation(N_ITEMS)[:3] for k in range(12)]
    offsets = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
    return LocalShop(
        "corner",
        Histories(offsets, np.concatenate(rows).astype(np.int32), N_ITEMS),
        **{
            "ledger": LedgerFile(home.ledger, BUDGET, name="corner"),
            "customers": 50,
            "allowed": ("local", "distributed"),
            "plans": PlanFolder(home.plans),
            "markers": MarkerFolder(home.markers),
            "replies": ReplyFolder(home.replies),
            "repeats": 5,
            **changed,
        },
    )


def accept(home, the_plan, **changed):
    return consider(open_shop(home, **changed), Request(the_plan.run, 0, the_plan.model_dump_json(), {}))


def ask(home, the_plan, round_, **changed):
    state = the_plan.learner.initial_state(seeded_generator(0))
    return contribute(open_shop(home, **changed), Request(the_plan.run, round_, "", state))


def reconcile(home, *arguments):
    return main(["client", "ledger", "reconcile", str(home.ledger), *map(str, arguments)])


def receipt_of(home, path):
    path.write_text(LedgerFile(home.ledger).receipt().to_json())
    return path


def moved(shop, tmp_path, name="elsewhere"):
    """What a backup of the shop gives."""
    backup.save(shop, tmp_path / f"{name}.backup", SECRET)
    place = ShopHome(tmp_path / name)
    backup.restore(tmp_path / f"{name}.backup", place, SECRET)
    return place


def test_what_comes_back_is_what_was_copied_for_its_owner_alone(shop, tmp_path, capsys, monkeypatch):
    MarkerFolder(shop.markers).claim("r", 1, 1, "advertise", b"")
    monkeypatch.setenv("SECRET_OF_BACKUPS", SECRET)
    file, place = tmp_path / "b", ShopHome(tmp_path / "new")
    how = ["--passphrase", "env:SECRET_OF_BACKUPS"]
    assert main(["client", "backup", str(file), "--home", str(shop.root), *how]) == 0
    assert main(["client", "restore", str(file), "--home", str(place.root), *how]) == 0
    said = capsys.readouterr().out
    assert f"hansa client ledger reconcile {place.ledger} --receipt FILE" in said
    assert "Never let the shop that was copied run again" in said
    left_out = {
        "sales.csv",
        "ledger/ledger.mark",
        *(f"ledger/ledger.sqlite{end}" for end in ("", "-shm", "-wal")),
    }
    for path in sorted(shop.root.rglob("*")):
        name = path.relative_to(shop.root)
        if path.is_file() and str(name) not in left_out:
            assert (place.root / name).read_bytes() == path.read_bytes(), name
    assert not (place.root / "sales.csv").exists()
    assert not (place.models / "v1").exists()
    for path in (place.root, *place.root.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    assert read_file(place.ledger)[0] == read_file(shop.ledger)[0]
    assert file.stat().st_mode & 0o077 == 0
    for secret in (shop.key.read_bytes()[40:80], b"the content of secrets", b"ledger"):
        assert secret not in file.read_bytes()


def test_a_restored_shop_spends_nothing_until_the_last_receipt_fits(shop, tmp_path, quick, capsys):
    assert accept(shop, plan()).accepted
    assert ask(shop, plan(), 1).accepted
    place = moved(shop, tmp_path)
    fitting = receipt_of(shop, tmp_path / "fitting.json")
    assert ask(shop, plan(), 2).accepted  # further charges, of which the copy knows nothing
    newer = receipt_of(shop, tmp_path / "newer.json")
    for answer in (accept(place, plan()), accept(place, plan("new"))):
        assert (answer.accepted, answer.reason) == (False, "the shop's ledger cannot be used now")
    with pytest.raises(RefusalError, match="it is a copy"):
        open_shop(place).ledger.reserve("new", plan("new").steps)
    assert reconcile(place, "--receipt", newer) == 3
    assert "find a newer copy, or use --without-receipt" in capsys.readouterr().err
    assert not accept(place, plan("new")).accepted
    assert reconcile(place, "--receipt", fitting) == 0
    spent = open_shop(place).ledger.spent()
    assert spent > 0
    answer = accept(place, plan())
    assert (answer.accepted, answer.reason) == (
        False,
        "the run was accepted before the shop's books were restored",
    )
    assert accept(place, plan("new")).accepted
    made = ask(place, plan("new"), 1)
    assert made.accepted
    assert made.release is not None
    assert open_shop(place).ledger.spent() > spent
    rows, findings = read_file(place.ledger)
    assert findings + check(rows) == []


def test_a_known_run_is_over_even_where_its_plan_and_replies_are_put_back(shop, tmp_path, quick):
    assert accept(shop, plan()).accepted
    assert ask(shop, plan(), 1).accepted
    place = moved(shop, tmp_path)
    shutil.copytree(shop.plans, place.plans)
    assert reconcile(place, "--receipt", receipt_of(shop, tmp_path / "receipt.json")) == 0
    for round_ in (1, 2):
        answer = ask(place, plan(), round_)
        assert (answer.accepted, answer.release) == (False, None)
        assert answer.reason == "the run was accepted before the shop's books were restored"
    assert [draft.kind for draft in open_shop(place).ledger.entries()].count("charge") == 1


def test_without_a_receipt_the_ceiling_counts_as_spent(shop, tmp_path, quick):
    assert accept(shop, plan()).accepted
    place = moved(shop, tmp_path)
    assert reconcile(place, "--without-receipt") == 0
    for the_plan in (plan(), plan("new")):
        assert not accept(place, the_plan).accepted
    with pytest.raises(RefusalError, match="its ceiling counts as spent"):
        LedgerFile(place.ledger, Budget(2e4, 1e-5)).reserve("new", plan("new").steps)


def test_the_mark_of_a_copy_fits_no_file_even_one_with_the_same_inode(shop, tmp_path, quick):
    backup.save(shop, tmp_path / "b", SECRET)
    shutil.rmtree(shop.root)
    backup.restore(tmp_path / "b", shop, SECRET)  # to the same place: inodes are used again
    mark = Beside(shop.ledger).read_mark()
    assert mark is not None
    assert mark.inode != Beside(shop.ledger).inode()
    assert mark.inode == 0
    with pytest.raises(RefusalError, match="it is a copy"):
        open_shop(shop).ledger.reserve("new", plan("new").steps)
    rows, _ = read_file(shop.ledger)  # and this is what an honest copy of the mark would have allowed
    Beside(shop.ledger).write_mark(
        Mark(mark.ledger, rows[-1].sequence, rows[-1].hash, Beside(shop.ledger).inode())
    )
    open_shop(shop).ledger.reserve("new", plan("new").steps)


def masked(run):
    return plan(run, dp="distributed", shops=3, threshold=3, colluders=1, noise_scale=8.0)


@pytest.fixture
def member(shop, tmp_path):
    keys = {
        name: make_key(tmp_path / f"{name}.pem").public_key().public_bytes_raw() for name in ("east", "north")
    }
    roster = Roster({**keys, "corner": load_key(shop).public_key().public_bytes_raw()})
    return Member("corner", load_key(shop), roster, frozenset({"corner", *keys}), 3, 2, 8, 1)


def advertise(home, the_plan, round_, attempt, member):
    from dataclasses import replace

    parameters = replace(the_plan.parameters(round_, {}), attempt=attempt, state="0" * 64)
    asked = Request(the_plan.run, round_, parameters.to_json(), {})
    return answer_stage(open_shop(home, member=member), "advertise", asked, None)[0]


def test_no_masked_stage_is_done_again_from_an_older_copy(shop, tmp_path, quick, member):
    the_plan = masked("m").model_copy(update={"roster": member.roster.digest})
    LedgerFile(shop.ledger, BUDGET).approve(member.roster.digest, member.vouched - {"corner"})
    assert accept(shop, the_plan, member=member).accepted
    assert advertise(shop, the_plan, 1, 1, member).accepted
    place = moved(shop, tmp_path)
    assert advertise(shop, the_plan, 2, 1, member).accepted  # later than the copy, which has no mark of it
    receipt = receipt_of(shop, tmp_path / "receipt.json")  # no entry came since: it fits
    assert reconcile(place, "--receipt", receipt) == 0
    shutil.copytree(shop.plans, place.plans)
    for round_, attempt in ((1, 1), (1, 2), (2, 1), (2, 2)):
        assert not advertise(place, the_plan, round_, attempt, member).accepted
    new = masked("new").model_copy(update={"roster": member.roster.digest})
    assert accept(place, new, member=member).accepted
    assert advertise(place, new, 1, 1, member).accepted
    assert not advertise(place, new, 1, 1, member).accepted


def test_before_it_is_reconciled_not_even_the_first_stage_is_done(shop, tmp_path, quick, member):
    """Others must not count on a shop that will not pay; nor may a stage be done again meanwhile."""
    the_plan = masked("m").model_copy(update={"roster": member.roster.digest})
    LedgerFile(shop.ledger, BUDGET).approve(member.roster.digest, member.vouched - {"corner"})
    assert accept(shop, the_plan, member=member).accepted
    place = moved(shop, tmp_path)
    shutil.copytree(shop.plans, place.plans)
    answer = advertise(place, the_plan, 1, 1, member)
    assert answer.reason == "the shop's ledger cannot be used now"
    assert [path.name for path in place.markers.iterdir()] == ["markers"]


def test_a_shop_without_a_ledger_has_no_backup(tmp_path, invitation, quick):
    """From one a shop that has spent since could begin anew at nothing."""
    home = ShopHome(tmp_path / "new")
    found_shop(home, invitation(tmp_path))
    with pytest.raises(UsageError, match="no ledger to back up; 'hansa client configure' opens it"):
        backup.save(home, tmp_path / "x", SECRET)
    assert not (tmp_path / "x").exists()


def test_a_restored_ledger_refuses_even_if_nothing_was_spent_yet(shop, tmp_path, quick):
    """A ledger of one entry without a mark passes for one whose creation was cut short."""
    place = moved(shop, tmp_path)
    assert len(read_file(place.ledger)[0]) == 1
    with pytest.raises(RefusalError, match="it is a copy"):
        LedgerFile(place.ledger, BUDGET).reserve("r", ())


def test_the_operator_is_told_of_those_who_have_opted_out_since(shop, tmp_path, quick, capsys, monkeypatch):
    monkeypatch.setenv("BACKUP", SECRET)
    backup.save(shop, tmp_path / "x", SECRET)
    given = ["--passphrase", "env:BACKUP", "--home", str(tmp_path / "place")]
    assert main(["client", "restore", str(tmp_path / "x"), *given]) == 0
    assert f"hansa client exclude --file FILE --home {tmp_path / 'place'}" in capsys.readouterr().out
    place = ShopHome(tmp_path / "place")
    with pytest.raises(RefusalError, match="as old as the backup"):
        load_data(place, read_settings(place.settings))
    assert place.unconfirmed.stat().st_mode & 0o077 == 0


def test_marks_come_back_and_rounds_only_go_forward(shop, tmp_path, quick):
    for stage in STAGES:
        MarkerFolder(shop.markers).claim("r", 3, 1, stage, b"")
    place = moved(shop, tmp_path)
    for round_ in (1, 3):
        with pytest.raises(RefusalError, match="done before"):
            MarkerFolder(place.markers).claim("r", round_, 1, "advertise", b"")


def test_a_backup_of_a_shop_at_work_is_of_one_moment(shop, tmp_path, quick):
    script = (
        "import sys; from pathlib import Path\n"
        "from hansa.dp.accounting import gaussian; from hansa.dp.ledger import Budget\n"
        "from hansa.dp.ledger.file import LedgerFile; from hansa.secagg.markers import MarkerFolder\n"
        "ledger, marks = LedgerFile(Path(sys.argv[1]), Budget(1e4, 1e-5)), MarkerFolder(Path(sys.argv[2]))\n"
        "ledger.reserve('r', (gaussian(20.0),) * 5000)\n"
        "for k in range(5000):\n"
        "    marks.claim('r', k + 1, 1, 'advertise', b'')\n"
        "    ledger.charge('r', gaussian(20.0))\n"
    )
    working = subprocess.Popen([sys.executable, "-c", script, str(shop.ledger), str(shop.markers)])
    try:
        while not list(shop.markers.glob("*.*.*.*")):
            assert working.poll() is None
            time.sleep(0.05)
        for number in range(5):
            place = moved(shop, tmp_path, f"copy {number}")
            rows, findings = read_file(place.ledger)
            assert findings + check(rows) == []
            marks = list(place.markers.glob("*.*.*.advertise"))
            assert len(marks) in (1, 2)
            known = LedgerFile(place.ledger).reservations
            assert int(min(mark.name.split(".")[1] for mark in marks)) <= known["r"].charged + 1
            assert not list(place.ledger.parent.glob("*-wal"))
        assert working.poll() is None
    finally:
        working.kill()
        working.wait()
    assert len(rows) > 3


@pytest.mark.parametrize("place", [0, 13, 20, 35, 60, -1])
def test_a_changed_byte_anywhere_is_noticed(shop, tmp_path, quick, place):
    file = tmp_path / "b"
    backup.save(shop, file, SECRET)
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises((VerificationError, UsageError), match=r"damaged|another version|no backup"):
        backup.restore(file, ShopHome(tmp_path / "new"), SECRET)
    assert not (tmp_path / "new").exists()


def test_another_passphrase_opens_nothing(shop, tmp_path):
    backup.save(shop, tmp_path / "b", SECRET)
    with pytest.raises(VerificationError, match="another passphrase"):
        backup.restore(tmp_path / "b", ShopHome(tmp_path / "new"), SECRET + " ")
    assert not (tmp_path / "new").exists()


def test_two_backups_of_the_same_have_nothing_in_common(shop, tmp_path, quick):
    for name in ("a", "b"):
        backup.save(shop, tmp_path / name, SECRET)
    one, other = ((tmp_path / name).read_bytes()[15:] for name in ("a", "b"))
    assert one[:16] != other[:16]
    assert one[28:60] != other[28:60]


def test_a_folder_that_is_not_empty_is_left_alone(shop, tmp_path, quick):
    backup.save(shop, tmp_path / "b", SECRET)
    before = sorted(shop.root.rglob("*"))
    with pytest.raises(UsageError, match="not empty"):
        backup.restore(tmp_path / "b", shop, SECRET)
    assert sorted(shop.root.rglob("*")) == before


def test_a_disk_that_fails_leaves_nothing_half_restored(shop, tmp_path, quick, monkeypatch):
    backup.save(shop, tmp_path / "b", SECRET)
    real, left = backup.write_new, [4]

    def failing(path, content):
        left[0] -= 1
        if not left[0]:
            raise OSError(28, "No space left on device", str(path))
        real(path, content)

    monkeypatch.setattr(backup, "write_new", failing)
    with pytest.raises(UsageError, match="No space left on device; nothing was restored"):
        backup.restore(tmp_path / "b", ShopHome(tmp_path / "new"), SECRET)
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    left[0] = 2
    with pytest.raises(UsageError, match="nothing was restored"):
        backup.restore(tmp_path / "b", ShopHome(tmp_path / "empty"), SECRET)
    assert os.listdir(tmp_path / "empty") == []


def test_a_damaged_ledger_is_not_copied(shop, tmp_path, quick):
    shop.ledger.write_bytes(shop.ledger.read_bytes()[:5000])
    with pytest.raises(VerificationError, match="damaged"):
        backup.save(shop, tmp_path / "b", SECRET)
    assert not (tmp_path / "b").exists()


def test_files_outside_of_the_folder_are_not_copied(shop, tmp_path, quick):
    (tmp_path / "password").write_text("x")
    shop.settings.write_text(
        f'[data]\npassword = "file:{tmp_path / "password"}"\n[catalogue]\nmapping = "../password"\n'
    )
    names = backup.save(shop, tmp_path / "b", SECRET)
    assert not [name for name in names if "password" in name]


@pytest.mark.parametrize(
    ("how", "what"),
    [
        (["--passphrase", "correct horse battery"], "the passphrase itself would be seen"),
        (["--passphrase", "env:NOBODY_SET_THIS"], "the environment has no NOBODY_SET_THIS"),
        (["--passphrase", "file:/nowhere/at/all"], "No such file"),
        (["--passphrase", "env:SHORT"], "fewer than 12 characters"),
        ([], "no terminal"),
    ],
)
def test_a_passphrase_that_is_none_is_refused(shop, tmp_path, monkeypatch, capsys, how, what):
    monkeypatch.setenv("SHORT", "short")
    assert main(["client", "backup", str(tmp_path / "b"), "--home", str(shop.root), *how]) == 2
    assert what in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_backup_is_never_overwritten(shop, tmp_path, quick):
    (tmp_path / "b").write_text("older")
    with pytest.raises(UsageError, match="there already"):
        backup.save(shop, tmp_path / "b", SECRET)


def test_two_backups_at_once_do_not_disturb_each_other(shop, tmp_path, quick):
    threads = [
        threading.Thread(target=backup.save, args=(shop, tmp_path / f"b{k}", SECRET)) for k in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(2):
        backup.restore(tmp_path / f"b{k}", ShopHome(tmp_path / f"n{k}"), SECRET)
