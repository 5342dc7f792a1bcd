"""The bench measures what a release is made of, on data of the stated size."""

import json

import numpy as np
import pytest

from hansa_simulations.bench import cooccurrence as bench


def test_the_histories_are_as_many_as_stated_and_skewed() -> None:
    rows = bench.histories(800, customers=500)
    assert len(rows) == 500
    assert np.mean(rows.lengths) == pytest.approx(bench.MEAN, rel=0.15)
    counts = np.sort(np.bincount(rows.items, minlength=800))[::-1]
    assert counts[:80].sum() > 0.3 * counts.sum()


def test_the_document_has_every_stage_and_their_sum() -> None:
    found = bench.measure(1, sizes=(60,), customers=50)
    named = {case["name"]: case for case in found["cases"]}
    assert list(named) == [bench.WHOLE, *bench.PARTS, bench.FULL]
    parts = sum(named[part]["seconds"] for part in bench.PARTS)
    assert named[bench.WHOLE]["seconds"] == pytest.approx(parts)
    assert all(case["baseline"] == bench.WHOLE and case["items"] == 60 for case in found["cases"])
    assert found["threads"] == 1
    json.dumps(found, allow_nan=False)
    assert "| full eigh | 60 |" in "\n".join(bench.text(found))
