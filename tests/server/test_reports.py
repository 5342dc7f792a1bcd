import numpy as np
import pytest

from hansa.errors import RefusalError
from hansa.plan import make_plan
from hansa_server.reports import reporting, take_report
from hansa_server.strategy import RoundReport

PLAN = make_plan(
    run="r",
    method="popularity",
    settings={},
    n_items=4,
    dp="none",
    epsilon=None,
    delta=1e-5,
    shops=3,
    customers=9,
)


def report():
    state = {"counts": np.arange(8, dtype=np.float32).reshape(2, 4).T}
    return RoundReport(1, 1, PLAN.releases[0], state, 2, ["late \N{SNOWMAN}"], 0.25)


def test_a_report_comes_back_once(tmp_path):
    assert take_report(tmp_path, PLAN, 1) is None
    with reporting(str(tmp_path)) as listeners:
        for listener in listeners:
            listener(report())
    taken = take_report(tmp_path, PLAN, 1)
    np.testing.assert_array_equal(taken.state["counts"], report().state["counts"])
    assert (taken.round, taken.planned, taken.release) == (1, 1, PLAN.releases[0])
    assert (taken.answered, taken.missing, taken.seconds) == (2, ["late \N{SNOWMAN}"], 0.25)
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_comes_back_as_one_after_the_rounds_before_it(tmp_path):
    def run():
        with reporting(str(tmp_path)) as listeners:
            listeners[0](report())
            raise RefusalError("nobody takes part")

    with pytest.raises(RefusalError):
        run()
    assert take_report(tmp_path, PLAN, 1) is not None
    with pytest.raises(RefusalError, match="nobody takes part"):
        take_report(tmp_path, PLAN, 2)


def test_any_other_error_comes_back_with_its_name(tmp_path):
    with pytest.raises(ZeroDivisionError), reporting(str(tmp_path)):
        _ = 1 / 0
    with pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero"):
        take_report(tmp_path, PLAN, 1)


def test_without_a_folder_nothing_is_reported():
    with reporting("") as listeners:
        assert listeners == []
