"""What a run leaves behind: words, JSON, plot and model."""

from __future__ import annotations

import copy
import itertools
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from safetensors.numpy import load_file

from hansa.errors import UsageError
from hansa_simulations import words
from hansa_simulations.plots import accuracy_figure, render, spread
from hansa_simulations.report import (
    console_summary,
    markdown_summary,
    output_folder,
    to_json,
    write_report,
)

FILES = ["result.json", "summary.md", "accuracy.png", "accuracy.svg", "model.safetensors"]
MODEL = {"items": np.arange(12, dtype=np.float32).reshape(3, 4).T}


def row(ndcg: float) -> dict[str, float]:
    return {"ndcg@10": ndcg, "recall@20": 0.13, "hr@10": 0.5}


RESULT: dict[str, Any] = {
    "hansa": "0.1.0",
    "scenario": "journey",
    "method": "dpsgd",
    "dp": "central",
    "engine": "inprocess",
    "seed": 0,
    "seeds": [0],
    "protocol": "last20",
    "interrupted": False,
    "data": {"shops": 4, "users": 2417, "items": 3000, "interactions": 503221, "overlapping_users": 7},
    "privacy": {
        "unit": "user",
        "epsilon": 4.0,
        "delta": 1e-5,
        "epsilon_spent": 3.98701,
        "epsilon_spent_max_overlap": 7.5,
        "max_overlap": 3,
        "accountant": "pld",
        "cross_check": 4.25,
        "not_covered": ["the vocabulary, chosen from exact counts"],
    },
    "metrics": {
        "model": row(0.092),
        "shared": row(0.086),
        "popularity": row(0.084),
        "alone": row(0.082),
        "pooled": row(0.107),
    },
    "gain_kept": 0.4,
    "per_shop": {
        "worse_than_alone": 1,
        "worse_than_alone_raw": 2,
        "worst_decile": -0.004,
        "best_decile": 0.03,
        "gains": [0.03, -0.004, 0.0, -0.001],
    },
    "timing": {"rounds": 3, "seconds_per_round": 1.25, "total_seconds": 48.21, "peak_rss_mb": 1234.0},
    "history": [
        {"round": i, "release": "sgd", "ndcg@10": 0.05 + i / 100, "epsilon": float(i)}
        | {"seconds": 1.0, "answered": 4, "missing": 0}
        for i in (1, 2, 3)
    ],
    "references": {"alone": "ease", "pooled": "item-kNN, too many items for EASE"},
    "notes": ["Each household has its main store from exact data."],
    "command": "hansa simulate journey --seed 0",
    "settings": {},
}


def changed(**changes: Any) -> dict[str, Any]:
    """A copy of RESULT; a dict among the changes updates the part of that name."""
    result = copy.deepcopy(RESULT)
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key].update(value)
        else:
            result[key] = value
    return result


NO_REFERENCES = changed(
    metrics={"popularity": None, "alone": None, "pooled": None},
    gain_kept=None,
    per_shop=dict.fromkeys(RESULT["per_shop"]),
    references={"alone": None, "pooled": None},
)
NO_PRIVACY = changed(
    dp="none",
    privacy={"epsilon": None, "delta": None, "epsilon_spent": None, "epsilon_spent_max_overlap": None},
    history=[step | {"epsilon": None} for step in RESULT["history"]],
)
SEEDS = changed(seeds=[0, 1, 2], metrics_sd={"model": row(0.0012)})
VARIANTS = {
    "normal": RESULT,
    "pooling does not help": changed(gain_kept=None, metrics={"pooled": row(0.081)}),
    "no privacy": NO_PRIVACY,
    "no references": NO_REFERENCES,
    "one round": changed(history=RESULT["history"][:1]),
    "interrupted": changed(interrupted=True, history=[]),
    "not evaluated": changed(history=[step | {"ndcg@10": None} for step in RESULT["history"]]),
    "one shop": changed(data={"shops": 1}, per_shop={"gains": [0.0]}),
    "many shops": changed(per_shop={"gains": list(np.linspace(-0.1, 0.3, 500))}),
    "all equal": changed(metrics=dict.fromkeys(RESULT["metrics"], row(0.1)), gain_kept=None, history=[]),
    "seeds": SEEDS,
    "odd name": changed(scenario="a$b_$\x1b[31m|*店" * 20),
}


def test_the_console_says_what_was_run_and_what_is_protected() -> None:
    text = " ".join(console_summary(RESULT).split())
    for part in (
        "4 shops, 2,417 customers, 3,000 items, 503,221 interactions; 7 customers of several shops",
        "epsilon 4, delta 1e-5 for one customer of one shop with all interactions",
        "add or remove one",
        "DP model central: the coordinator adds the noise and is trusted (only for simulation)",
        "epsilon spent 3.988; for a person who is a customer of 3 shops, the largest overlap declared, 7.5",
        "Accountant pld; cross check epsilon 4.25",
        "- the vocabulary, chosen from exact counts",
        "pooled all data in one place (item-kNN, too many items for EASE) 0.1070 0.1300 0.5000",
        "Keeps 40 % of what pooling all data would add over training alone",
        "2 of 4 shops do worse than alone, 1 of them beyond chance",
        "worst decile -0.0040, best decile +0.0300",
        "3 rounds, 1.25 s a round, 48.2 s in all, at most 1,234 MB",
        "Each household has its main store",
    ):
        assert part in text


@pytest.mark.parametrize("name", VARIANTS)
def test_the_console_stays_plain_and_narrow(name: str) -> None:
    text = console_summary(VARIANTS[name])
    assert all(len(line) <= 100 and line == line.rstrip() for line in text.splitlines())
    assert "\x1b" not in text
    assert "None" not in text
    assert "nan" not in text.split()


def test_the_console_names_the_files() -> None:
    text = console_summary(RESULT, [Path("out/demo/result.json"), Path("out/demo/summary.md")])
    assert text.endswith("Written to out/demo\n  result.json, summary.md")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gain_kept": None, "metrics": {"pooled": row(0.081)}}, "pooling all data does not beat training"),
        (
            {"gain_kept": -0.08, "metrics": {"model": row(0.08)}},
            "worse than training alone (ndcg@10 -0.0020)",
        ),
        ({"gain_kept": 1.2, "metrics": {"model": row(0.112)}}, "Keeps more than pooling"),
        ({"gain_kept": 0.004}, "Keeps 0.4 % of what"),
        ({"gain_kept": None}, "was not computed"),
    ],
)
def test_the_gain_is_told_honestly(changes: dict[str, Any], said: str) -> None:
    assert said in words.gain_sentence(changed(**changes))


def test_without_references_the_gain_is_unknown() -> None:
    text = console_summary(NO_REFERENCES)
    assert "unknown: the references were not computed" in text
    assert "popularity" not in text


def test_no_privacy_is_not_dressed_up() -> None:
    text = console_summary(NO_PRIVACY)
    assert "No privacy" in text
    assert "epsilon" not in text


def test_seeds_come_with_their_spread() -> None:
    text = console_summary(SEEDS)
    assert "seeds 0, 1, 2" in text
    assert "0.0920 ± 0.0012" in text
    assert "±" not in console_summary(RESULT)


@given(st.floats(1e-3, 1e3))
def test_a_stated_epsilon_is_never_below_the_true_one(epsilon: float) -> None:
    stated = float(words.epsilon_text(epsilon))
    assert epsilon - 1e-8 <= stated <= epsilon + 0.0011


def test_round_epsilons_stay_round() -> None:
    assert [words.epsilon_text(e) for e in (0.1, 0.3, 4.0, 10.0, None)] == ["0.1", "0.3", "4", "10", "none"]


def test_the_page_shows_the_plot_the_table_and_the_command() -> None:
    page = markdown_summary(RESULT)
    assert "(accuracy.png)" in page
    assert "| model | what shops serve | 0.0920 | 0.1300 | 0.5000 |" in page
    assert "```sh\nhansa simulate journey --seed 0\n```" in page
    assert "Keeps 40 % of what" in page
    assert "a \\*b\\* \\| c" in markdown_summary(changed(notes=["a *b* | c"]))


def test_json_has_null_where_a_number_is_not_finite() -> None:
    result = changed(gain_kept=float("nan"), timing={"peak_rss_mb": np.float32("inf")}, seeds=np.arange(2))
    read = json.loads(to_json(result), parse_constant=pytest.fail)
    assert read["gain_kept"] is None
    assert read["timing"]["peak_rss_mb"] is None
    assert read["seeds"] == [0, 1]
    assert read["privacy"] == RESULT["privacy"]


def test_the_files_of_a_report(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    files = write_report(RESULT, MODEL, out)
    assert [path.name for path in files] == FILES
    assert sorted(os.listdir(out)) == sorted(FILES)
    assert json.loads((out / "result.json").read_text()) == RESULT
    assert (out / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (out / "accuracy.svg").read_bytes()
    np.testing.assert_array_equal(load_file(out / "model.safetensors")["items"], MODEL["items"])
    raw = (out / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])["__metadata__"]
    assert header == {
        "version": "0.1.0",
        "method": "dpsgd",
        "dp": "central",
        "unit": "user",
        "epsilon": "4.0",
        "delta": "1e-05",
    }


def test_a_later_run_replaces_an_earlier_one(tmp_path: Path) -> None:
    write_report(RESULT, MODEL, tmp_path)
    write_report(changed(seed=5), MODEL, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["seed"] == 5
    assert len(os.listdir(tmp_path)) == len(FILES)


def test_a_failed_write_leaves_the_old_file_and_no_crumbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(RESULT, MODEL, tmp_path)

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UsageError, match="No space left on device"):
        write_report(changed(seed=5), MODEL, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["seed"] == 0
    assert sorted(os.listdir(tmp_path)) == sorted(FILES)


@pytest.mark.parametrize("inside", ["", "below"])
def test_a_file_in_the_way_is_a_usage_error(tmp_path: Path, inside: str) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UsageError, match=r"is a file; name a folder"):
        output_folder(tmp_path / "taken" / inside)


def test_no_permission_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Asked of a stand-in, because root may write anywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UsageError, match="no permission"):
        write_report(RESULT, MODEL, tmp_path)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_result_has_a_plot_without_overlapping_texts(name: str) -> None:
    figure = accuracy_figure(VARIANTS[name])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for axes in [figure, *figure.axes] for text in axes.texts if text.get_text()]
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width, texts[i].get_text()
        for j in range(i):
            assert not box.overlaps(boxes[j]), (texts[i].get_text(), texts[j].get_text())


def test_the_plot_says_what_it_shows() -> None:
    figure = accuracy_figure(RESULT)
    said = " ".join(text.get_text() for axes in [figure, *figure.axes] for text in axes.texts)
    for part in (
        "journey: 4 shops, 2,417 customers",
        "epsilon 4, delta 1e-5 for one customer of one shop",
        "central DP: the coordinator adds the noise and is trusted",
        "Keeps 40 %",
        "pooled  0.1070",
        "1 of 4 shops gain",
        "2 worse, 1 beyond chance",
        "1 unchanged",
    ):
        assert part in said
    assert len(accuracy_figure(NO_REFERENCES).axes) == 1


def test_only_a_steep_start_is_cut_from_the_plot() -> None:
    steep = [RESULT["history"][0] | {"ndcg@10": 0.001}, *RESULT["history"][1:]]
    bottom, top = accuracy_figure(changed(history=steep)).axes[0].get_ylim()
    assert 0.001 < bottom < 0.08
    assert top > 0.107
    bottom, _ = accuracy_figure(NO_REFERENCES | {"history": steep}).axes[0].get_ylim()
    assert bottom < 0.001


def test_equal_results_give_equal_plots() -> None:
    for kind in ("png", "svg"):
        assert render(RESULT, kind) == render(RESULT, kind)
    assert render(RESULT, "svg") != render(changed(gain_kept=0.3), "svg")


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8), st.floats(0.5, 40))
def test_labels_are_spread_within_their_bounds(positions: list[float], gap: float) -> None:
    moved = spread(sorted(positions), gap, 0.0, 100.0)
    least = min(gap, 100 / max(len(positions) - 1, 1))
    assert all(b - a >= least - 1e-6 for a, b in itertools.pairwise(moved))
    assert min(moved) >= -1e-6
    assert max(moved) <= 100 + 1e-6


def test_labels_with_room_stay_where_they_are() -> None:
    assert spread([10, 50, 52, 90], 10, 0, 100) == pytest.approx([10, 46, 56, 90])
    assert spread([], 10, 0, 100) == []
