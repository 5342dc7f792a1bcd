from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.errors import RefusalError
from hansa.secagg.markers import STAGES, MarkerFolder, MarkerMemory, Markers


@pytest.fixture(params=["memory", "folder"])
def markers(request: pytest.FixtureRequest, tmp_path: Path) -> Markers:
    return MarkerMemory() if request.param == "memory" else MarkerFolder.create(tmp_path / "marks")


def claim(markers: Markers, round_: int, attempt: int, stage: str, run: str = "run") -> None:
    markers.claim(run, round_, attempt, stage, bytes(32))


def refuses(markers: Markers, *claimed: Any) -> None:
    with pytest.raises(RefusalError, match="done before or is not next") as caught:
        claim(markers, *claimed)
    assert caught.value.reason == "repeated or out of order"


def test_each_stage_once_and_in_order(markers: Markers) -> None:
    refuses(markers, 3, 1, "share")
    for number, stage in enumerate(STAGES):
        for later in STAGES[number + 1 :]:
            refuses(markers, 3, 1, later) if number else None
        claim(markers, 3, 1, stage)
        for earlier in STAGES[: number + 1]:
            refuses(markers, 3, 1, earlier)


def test_rounds_go_forward_only(markers: Markers) -> None:
    claim(markers, 3, 2, "advertise")
    for round_, attempt in [(3, 2), (3, 1), (2, 9)]:
        refuses(markers, round_, attempt, "advertise")
    claim(markers, 3, 10, "advertise")
    refuses(markers, 3, 2, "share")
    claim(markers, 10, 1, "advertise")
    refuses(markers, 9, 11, "advertise")
    claim(markers, 1, 1, "advertise", "another run")
    claim(markers, 10, 1, "share")


def test_folder_remembers_and_stays_small(tmp_path: Path) -> None:
    MarkerFolder.create(tmp_path / "marks")
    for round_ in range(1, 20):
        for stage in STAGES[:3]:
            claim(MarkerFolder(tmp_path / "marks"), round_, 1, stage)
    assert len(os.listdir(tmp_path / "marks")) == 1 + 3
    again = MarkerFolder.create(tmp_path / "marks")
    refuses(again, 19, 1, "upload")
    refuses(again, 5, 1, "advertise")


def test_claims_of_many_at_once_have_one_winner(tmp_path: Path) -> None:
    folder = MarkerFolder.create(tmp_path / "marks")

    def won(_: int) -> bool:
        try:
            claim(folder, 1, 1, "advertise")
        except RefusalError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(won, range(64))) == 1


def missing(folder: Path) -> None:
    for entry in folder.iterdir():
        entry.unlink()
    folder.rmdir()


def emptied(folder: Path) -> None:
    for entry in folder.iterdir():
        entry.unlink()


def damaged(folder: Path) -> None:
    (folder / "markers").write_text("something else")


def strange(folder: Path) -> None:
    (folder / "notes.txt").write_text("")


def replaced(folder: Path) -> None:
    missing(folder)
    folder.write_text("")


@pytest.mark.parametrize("harm", [missing, emptied, damaged, strange, replaced])
def test_folder_that_cannot_be_relied_on(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    folder = MarkerFolder.create(tmp_path / "marks")
    claim(folder, 1, 1, "advertise")
    harm(tmp_path / "marks")
    with pytest.raises(RefusalError, match="cannot be relied on") as caught:
        claim(folder, 2, 1, "advertise")
    assert caught.value.reason == "no markers"
    assert "\n" not in str(caught.value)


def test_empty_mark_left_by_a_crash_counts(tmp_path: Path) -> None:
    folder = MarkerFolder.create(tmp_path / "marks")
    claim(folder, 1, 1, "advertise")
    for entry in (tmp_path / "marks").glob("*.advertise"):
        entry.write_bytes(b"")
    refuses(folder, 1, 1, "advertise")


@pytest.mark.parametrize("stage", STAGES)
def test_stage_is_not_repeated_after_a_kill(tmp_path: Path, stage: str) -> None:
    """Killed between mark and reply; whoever comes after neither repeats the stage nor goes back."""
    folder = tmp_path / "marks"
    MarkerFolder.create(folder)
    command = [sys.executable, str(Path(__file__).with_name("kill.py")), str(folder), stage]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for each in STAGES:
            assert child.stdout.readline() == f"{each}\n"
            if each == stage:
                break
        child.kill()
    for repeated in STAGES[: STAGES.index(stage) + 1]:
        refuses(MarkerFolder(folder), 3, 1, repeated)
    claim(MarkerFolder(folder), 3, 2, "advertise")


def test_kills_at_any_moment(tmp_path: Path) -> None:
    """Whatever was said to be marked is marked, and the folder is sound."""
    for number in range(8):
        folder = tmp_path / str(number)
        MarkerFolder.create(folder)
        command = [sys.executable, str(Path(__file__).with_name("kill.py")), str(folder), "unmask"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            said = [child.stdout.readline()] if number else []
            time.sleep(number * 0.0004)
            child.kill()
            said += child.stdout.readlines()
        for stage in [line.strip() for line in said if line]:
            refuses(MarkerFolder(folder), 3, 1, stage)
        claim(MarkerFolder(folder), 4, 1, "advertise")


@pytest.mark.parametrize("stage", ["share", "open", "agree", "unmask"])
def test_restarted_shop_is_dropped_and_the_others_go_on(
    league: Callable[..., Any], tmp_path: Path, stage: str
) -> None:
    """State is lost between any two stages: the shop can neither reply nor begin anew, but for the next."""
    some = league(5, threshold=4)
    shop = some.shops["s02"]
    shop.markers = MarkerFolder.create(tmp_path / "marks")
    honest = shop.reply

    def restarting(asked: str, request: Any) -> Any:
        if asked == stage:
            shop.state = b""
        return honest(asked, request)

    shop.reply = restarting
    with pytest.raises(RefusalError) as caught:
        some.run(some.vectors())
    assert caught.value.reason == "state lost"
    with pytest.raises(RefusalError) as caught:
        shop.advertise(some.parameters)
    assert caught.value.reason == "repeated or out of order"

    vectors, shop.reply = some.vectors(), honest
    some.parameters = replace(some.parameters, round=2)
    _, total = some.run(vectors, {{"open": "upload"}.get(stage, stage): ["s02"]})
    kept = [name for name in some.names if name != "s02" or stage in ("agree", "unmask")]
    np.testing.assert_array_equal(total, sum(vectors[name] for name in kept))
