"""``hansa bench step``: what one DP step costs, by way of clipping, against the same step without DP."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from hansa.dp.opacus_reference import Way, stepper
from hansa.rng import seeded_generator
from hansa_simulations.bench import timing
from hansa_simulations.memory import peak_memory, reset_peak_memory

CUSTOMERS, POSITIVES, NEGATIVES, WIDTH = 256, 20, 4, 64
SIZES = (3_706, 50_000, 500_000)
THREADS = 2
NAMES: dict[Way, str] = {
    "dense": "without DP",
    "sparse": "sparse",
    "ghost": "Opacus ghost",
    "hooks": "Opacus hooks",
}
_SETTINGS = {"rate": 0.1, "noise_multiplier": 1.0, "bound": 1.0, "expected": CUSTOMERS}


class Sampled(nn.Module):
    """A customer is the mean of the items it had; each of them should score above its own four negatives."""

    def __init__(self, items: int, width: int = WIDTH) -> None:
        super().__init__()
        self.items = nn.Embedding(items, width)

    def forward(self, rows: Tensor) -> Tensor:
        """Softmax losses float [customers]; ``rows`` are the positives, then the negatives of each."""
        embedded = self.items(rows)
        customer = embedded[:, :POSITIVES].mean(dim=1)
        scores = (embedded @ customer[:, :, None])[:, :, 0]
        negatives = scores[:, POSITIVES:].view(len(rows), POSITIVES, NEGATIVES)
        logits = torch.cat([scores[:, :POSITIVES, None], negatives], dim=2)
        return -torch.log_softmax(logits, dim=2)[:, :, 0].mean(dim=1)


def batch(items: int, customers: int = CUSTOMERS) -> Tensor:
    """Uniformly drawn rows, int64 [customers, positives and negatives]: the fewest repeats, the most rows."""
    shape = (customers, POSITIVES * (1 + NEGATIVES))
    return torch.from_numpy(seeded_generator(items, "batch").integers(0, items, shape))


def measure(repeats: int, sizes: Sequence[int] = SIZES) -> timing.Document:
    """Time all ways at every size, and take each one's memory in a process of its own."""
    cases: list[dict[str, Any]] = []
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        for items in sizes:
            ways: list[Way] = ["dense", "sparse", "ghost", *(["hooks"] if _hooks_fit(items) else [])]  # type: ignore[list-item]
            timing.say(f"{items:,} items")
            taken = timing.interleave({NAMES[way]: _timer(way, items) for way in ways}, repeats)
            found = timing.rows(taken, NAMES["dense"], items=items)
            ghost = next(row["seconds"] for row in found if row["name"] == NAMES["ghost"])
            for row, way in zip(found, ways, strict=True):
                peak = peak_bytes(way, items)
                cases.append(
                    {
                        **row,
                        "faster_than_ghost": ghost / row["seconds"],
                        "peak_mb": peak / 1e6,
                        "peak_tables": peak / (4 * items * WIDTH),
                    }
                )
    finally:
        torch.set_num_threads(before)
    shape = {"customers": CUSTOMERS, "positives": POSITIVES, "negatives": NEGATIVES, "width": WIDTH}
    return timing.document("step", cases, threads=THREADS, repeats=repeats, **shape)


def text(found: timing.Document) -> list[str]:
    """The document as Markdown."""
    heads = ["way", "items", "ms a step", "x without DP", "x faster than ghost", "peak MB", "in tables"]
    lines = [
        [
            row["name"],
            f"{row['items']:,}",
            f"{1000 * row['seconds']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['faster_than_ghost']:.1f}",
            f"{row['peak_mb']:.0f}",
            f"{row['peak_tables']:.1f}",
        ]
        for row in found["cases"]
    ]
    return [
        "# One DP step",
        "",
        f"`hansa bench step`: {found['customers']} customers, {found['positives']} positives and "
        f"{found['negatives']} negatives for each, d {found['width']}, SGD; medians of {found['repeats']} "
        "interleaved turns. Noise included: on a grid and untruncated for sparse, torch's for Opacus. "
        "Peak: memory in a process of its own beyond the model and the batch; hooks where it fits.",
        "",
        *timing.table(heads, lines),
        "",
        timing.machine_line(found),
    ]


def peak_bytes(way: Way, items: int) -> int:
    """The most memory that steps take beyond the model and the batch, measured in a fresh process."""
    code = f"from hansa_simulations.bench import step; print(step.peak_here({way!r}, {items}))"
    return int(timing.alone(code))


def peak_here(way: Way, items: int) -> int:
    """The same in this process, which should be a fresh one (Linux)."""
    torch.set_num_threads(THREADS)
    _take(_make(way, 1_000), batch(1_000), 1)  # whatever libraries keep for themselves
    step, rows = _make(way, items), batch(items)
    start = reset_peak_memory()
    _take(step, rows, 3)
    return int(2**20 * (peak_memory() - start))


def _make(way: Way, items: int) -> Callable[..., None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return stepper(way, Sampled(items), **_SETTINGS)  # type: ignore[arg-type]


def _timer(way: Way, items: int) -> timing.Measure:
    return partial(_take, _make(way, items), batch(items), 1 if way == "hooks" or items > 100_000 else 5)


def _take(step: Callable[..., None], rows: Tensor, times: int) -> float:
    with warnings.catch_warnings():  # of Opacus's hooks, that the input needs no gradient
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        for _ in range(times):
            step(rows)
        return (time.perf_counter() - start) / times


def _hooks_fit(items: int) -> bool:
    return bool(4 * 4 * CUSTOMERS * items * WIDTH < psutil.virtual_memory().available)
