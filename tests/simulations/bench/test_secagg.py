"""Whole rounds under the clock: exact where they should be, and every stage has its figures."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from click.testing import CliRunner

from hansa.errors import UsageError, VerificationError
from hansa.secagg.masks import apply_masks
from hansa_simulations.bench import masked_round, timing
from hansa_simulations.bench import secagg as bench
from hansa_simulations.bench.commands import app
from hansa_simulations.bench.masked_round import STAGES, UPLOAD, League, MaskedRound

PEAKS = {"shop": 1.0, "coordinator": 2.0}


@pytest.fixture(scope="module")
def found() -> timing.Document:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "peaks_of", lambda entries: PEAKS)
        return bench.measure([3, 10], [100, 250], 2)


def row(found: timing.Document, name: str, shops: int, entries: int):
    (case,) = [
        case
        for case in found["cases"]
        if (case["name"], case["shops"], case["items"]) == (name, shops, entries)
    ]
    return case


@pytest.mark.parametrize("shops", [3, 10, 20])
def test_small_sums_are_those_of_the_survivors(shops: int) -> None:
    bench.check(shops, 100)


def test_a_wrong_sum_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(vector, masks):
        apply_masks(vector, masks)
        vector[0] += 1

    monkeypatch.setattr("hansa.secagg.server.apply_masks", other)
    with pytest.raises(VerificationError, match="the sum is wrong"):
        bench.check(4, 100)


def test_as_many_are_lost_as_the_threshold_allows() -> None:
    assert bench.lost_of(League(3, 100)) == []
    assert bench.lost_of(League(10, 100)) == ["shop-010"]
    assert len(bench.lost_of(League(100, 100))) == 10


def test_shops_under_the_clock_mask_their_own_vector(tmp_path: Path) -> None:
    league = League(5, 100)
    names = list(league.members)
    turn = MaskedRound(league, names[:2], [], tmp_path)
    total = turn.run()
    assert total.shape == (100,)
    assert sorted(path.name for path in tmp_path.iterdir()) == names[:2]
    assert set(turn.clock.shops) == {*STAGES, *UPLOAD} - {"upload"}
    assert all(len(seconds) == 2 for seconds in turn.clock.shops.values())
    assert set(turn.clock.server) == set(turn.clock.sent) == set(turn.clock.received) == set(STAGES)


def test_bytes_are_those_of_the_messages(tmp_path: Path) -> None:
    league = League(10, 100)
    turn = MaskedRound(league, list(league.members)[:1], [], tmp_path)
    turn.run()
    width = -(-league.bits // 8)
    assert turn.clock.sent["upload"] == len("shop-001") + 64 + 100 * width
    assert turn.clock.sent["advertise"] == len("shop-001") + 3 * 32 + 64
    assert turn.clock.received["agree"] == 10 * (len("shop-001") + 64)


def test_every_size_has_its_rows(found: timing.Document) -> None:
    names = ["shop, plain float32", "shop, masked", "coordinator, plain float32", "coordinator, masked"]
    ten = [*names, "coordinator, masked, some lost"]
    assert [case["name"] for case in found["cases"]] == [*names, *names, *ten, *ten]
    for case in found["cases"]:
        assert {"name", "items", "seconds", "ratio", "baseline", "shops", "bits"} <= set(case)
        baseline = row(found, case["baseline"], case["shops"], case["items"])
        assert case["ratio"] == pytest.approx(case["seconds"] / baseline["seconds"])
    masked = row(found, "shop, masked", 10, 250)
    parts = [masked["stages"][f"upload: {part}"] for part in UPLOAD]
    assert 0 < max(parts) <= masked["stages"]["upload"] < masked["seconds"]
    assert row(found, "coordinator, masked, some lost", 10, 250)["lost"] == 1
    assert found["exact"] == [3, 10]
    assert found["threads"] == 1


def test_the_text_has_all_of_it(found: timing.Document) -> None:
    json.dumps(found, allow_nan=False)
    text = bench.text(found)
    assert sum(line.startswith("| 10 | 250 |") for line in text) == 4
    assert "| 250 | 1 | 2 |" in text
    assert timing.machine_line(found) in text


def test_memory_is_that_of_whole_vectors() -> None:
    """Of a shop at least its whole numbers and its masked ones; 2 million of 8 and of 4 bytes."""
    peaks = bench.peaks_of(2_000_000)
    assert 20 < peaks["shop"] < 80
    assert 20 < peaks["coordinator"] < 110


def test_every_clocked_signature_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten = []
    monkeypatch.setattr(masked_round.keys, "forget_verified", lambda: forgotten.append(1))
    league = League(4, 100)
    MaskedRound(league, list(league.members)[:1], [], tmp_path).run()
    assert len(forgotten) >= 5 + len(UPLOAD)


@pytest.mark.parametrize("entries", [75, 49])
def test_what_cannot_be_measured_is_refused_at_once(entries: int) -> None:
    with pytest.raises(UsageError, match=f"--entries {entries}"):
        bench.measure([10], [entries], 1)


def test_the_command_prints_one_document(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "peaks_of", lambda entries: PEAKS)
    options = ["--shops", "4", "--entries", "100", "--repeats", "1", "--json", "--out", str(tmp_path)]
    done = CliRunner().invoke(typer.main.get_command(app), ["secagg", *options])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads((tmp_path / "secagg.json").read_text())
    assert (tmp_path / "secagg.md").read_text().startswith("# Secure aggregation")


def test_contributions_fill_the_table() -> None:
    league = League(3, 500)
    whole = league.whole(league.contributions(0))
    assert whole.dtype == np.int64
    assert np.count_nonzero(whole) > 400
