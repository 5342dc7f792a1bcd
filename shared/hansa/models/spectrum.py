"""The largest eigenvalues of a noisy symmetric matrix, and no more of them than are wanted.

Few are wanted where only signal sticks out of the noise: then a block of vectors is filtered by Chebyshev
polynomials and projected (Zhou and Saad 2007; Halko, Martinsson and Tropp 2011, arXiv 0909.4061), which
takes a handful of products with the matrix. Where many are, LAPACK's MRRR finds those in a range.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import torch
from torch import Tensor

from hansa.rng import seeded_generator

Floats = npt.NDArray[np.float32]

BLOCK = 96
"""Vectors that are filtered together; two thirds of them may be wanted."""
_WANTED = 2 * BLOCK // 3
_SMALL = 512  # below this LAPACK is as quick
_DEGREE = 5
_SWEEPS = 8
_CLOSE = 1e-3  # residual, as a share of the largest eigenvalue


def leading(matrix: Floats, above: float, most: int, radius: float = 0.0) -> tuple[Floats, Floats]:
    """The largest eigenvalues, each above a bound, with their vectors.

    Args:
        matrix: float32 [n, n], symmetric.
        above: Eigenvalues at or below it are not wanted.
        most: Of those above it, how many at most.
        radius: Nothing lies further below zero than this, or hardly; the noise's spectral radius.

    Returns:
        float32 [r], largest first, and float32 [n, r], with r <= ``most``.
    """
    if len(matrix) > _SMALL:
        found = _by_blocks(torch.from_numpy(matrix), above, min(most, len(matrix)), radius)
        if found is not None:
            return found
    return _by_lapack(matrix, above, most)


def _by_blocks(matrix: Tensor, above: float, most: int, radius: float) -> tuple[Floats, Floats] | None:
    """None where more are wanted than a block is good for, or where they do not settle."""
    start = seeded_generator(0, "spectrum").standard_normal((len(matrix), BLOCK)).astype(np.float32)
    block, cut, largest = torch.from_numpy(start), 0.0, 0.0
    for sweep in range(_SWEEPS):
        block = _filter(matrix, block, -radius, cut, largest) if sweep else matrix @ block
        block = torch.linalg.qr(block).Q
        product = matrix @ block
        values, turn = torch.linalg.eigh(block.T @ product)
        values, turn = values.flip(0), turn.flip(1)
        block, product = block @ turn, product @ turn
        wanted = min(int((values > above).sum()), most)
        if wanted > _WANTED:
            return None
        if sweep:  # the first one has hardly looked
            errors = torch.linalg.vector_norm(product - block * values, dim=0)
            kept = errors * (1 - above / values)  # a vector that the bound nearly removes need not be exact
            if not wanted or float(kept[:wanted].max()) <= _CLOSE * float(values[0]):
                return values[:wanted].numpy(), block[:, :wanted].numpy()
        cut, largest = max(float(values[-1]), -radius), float(values[0])
    return None


def _filter(matrix: Tensor, block: Tensor, low: float, high: float, largest: float) -> Tensor:
    """T_k of the matrix, mapped so that [low, high] stays within 1 and what lies above grows fastest."""
    centre, half = (low + high) / 2, max((high - low) / 2, largest / 100, 1e-30)  # else it could overflow
    before, now = block, (matrix @ block - centre * block) / half
    for _ in range(_DEGREE - 1):
        back = before + (2 * centre / half) * now
        before, now = now, torch.addmm(back, matrix, now, beta=-1, alpha=2 / half)
    return now


def _by_lapack(matrix: Floats, above: float, most: int) -> tuple[Floats, Floats]:
    size = len(matrix)
    asked: dict[str, Any] = {"subset_by_index": (size - most, size - 1)} if most < size else {}
    if above > 0:
        asked = {"subset_by_value": (above, np.inf)}
    values, vectors = scipy.linalg.eigh(matrix.T, driver="evr", **asked)
    chosen = np.flatnonzero(values > above)[::-1][:most]
    return values[chosen], vectors[:, chosen]
