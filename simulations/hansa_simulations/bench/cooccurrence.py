"""``hansa bench cooccurrence``: from customers' histories to denoised factors of a noisy co-occurrence."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import torch

from hansa.dp.clipping import clipped_sum
from hansa.dp.noise import GridGaussian
from hansa.dp.pairs import PairContributions, packed_rows, unpack
from hansa.models.spectrum import leading
from hansa.rng import seeded_generator, system_generator
from hansa.schema import Histories
from hansa_simulations.bench import timing

CUSTOMERS, MEAN, FACTORS = 20_000, 33, 64
SIZES = (1_250, 2_500, 5_000)
NOISE = 1.0
RECENCY, NEARNESS = 0.25, 0.5
THREADS = 1
PARTS = ("count", "noise", "unpack", "factors")
WHOLE, FULL = "all of it", "full eigh"


def histories(items: int, customers: int = CUSTOMERS, mean: int = MEAN) -> Histories:
    """Log-normal lengths, items by 1 / rank, a third of them from one of 40 tastes of the customer."""
    rng = seeded_generator(items, "cooccurrence")
    lengths = np.maximum(3, rng.lognormal(np.log(mean) - 0.32, 0.8, customers)).astype(np.int64)
    people = np.repeat(np.arange(customers), 2 * lengths)  # about half are drawn twice or are one too many
    popularity = 1.0 / np.arange(10, items + 10)
    drawn = rng.choice(items, len(people), p=popularity / popularity.sum())
    own = rng.random(len(people)) < 1 / 3
    drawn[own] -= (drawn[own] - rng.integers(0, 40, customers)[people[own]]) % min(40, items)
    rows = Histories.from_pairs(people, np.maximum(drawn, 0), customers, items)
    place = np.arange(len(rows.items)) - rows.offsets[:-1][rows.rows_index]
    return rows.where(place < lengths[rows.rows_index])


class Stages:
    """The stages one after the other, each on what the one before left."""

    def __init__(self, rows: Histories) -> None:
        self.rows, self.size = rows, rows.n_items
        self.sum = self.noisy = torch.empty(0)
        self.matrix = np.empty((0, 0), dtype=np.float32)
        self.radius = NOISE * float(np.sqrt(2 * self.size))

    def count(self) -> None:
        """The bounded sum, 256 customers at a time, as a shop forms it."""
        total = torch.zeros(packed_rows(self.size), 1, dtype=torch.float64)
        self.sum = clipped_sum(
            (PairContributions(rows, RECENCY, NEARNESS) for rows in self.rows.chunks(256)), 1.0, total
        )

    def noise(self) -> None:
        """Noise of the operating system's entropy in every entry."""
        self.noisy = GridGaussian(1.0, NOISE, self.sum.numel()).release(self.sum, system_generator())

    def unpack(self) -> None:
        """The symmetric matrix."""
        self.matrix = unpack(self.noisy.numpy(), self.size)

    def factors(self) -> None:
        """The largest eigenvalues above the noise."""
        leading(self.matrix, self.radius, FACTORS)

    def full(self) -> None:
        """All eigenvalues, for comparison."""
        torch.linalg.eigh(torch.from_numpy(self.matrix))


def measure(repeats: int, sizes: tuple[int, ...] = SIZES, customers: int = CUSTOMERS) -> timing.Document:
    """Time every stage at every size, and the full spectrum that the factors spare."""
    cases: list[dict[str, Any]] = []
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        for items in sizes:
            rows = histories(items, customers)
            timing.say(f"{items:,} items, {len(rows.items):,} interactions")
            stages = Stages(rows)
            for part in PARTS:
                getattr(stages, part)()
            names = {part: getattr(stages, part) for part in PARTS} | {FULL: stages.full}
            taken = timing.interleave({name: partial(_timed, run) for name, run in names.items()}, repeats)
            whole = [sum(parts) for parts in zip(*(taken[part] for part in PARTS), strict=True)]
            facts = {"items": items, "interactions": len(rows.items)}
            cases += timing.rows({WHOLE: whole, **taken}, WHOLE, **facts)
    finally:
        torch.set_num_threads(before)
    shape = {"customers": customers, "factors": FACTORS, "noise": NOISE}
    return timing.document("cooccurrence", cases, threads=THREADS, repeats=repeats, **shape)


def text(found: timing.Document) -> list[str]:
    """The document as Markdown."""
    lines = [
        [
            row["name"],
            f"{row['items']:,}",
            f"{row['interactions']:,}",
            f"{row['seconds']:.3f}",
            f"{row['ratio']:.2f}",
        ]
        for row in found["cases"]
    ]
    return [
        "# One release of co-occurrence",
        "",
        f"`hansa bench cooccurrence`: {found['customers']:,} customers, noise of deviation "
        f"{found['noise']:g}, at most {found['factors']} factors above the noise's spectral radius; medians "
        f"of {found['repeats']} interleaved turns. Full eigh is what LAPACK takes for all factors, most of "
        "them noise.",
        "",
        *timing.table(["stage", "items", "interactions", "seconds", "of all of it"], lines),
        "",
        timing.machine_line(found),
    ]


def _timed(run: Any) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
