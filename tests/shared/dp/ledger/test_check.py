"""A ledger that was tampered with: what was done is found, and the entry named."""

import json
import shutil
import sqlite3
from dataclasses import asdict, replace
from itertools import combinations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.dp.accounting import gaussian, skellam
from hansa.dp.ledger import Budget
from hansa.dp.ledger.account import Account, Draft, opening
from hansa.dp.ledger.beside import Beside
from hansa.dp.ledger.check import Finding, check, read_file
from hansa.dp.ledger.entries import Row, canonical, public_hex, write
from hansa.dp.ledger.file import LedgerFile

BUDGET = Budget(5.0, 1e-5)
EVENT = gaussian(9.0)
KEY = Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Seven entries: open, reserve, charge, charge, ceiling, reserve, charge."""
    path = tmp_path_factory.mktemp("ledger") / "shop.sqlite"
    ledger = LedgerFile(path, BUDGET, name="shop")
    ledger.reserve("run", (EVENT,) * 3)
    ledger.charge("run", EVENT)
    ledger.charge("run", EVENT)
    ledger = LedgerFile(path, Budget(6.0, 1e-5))
    ledger.reserve("more", (EVENT,))
    ledger.charge("more", EVENT)
    return path


@pytest.fixture(scope="module")
def rows(original):
    return read_file(original)[0]


@pytest.fixture(scope="module")
def key(original):
    return Beside(original).read_key().public_key()


def named(findings):
    return [finding.entry for finding in findings]


def test_nothing_is_found_in_a_sound_ledger(rows, original, key):
    assert [row.parse().kind for row in rows] == [
        *("open", "reserve", "charge", "charge"),
        *("ceiling", "reserve", "charge"),
    ]
    assert check(rows) == check(rows, key=key, receipt=LedgerFile(original).receipt()) == []


@pytest.mark.parametrize("field", ["text", "signature"])
def test_any_byte_flipped_in_any_entry_is_found(rows, key, field):
    for number, row in enumerate(rows):
        value = getattr(row, field)
        for place in range(0, len(value), 1 if field == "signature" else 7):
            flipped = value[:place] + bytes([value[place] ^ (1 << place % 8)]) + value[place + 1 :]
            changed = [*rows[:number], replace(row, **{field: flipped}), *rows[number + 1 :]]
            assert row.sequence in named(check(changed, key=key))
            # Without a key from elsewhere, too: the entry that names the key is signed with it.
            assert row.sequence in named(check(changed))


def test_every_bit_of_the_file_is_an_entrys_or_changes_none(original, rows, tmp_path):
    """Flip bytes all over the file: either something is found, or all entries are what they were."""
    content, path = original.read_bytes(), tmp_path / "shop.sqlite"
    found = 0
    for place in range(0, len(content), 37):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :])
        read, findings = read_file(path)
        findings += check(read)
        assert findings or read == rows, place
        found += bool(findings)
        for log in tmp_path.glob("*-wal"):
            log.unlink()
    assert found > 50


@pytest.mark.parametrize("gone", range(1, 7))
def test_a_removed_entry_is_named(rows, gone):
    findings = check([row for row in rows if row.sequence != gone])
    assert Finding(gone, f"missing ({gone})") in findings


@pytest.mark.parametrize("gone", range(2, 7))
def test_a_removed_entry_is_found_when_the_others_close_ranks(rows, gone):
    others = [row for row in rows if row.sequence != gone]
    closed = [replace(row, sequence=number) for number, row in enumerate(others, start=1)]
    assert gone in named(check(closed))


@pytest.mark.parametrize(("first", "second"), list(combinations(range(1, 8), 2)))
def test_two_entries_swapped_are_both_named(rows, first, second):
    changed = list(rows)
    one, other = rows[first - 1], rows[second - 1]
    changed[first - 1] = replace(other, sequence=first)
    changed[second - 1] = replace(one, sequence=second)
    assert {first, second} <= set(named(check(changed)))


@pytest.mark.parametrize("left", range(1, 7))
def test_a_cut_tail_shows_against_a_receipt_only(original, rows, left):
    receipt = LedgerFile(original).receipt()
    assert check(rows[:left]) == []
    (finding,) = check(rows[:left], receipt=receipt)
    assert finding == Finding(7, f"missing, and the receipt proves it was there: cut after entry {left}")


def test_entries_after_a_receipt_are_welcome(original, tmp_path):
    copied = [shutil.copy(file, tmp_path) for file in original.parent.glob("shop.*")]
    assert copied
    ledger = LedgerFile(tmp_path / "shop.sqlite")
    ledger.reconcile(LedgerFile(original).receipt())
    rows, _ = read_file(ledger.path)
    assert check(rows, receipt=LedgerFile(original).receipt()) == []
    assert len(rows) == 8
    # The original has an eighth entry of its own later on: to it, the copy is a fork.
    (finding,) = check(read_file(original)[0] + [replace(rows[7], text=b"{}")], receipt=ledger.receipt())[-1:]
    assert finding.entry == 8


def test_a_foreign_receipt_or_key_is_found(rows, original):
    receipt = LedgerFile(original).receipt()
    (finding,) = check(rows, receipt=replace(receipt, signature=receipt.sign(KEY).signature))
    assert finding.entry == 0
    assert named(check(rows, key=KEY.public_key())) == [1, 2, 3, 4, 5, 6, 7]


def test_no_entries_are_a_finding():
    assert named(check([])) == [0]


def forged(*drafts):
    """A ledger signed with its own key, whatever it says."""
    first = replace(opening(BUDGET), body={**opening(BUDGET).body, "key": public_hex(KEY)})
    rows: list[Row] = []
    for draft in (first, *drafts):
        rows.append(write(draft, rows[-1] if rows else None, KEY))
    return rows


def reserve(run="run", **changed):
    drafted = {"run": run, "releases": [[[[9.0, 1.0, 1]], 2]]}
    numbers = {"cost": 0.0, "epsilon_before": 0.0, "epsilon_after": 0.0}
    return Draft("reserve", {**drafted, **numbers, **changed})


def honest(run="run", **changed):
    from hansa.dp.ledger import Ledger

    memory = Ledger(BUDGET)
    memory.reserve(run, (EVENT,) * 2)
    return Draft("reserve", {**memory.entries()[1].body, **changed})


CHARGE = {"run": "run", "event": [[9.0, 1.0, 1]], "position": 1}


@pytest.mark.parametrize(
    ("drafts", "entry", "problem"),
    [
        ([reserve()], 2, "its cost is 0, and by the rule"),
        ([honest(epsilon_after=0.5)], 2, "its epsilon_after is 0.5, and by the rule"),
        ([honest(releases=[[[[0.1, 1.0, 1]], 1]])], 2, "the rule does not allow it"),
        ([honest(releases=[[[[0.0, 1.0, 1]], 1]])], 2, "without noise in all"),
        ([honest(), honest()], 3, "it reserves a run a second time"),
        ([Draft("charge", CHARGE)], 2, "no plan was accepted"),
        ([honest(), Draft("charge", {**CHARGE, "event": [[8.0, 1.0, 1]]})], 3, "has no such release left"),
        ([honest(), Draft("charge", {**CHARGE, "position": 2})], 3, "release 2 of the plan, and 1 is next"),
        ([Draft("ceiling", {"epsilon_before": 4.0, "epsilon_after": 9.0})], 2, "its epsilon_before is 4"),
        ([Draft("refund", {})], 2, "unknown kind of entry refund"),
        ([Draft("reserve", {"run": "run"})], 2, "nothing that can be understood"),
        ([opening(BUDGET)], 2, "unknown kind of entry open"),
    ],
)
def test_what_the_rule_does_not_allow_is_found_though_it_is_signed(drafts, entry, problem):
    (finding,) = check(forged(*drafts))
    assert finding.entry == entry
    assert problem in finding.problem


def test_two_forks_spliced_together_are_found_though_every_entry_is_signed():
    change = Draft("ceiling", {"epsilon_before": 5.0, "epsilon_after": 9.0})
    spliced = [*forged(honest(asked_by="one"))[:2], forged(honest(asked_by="other"), change)[2]]
    (finding,) = check(spliced)
    assert (finding.entry, finding.problem[:34]) == (3, "it does not follow the entry befor")


def test_an_order_that_was_not_fixed_by_the_ceiling_is_found():
    first = replace(opening(BUDGET), body={**opening(BUDGET).body, "key": public_hex(KEY), "order": 2.0})
    (finding,) = check([write(first, None, KEY)])
    assert (finding.entry, finding.problem[:15]) == (1, "its order is 2,")


def test_the_honest_forgery_is_sound():
    """A control: the key's owner can write whatever the rule allows."""
    assert check(forged(honest())) == []


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"\xff\xfe", b'{"sequence":1}', b"[" * 5000, b'{"a":1}' * 2]
)
def test_texts_that_are_no_entries_are_found(rows, text):
    assert 3 in named(check([*rows[:2], replace(rows[2], text=text), *rows[3:]]))


def test_another_spelling_of_the_same_entry_is_found():
    first = replace(opening(BUDGET), body={**opening(BUDGET).body, "key": public_hex(KEY)})
    row = write(first, None, KEY)
    spaced = json.dumps(asdict(row.parse())).encode()
    assert canonical(json.loads(spaced)) == row.text
    assert "its text is not in canonical form" in {f.problem for f in check([replace(row, text=spaced)])}


def test_a_huge_number_in_the_file_is_a_finding_and_no_long_wait(original, tmp_path):
    path = tmp_path / "shop.sqlite"
    shutil.copy(original, path)
    with sqlite3.connect(path) as base:
        base.executescript("DROP TRIGGER no_update; UPDATE entries SET sequence = 1 << 60 WHERE sequence = 7")
    base.close()
    read, findings = read_file(path)
    assert named(findings + check(read))[0] == 7


def test_values_of_the_wrong_kind_are_found(original, tmp_path):
    path = tmp_path / "shop.sqlite"
    shutil.copy(original, path)
    with sqlite3.connect(path) as base:
        base.executescript("DROP TRIGGER no_update; UPDATE entries SET text = 5 WHERE sequence = 4")
    base.close()
    _, findings = read_file(path)
    assert named(findings) == [4]


SHARED = skellam(90.0 * 2**24, 2**24, 2**22)


def shared(**changed):
    return Draft(
        "reserve", {**Account.of([opening(BUDGET)]).reserve("run", (SHARED,) * 2, {}).body, **changed}
    )


def part(variance=90.0 * 2**24, squared=2**24, kind="skellam", count=1):
    return [[[[kind, variance, squared, 2**22, count]], 2]]


def test_skellam_sums_are_judged_by_the_rule():
    books = Account.of([opening(BUDGET), shared()])
    assert check(forged(shared(), books.charge("run", SHARED, {}))) == []


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"releases": part(variance=80.0 * 2**24)}, "its cost is"),
        ({"releases": part(squared=2**25)}, "its cost is"),
        ({"releases": part(variance=2.0**24)}, "the rule does not allow it"),
        ({"releases": part(variance=1.0)}, "without noise in all"),
        ({"releases": part(variance=-1.0)}, "nothing that can be understood"),
        ({"releases": part(squared=0)}, "nothing that can be understood"),
        ({"releases": part(kind="laplace")}, "nothing that can be understood"),
        ({"releases": part(squared=None)}, "nothing that can be understood"),
    ],
)
def test_wrong_skellam_sums_are_found_though_they_are_signed(changed, problem):
    (finding,) = check(forged(shared(**changed)))
    assert finding.entry == 2
    assert problem in finding.problem


def approval(before="", roster="a" * 64):
    return Draft("roster", {"before": before, "roster": roster, "vouched": ["east"]})


def test_approvals_follow_one_another():
    assert check(forged(approval(), honest(), approval("a" * 64, "b" * 64))) == []
    for drafts in ([approval("c" * 64)], [approval(), approval("", "b" * 64)]):
        (finding,) = check(forged(*drafts))
        assert finding.entry == len(drafts) + 1
        assert finding.problem == "it replaces another roster than the one that was approved"
    (finding,) = check(forged(Draft("roster", {"before": "", "roster": "a" * 64})))
    assert "nothing that can be understood" in finding.problem


def test_a_refusal_that_is_entered_twice_is_found():
    said = Draft("refuse", {"run": "late", "reason": "no"})
    assert check(forged(said)) == []
    (finding,) = check(forged(said, said))
    assert finding.problem == "it enters a refusal twice, or one of too many in a row"
