"""How others' numbers are rounded must not show in anybody's contribution."""

import numpy as np
import torch

from hansa.dp.clipping import clipped_sum
from hansa.models.dpals import Dpals
from hansa.models.hybrid import REFINEMENT, Hybrid
from hansa.rng import seeded_generator
from hansa.schema import Histories


def pack(rows, n_items):
    customers = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return Histories.from_pairs(customers, np.concatenate([np.array(r) for r in rows]), len(rows), n_items)


def cancelling(rows: int, width: int) -> np.ndarray:
    """Rows whose entries cancel, so that a product with ones is nothing but its rounding."""
    rng = seeded_generator(3, "cancelling")
    base = (1e6 * rng.standard_normal(width // 2)).astype(np.float32)
    found = np.zeros((rows, width), dtype=np.float32)
    for row in found:
        row[: 2 * len(base)] = rng.permutation(np.concatenate([base, -base]))
    return found


def test_rounding_does_not_tell_how_many_others_there_are():
    """The last of 257 customers is a chunk of its own, until somebody of the first chunk is removed."""
    rng, items = seeded_generator(4, "rounding"), 300
    hybrid = Hybrid(
        items, vocabulary=items, refinement_share=0.5, refinement_rounds=1, dimensions=32, rank=64
    )
    outputs = hybrid.initial_state(rng) | {"embeddings": np.full((items, 64), 0.1, dtype=np.float32)}
    outputs[REFINEMENT] = cancelling(*outputs[REFINEMENT].shape)
    dpals = Dpals(items, vocabulary=items, dimensions=16, iterations=1, exponent=0.0)
    half = (1e3 * rng.standard_normal((items // 2, 16))).astype(np.float32)
    opposite = dpals.initial_state(rng) | {"items": np.stack([half, -half], axis=1).reshape(items, 16)}
    short = [tuple(rng.permutation(10)[:5].tolist()) for _ in range(257)]
    paired = [
        tuple((2 * p + s) for p in rng.permutation(items // 2)[:40] for s in (0, 1)) for _ in range(257)
    ]
    for method, state, people in ((hybrid, outputs, short), (dpals, opposite, paired)):
        round_ = len(method.releases())
        release = method.releases()[-1]

        def total(rows, method=method, state=state, round_=round_, release=release):
            sum_ = torch.zeros(release.rows, release.width, dtype=torch.float64)
            chunks = pack(rows, items).chunks(256)
            return clipped_sum((method.contribution(round_, release, state, c) for c in chunks), 1.0, sum_)

        everybody = total(people)
        for gone in (0, 100, 255):
            assert float((everybody - total(people[:gone] + people[gone + 1 :])).norm()) <= 1 + 1e-6
