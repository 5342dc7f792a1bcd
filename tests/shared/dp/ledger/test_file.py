import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from hansa.dp.accounting import compose, epsilon, gaussian, skellam
from hansa.dp.filter import RenyiFilter
from hansa.dp.ledger import Budget, entries
from hansa.dp.ledger.beside import Beside
from hansa.dp.ledger.check import check, read_file
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import RefusalError

BUDGET = Budget(10.0, 1e-5)
EVENTS = (gaussian(2.0), gaussian(3.0), gaussian(3.0))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop.sqlite"


def spent_some(path, charges=2):
    ledger = LedgerFile(path, BUDGET, name="shop")
    ledger.reserve("run", EVENTS, {"asked_by": "league"})
    for event in EVENTS[:charges]:
        ledger.charge("run", event, {"round": 1})
    return ledger


def sound(path):
    rows, findings = read_file(path)
    assert findings + check(rows) == []
    return [row.parse() for row in rows]


def test_another_owner_sees_reservations_and_charges(path):
    spent_some(path, 1)
    other = LedgerFile(path, BUDGET)
    assert other.reservations["run"].releases == EVENTS
    assert other.reservations["run"].charged == 1
    assert other.spent() == epsilon(compose(EVENTS), BUDGET.delta)
    with pytest.raises(RefusalError, match="no such release left"):
        other.charge("run", EVENTS[0])
    other.charge("run", EVENTS[1])


def test_a_ledger_that_is_already_open_notices_what_others_spend(path):
    early, late = LedgerFile(path, BUDGET), LedgerFile(path, BUDGET)
    assert early.spent() == 0.0
    late.reserve("first", EVENTS)
    with pytest.raises(RefusalError, match="the ceiling is 10"):
        early.reserve("second", (gaussian(0.5),))
    assert set(LedgerFile(path).reservations) == {"first"}


def test_it_is_the_ledger_in_memory_on_a_disk(path):
    """The same requests get the same answers."""
    from hansa.dp.ledger import Ledger

    memory, file = Ledger(Budget(3.0, 1e-5)), LedgerFile(path, Budget(3.0, 1e-5))
    asked = [
        ("reserve", "a", (gaussian(8.0),) * 3),
        ("charge", "a", gaussian(8.0)),
        ("charge", "a", gaussian(7.0)),
        ("reserve", "b", (gaussian(1.0),)),
        ("reserve", "c", (gaussian(20.0), gaussian(9.0))),
        ("charge", "c", gaussian(9.0)),
        ("charge", "c", gaussian(20.0)),
        ("charge", "d", gaussian(20.0)),
    ]
    for act, run, what in asked:
        answers = []
        for ledger in (memory, file):
            try:
                answers.append(getattr(ledger, act)(run, what))
            except RefusalError as refusal:
                answers.append(str(refusal))
        assert answers[0] == answers[1]
    assert memory.reservations == file.reservations
    assert memory.spent() == file.spent()


def test_an_entry_says_who_asked_for_what_and_with_which_version(path):
    from hansa import __version__

    spent_some(path)
    opened, reserved, charged, _ = sound(path)
    assert opened.body["shop"] == "shop"
    assert (opened.body["epsilon"], opened.body["delta"]) == (10.0, 1e-5)
    assert opened.body["order"] == RenyiFilter.for_ceiling(10.0, 1e-5).order
    assert reserved.body["asked_by"] == "league"
    assert charged.body["event"] == [[2.0, 1.0, 1]]
    assert {entry.code for entry in (opened, reserved, charged)} == {__version__}


def test_the_key_is_for_its_owner_only(path):
    spent_some(path)
    assert Beside(path).key_path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET text = x'00' WHERE sequence = 2",
        "DELETE FROM entries WHERE sequence = 4",
        "INSERT INTO entries VALUES (9, x'00', x'00')",
        "INSERT INTO entries VALUES (0, x'00', x'00')",
        "INSERT OR REPLACE INTO entries VALUES (2, x'00', x'00')",
        "REPLACE INTO entries VALUES (4, x'00', x'00')",
    ],
)
def test_the_file_itself_only_grows(path, statement):
    spent_some(path)
    with sqlite3.connect(path) as base, pytest.raises(sqlite3.IntegrityError, match="a ledger only grows"):
        base.execute(statement)
    base.close()
    sound(path)


def test_the_configured_ceiling_is_entered_when_it_changes(path):
    spent_some(path)
    assert LedgerFile(path, Budget(12.0, 1e-5)).ceiling.epsilon == 12.0
    assert LedgerFile(path, Budget(1.0, 1e-5), follow=False).ceiling.epsilon == 12.0
    assert LedgerFile(path, Budget(9.0, 1e-5)).ceiling.epsilon == 9.0
    assert LedgerFile(path, Budget(9.0, 1e-5)).spent() > 0
    changes = [entry.body for entry in sound(path) if entry.kind == "ceiling"]
    assert changes == [
        {"epsilon_before": 10.0, "epsilon_after": 12.0},
        {"epsilon_before": 12.0, "epsilon_after": 9.0},
    ]
    strict = LedgerFile(path, Budget(9.0, 1e-6))
    for _ in range(2):  # it does not get used to it
        with pytest.raises(RefusalError, match="opened with 1e-05 for its whole lifetime"):
            strict.reserve("b", EVENTS)


def test_a_clock_that_jumps_back_changes_nothing(path, monkeypatch):
    spent_some(path, 1)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(1999, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(entries, "datetime", Clock)
    ledger = LedgerFile(path, BUDGET)
    with pytest.raises(RefusalError):
        ledger.charge("run", EVENTS[0])
    ledger.charge("run", EVENTS[1])
    written = sound(path)
    assert written[-1].time < written[0].time
    assert ledger.reservations["run"].charged == 2


# Several at once.


def test_charges_at_the_same_time_all_count(path):
    event = gaussian(200.0)
    shared = LedgerFile(path, BUDGET)
    shared.reserve("run", (event,) * 40)
    ledgers = [shared, shared, LedgerFile(path, BUDGET), LedgerFile(path)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: ledgers[number % 4].charge("run", event), range(40)))
    assert LedgerFile(path).reservations["run"].charged == 40
    with pytest.raises(RefusalError):
        shared.charge("run", event)
    assert len(sound(path)) == 42


# Damage.


@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_corrupted_page_refuses_and_is_found(path, page):
    ledger = spent_some(path)
    for number in range(40):
        ledger.reserve(f"more {number}", (gaussian(500.0),))
    content = bytearray(path.read_bytes())
    start = 4096 * (page - 1)
    content[start : start + 4096] = os.urandom(4096)
    path.write_bytes(content)  # an owner that has read it before would go on
    for victim in (LedgerFile(path, BUDGET), LedgerFile(path)):
        with pytest.raises(RefusalError, match=r"damaged|cannot be read"):
            victim.charge("run", EVENTS[2])
    assert path.read_bytes() == content
    rows, findings = read_file(path)
    assert findings + check(rows)


@pytest.mark.parametrize("left", [0, 100, 4096, 6000])
def test_a_truncated_file_is_not_taken_for_a_new_one(path, left):
    spent_some(path)
    os.truncate(path, left)
    with pytest.raises(RefusalError):
        LedgerFile(path, BUDGET).reserve("again", EVENTS)
    assert path.stat().st_size == left
    rows, findings = read_file(path)
    assert findings + check(rows)


def test_skellam_plans_and_approvals_survive_on_disk(path):
    events = (skellam(40.0 * 2**24 / 3, 2**24 + 5, 2**22), skellam(90.0 * 2**32, 2**32, 2**30))
    ledger = LedgerFile(path, BUDGET, name="shop")
    ledger.approve("a" * 64, ["west", "east"])
    ledger.reserve("run", events)
    ledger.charge("run", events[0])
    other = LedgerFile(path)
    other.approve("a" * 64, ["east", "west"])  # as it is: no entry
    assert other.roster == ledger.roster == "a" * 64
    assert other.reservations["run"].releases == events
    assert other.reservations["run"].charged == 1
    assert other.spent() == epsilon(compose(events), BUDGET.delta)
    other.charge("run", events[1])
    with pytest.raises(RefusalError, match="no such release left"):
        ledger.charge("run", events[1])
    written = sound(path)
    assert [entry.kind for entry in written] == ["open", "roster", "reserve", "charge", "charge"]
    assert written[1].body["vouched"] == ["east", "west"]
    assert written[3].body["event"] == [["skellam", 40.0 * 2**24 / 3, 2**24 + 5, 2**22, 1]]
