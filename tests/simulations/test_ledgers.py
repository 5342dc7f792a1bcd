"""Simulations whose ledgers outlive them."""

import json

import pytest

from hansa.cli import main
from hansa.dp.ledger.check import check, read_file
from hansa.dp.ledger.file import LedgerFile
from hansa.errors import RefusalError, UsageError
from hansa_simulations.experiment import simulate
from hansa_simulations.ledgers import file_name
from hansa_simulations.settings import make_settings

SMALL = {
    "scenario": "synthetic",
    "shops": 3,
    "method": "popularity",
    "dp": "local",
    "epsilon": 2.0,
    "references": "none",
}
SIZE = ["scenario.customers=90", "scenario.items=100"]


def run(*assignments, **changed):
    return simulate(make_settings({**SMALL, **changed}, [*SIZE, *assignments]))[0]


def test_in_memory_every_run_has_the_whole_ceiling():
    for _ in range(2):
        ledger = run()["privacy"]["ledger"]
        assert 1.99 < ledger["largest"] <= ledger["ceiling"] == 2.0
        assert ledger["readable"] == 3
    assert run(dp="none", epsilon=None)["privacy"]["ledger"] is None


def test_the_second_run_is_refused_before_its_first_release(tmp_path, capsys):
    command = ["simulate", "synthetic", "--shops", "3", "--method", "popularity", "--dp", "local"]
    for assignment in [*SIZE, "budget.ceiling=2.5", f"ledger.dir={tmp_path / 'D'}"]:
        command += ["--set", assignment]
    command += ["--epsilon", "2", "--references", "none", "--json"]
    assert main(command) == 0
    said = json.loads(capsys.readouterr().out)["privacy"]
    assert said["ledger"]["largest"] == pytest.approx(said["epsilon_spent"])
    files = sorted((tmp_path / "D").glob("*.sqlite"))
    before = [read_file(file)[0] for file in files]
    assert [len(rows) for rows in before] == [3, 3, 3]
    assert main(command) == 3
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("hansa: all 3 shops refused the plan")
    assert "the ceiling is 2.5 at delta" in error
    after = [read_file(file)[0] for file in files]
    assert [rows[:3] for rows in after] == before
    assert [[row.parse().kind for row in rows[3:]] for rows in after] == [["refuse"]] * 3
    assert all(check(rows) == [] for rows in after)
    assert all(LedgerFile(file).spent() <= 2.5 for file in files)


def test_runs_compose_until_the_ceiling_is_reached(tmp_path):
    folder = f"ledger.dir={tmp_path}"
    sums = [run(folder, "budget.ceiling=4")["privacy"]["ledger"]["largest"] for _ in range(2)]
    assert 1.99 < sums[0] <= 2.0
    assert 2.0 * 1.3 < sums[1] < 2.0 * 1.8
    with pytest.raises(RefusalError, match="the ceiling is 4 at"):
        run(folder, "budget.ceiling=4", epsilon=3.5)
    # A ceiling that is not stated stays; a stated one is entered.
    run(folder, epsilon=1.0)
    kept = LedgerFile(next(tmp_path.glob("*.sqlite")))
    assert kept.ceiling.epsilon == 4.0
    run(folder, "budget.ceiling=5", epsilon=1.0)
    assert kept.ceiling.epsilon == 5.0
    assert len(kept.reservations) == 4


def test_a_ledger_folder_changes_nothing_about_the_model(tmp_path):
    settings = make_settings(SMALL, SIZE)
    kept = make_settings(SMALL, [*SIZE, f"ledger.dir={tmp_path}"])
    (one, model), (other, same) = simulate(settings), simulate(kept)
    assert all((model[name] == same[name]).all() for name in model)
    assert one["metrics"] == other["metrics"]
    assert other["plan"]["run"] != one["plan"]["run"]
    assert other["plan"]["run"].startswith(one["plan"]["run"])


def test_one_damaged_ledger_costs_one_shop(tmp_path):
    run(f"ledger.dir={tmp_path}", "budget.ceiling=9")
    next(tmp_path.glob("*.sqlite")).write_bytes(b"x" * 8192)
    result = run(f"ledger.dir={tmp_path}", "budget.ceiling=9")
    assert [row["answered"] for row in result["history"]] == [2]
    assert result["privacy"]["ledger"]["readable"] == 2


def test_another_delta_is_refused_with_the_one_to_use(tmp_path):
    run(f"ledger.dir={tmp_path}", "budget.ceiling=9", delta=1e-5)
    with pytest.raises(RefusalError, match="opened with 1e-05 for its whole lifetime"):
        run(f"ledger.dir={tmp_path}", "budget.ceiling=9", delta=1e-6)


def test_several_seeds_are_several_runs(tmp_path):
    result = run(f"ledger.dir={tmp_path}", "budget.ceiling=9", seeds=2)
    assert result["privacy"]["ledger"]["largest"] > 2.0
    names = {run for file in tmp_path.glob("*.sqlite") for run in LedgerFile(file).reservations}
    assert len(names) == 2


def test_a_run_without_privacy_opens_no_ledger(tmp_path):
    run(f"ledger.dir={tmp_path / 'D'}", dp="none", epsilon=None)
    assert not (tmp_path / "D").exists()


def test_a_folder_that_cannot_be_made_is_wrong_usage(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--set ledger\.dir="):
        run(f"ledger.dir={tmp_path / 'file' / 'D'}")


def test_shops_names_become_file_names_of_their_own():
    assert file_name("shop-01") == "shop-01"
    names = ["../etc", "a/b", "a_b", "a?b", ".hidden", "", "\N{SNOWMAN}", "x" * 300, "x" * 301, "a b"]
    made = [file_name(name) for name in names]
    assert len(set(made)) == len(names)
    for name in made:
        assert "/" not in name
        assert not name.startswith(".")
        assert 0 < len(name) < 120
