from concurrent.futures import ThreadPoolExecutor

import pytest

from hansa.dp.accounting import compose, from_parts, gaussian, to_parts
from hansa.dp.ledger import Budget
from hansa.dp.ledger_file import LedgerFile
from hansa.errors import RefusalError

BUDGET = Budget(10.0, 1e-5)
EVENTS = (gaussian(2.0), gaussian(3.0, 0.25), gaussian(3.0, 0.25))


@pytest.mark.parametrize("event", [gaussian(0.0), gaussian(1.1), gaussian(0.7, 0.1), gaussian(1 / 3, 0.5, 4)])
def test_written_events_are_the_same_events(event):
    assert from_parts(to_parts(event)) == event


def test_several_parts_are_a_composition():
    assert from_parts(to_parts(compose([gaussian(1.0), gaussian(2.0)]))) == compose(
        [gaussian(1.0), gaussian(2.0)]
    )


def test_another_process_sees_reservations_and_charges(tmp_path):
    path = tmp_path / "ledger.json"
    LedgerFile(BUDGET, path=path).reserve("run", EVENTS)
    LedgerFile(BUDGET, path=path).charge("run", EVENTS[0])
    other = LedgerFile(BUDGET, path=path)
    assert other.reservations["run"].releases == EVENTS
    assert other.reservations["run"].charged == 1
    assert other.spent() == pytest.approx(LedgerFile(BUDGET, path=path).spent())
    with pytest.raises(RefusalError, match="no such release left"):
        other.charge("run", EVENTS[0])


def test_a_ledger_that_is_already_open_notices_what_others_spend(tmp_path):
    path = tmp_path / "ledger.json"
    early, late = LedgerFile(BUDGET, path=path), LedgerFile(BUDGET, path=path)
    late.reserve("first", EVENTS)
    with pytest.raises(RefusalError, match="the ceiling is 10"):
        early.reserve("second", (gaussian(0.5),))
    assert set(LedgerFile(BUDGET, path=path).reservations) == {"first"}


def test_charges_at_the_same_time_all_count(tmp_path):
    path = tmp_path / "ledger.json"
    event = gaussian(200.0)
    LedgerFile(BUDGET, path=path).reserve("run", (event,) * 40)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: LedgerFile(BUDGET, path=path).charge("run", event), range(40)))
    assert LedgerFile(BUDGET, path=path).reservations["run"].charged == 40
