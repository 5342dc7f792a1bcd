"""The table of what epsilon means is computed, not typed."""

import math
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reading-a-report.md"
PRIORS = (0.01, 0.1, 0.5)


def posterior(prior, epsilon):
    return prior * math.exp(epsilon) / (1 - prior + prior * math.exp(epsilon))


def test_every_posterior_in_the_table_is_right():
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) % \| ([\d.]+) % \| ([\d.]+) % \|$", PAGE.read_text(), re.M)
    assert [float(row[0]) for row in rows] == [0.5, 1.0, 2.0, 4.0, 8.0, 0.5, 1.0, 2.0, 4.0]
    for place, (epsilon, *stated) in enumerate(rows):
        apart = 1 if place < 5 else 2  # the second table: one history in place of another
        expected = [f"{100 * posterior(prior, apart * float(epsilon)):.1f}" for prior in PRIORS]
        assert stated == expected
