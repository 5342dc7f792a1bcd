"""The table of the guide for privacy officers is what the formula beside it gives."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "reading-a-report.md"
ROWS = [line for line in GUIDE.read_text(encoding="utf-8").splitlines() if re.match(r"\| [\d.]+ \|", line)]


def posterior(prior: float, epsilon: float) -> float:
    """The most that a prior can become after an epsilon-DP answer: p e^epsilon / (1 - p + p e^epsilon)."""
    odds = prior / (1 - prior) * math.exp(epsilon)
    return odds / (1 + odds)


@pytest.mark.parametrize("row", ROWS)
def test_posteriors_are_computed_from_priors_and_epsilon(row: str) -> None:
    epsilon, *cells = [cell.strip() for cell in row.strip("|").split("|")]
    expected = [f"{100 * posterior(prior, float(epsilon)):.1f} %" for prior in (0.01, 0.1, 0.5)]
    assert cells == expected


def test_the_table_covers_what_is_usual() -> None:
    assert [row.split("|")[1].strip() for row in ROWS] == ["0.5", "1", "2", "4", "8"]
