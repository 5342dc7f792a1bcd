"""Finished cells are kept, stale ones named, and groups belong to one process at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hansa.errors import UsageError
from hansa_simulations.bench import cells as module
from hansa_simulations.bench.cells import Cell, Folder, run
from hansa_simulations.bench.frontier import cells_of, load
from hansa_simulations.experiment import Prepared, simulate
from hansa_simulations.report import to_json

TINY = "synthetic:random20:scenario.customers=60:scenario.items=90:scenario.shops=2"
OTHER = TINY.replace("random20", "last20")


def asked(scenario: str = TINY, epsilons: tuple[str, ...] = ("1", "none"), seeds: int = 1) -> list[Cell]:
    return cells_of([scenario], ["popularity", "cooccurrence"], epsilons, range(seeds), dp="central")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "cells")


def test_a_cell_is_what_simulate_gives(folder: Folder) -> None:
    wanted = asked(seeds=2)
    assert run(wanted, folder, load)
    for cell in wanted:
        alone, _ = simulate(cell.settings)
        alone = json.loads(to_json(alone))
        stored = folder.read(cell)
        assert stored is not None
        for key in ("metrics", "gain_kept", "per_shop", "privacy", "plan", "settings", "data", "notes"):
            assert stored[key] == alone[key], (cell.name, key)


def test_data_and_references_are_made_once_a_group(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Prepared] = []
    fitted: list[int] = []

    def prepare(cell: Cell) -> Prepared:
        prepared.append(load(cell))
        return prepared[-1]

    import hansa_simulations.experiment as experiment

    fit = experiment.fit_references
    monkeypatch.setattr(experiment, "fit_references", lambda *a: fitted.append(1) or fit(*a))
    wanted = [*asked(seeds=2), *asked(OTHER)]
    run(wanted, folder, prepare)
    assert len(prepared) == len(fitted) == 3
    run(wanted, folder, prepare)
    assert len(prepared) == 3, "nothing was left to do"


def test_an_interrupted_run_goes_on_where_it_stopped(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = asked()
    ran: list[str] = []
    genuine = module.simulate_on

    def run_until_third(prepared, settings):
        if len(ran) == 2:
            ran.append("interrupted")
            raise KeyboardInterrupt
        ran.append(settings.method)
        return genuine(prepared, settings)

    monkeypatch.setattr(module, "simulate_on", run_until_third)
    assert not run(wanted, folder, load)
    assert [folder.status(cell) for cell in wanted] == ["finished", "finished", "missing", "missing"]
    assert run(wanted, folder, load)
    assert ran == ["popularity", "popularity", "interrupted", "cooccurrence", "cooccurrence"]


def test_a_run_that_was_interrupted_inside_is_not_stored(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = module.simulate_on

    def cut(prepared, settings):
        result, state = genuine(prepared, settings)
        return {**result, "interrupted": True}, state

    monkeypatch.setattr(module, "simulate_on", cut)
    assert not run(asked(), folder, load)
    assert {folder.status(cell) for cell in asked()} == {"missing"}


def test_stale_cells_are_kept_until_told_otherwise(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    run(asked(), folder, load)
    before = {path.name: path.stat().st_mtime_ns for path in folder.path.glob("*.json")}
    monkeypatch.setattr(module, "code_digest", lambda *roots: "other code")
    changed = Folder(folder.path)
    assert {changed.status(cell) for cell in asked()} == {"stale"}
    run(asked(), changed, load)
    assert {path.name: path.stat().st_mtime_ns for path in folder.path.glob("*.json")} == before
    run(asked(), changed, load, fresh=True)
    assert {changed.status(cell) for cell in asked()} == {"finished"}
    assert {folder.status(cell) for cell in asked()} == {"stale"}


def test_other_settings_are_stale(folder: Folder) -> None:
    run(asked(), folder, load)
    other = cells_of([TINY], ["popularity"], ["1"], [0], dp="central", delta=1e-6)
    assert [folder.status(cell) for cell in other] == ["stale"]


def test_broken_files_are_missing(folder: Folder) -> None:
    cell = asked()[0]
    run([cell], folder, load)
    (path,) = folder.path.glob("*.json")
    path.write_text(path.read_text()[:-20])
    assert folder.status(cell) == "missing"
    assert folder.read(cell) is None


def test_groups_that_another_process_has_are_left_to_it(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, theirs = asked(), asked(OTHER)
    with Folder(folder.path).claim(theirs[0].group) as claimed:
        assert claimed
        run([*theirs, *mine], folder, load)
    assert {folder.status(cell) for cell in mine} == {"finished"}
    assert {folder.status(cell) for cell in theirs} == {"missing"}
    assert "another process is at it" in capsys.readouterr().err
    run(theirs, folder, load)
    assert {folder.status(cell) for cell in theirs} == {"finished"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--cells .*file"):
        run(asked(), Folder(tmp_path / "file"), load)
