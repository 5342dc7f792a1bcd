"""The largest eigenvalues of a noisy symmetric matrix, and no more of them than are wanted.

Only what sticks out of the noise is wanted, a small part of the spectrum: block Lanczos with full
reorthogonalisation (Golub and Underwood 1977; from a random block, Musco and Musco 2015, arXiv 1504.05477)
finds it in a few dozen products with the matrix. Where it does not settle, LAPACK takes over.
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

_BLOCK = 32
_SMALL = 1024  # up to here LAPACK is as quick
_FIRST = 4 * _BLOCK  # a smaller subspace has not seen enough to judge
_LARGEST = 0.2  # of the whole space; what needs more is left to LAPACK
_CLOSE = 2e-3


def leading(matrix: Floats, above: float, most: int) -> tuple[Floats, Floats]:
    """The largest eigenvalues, each above a bound, with their vectors.

    They are for lowering by the bound, l - above: the less that leaves of one, the less exact it is.

    Args:
        matrix: float32 [n, n], symmetric.
        above: Eigenvalues at or below it are not wanted.
        most: Of those above it, how many at most.

    Returns:
        float32 [r], largest first, and float32 [n, r], with r <= ``most``.
    """
    if len(matrix) > _SMALL:
        found = _by_lanczos(torch.from_numpy(matrix), above, min(most, len(matrix)))
        if found is not None:
            return found
    return _by_lapack(matrix, above, most)


def _by_lanczos(matrix: Tensor, above: float, most: int) -> tuple[Floats, Floats] | None:
    """None where the wanted ones do not settle before the subspace is a large part of the whole."""
    size = len(matrix)
    blocks = int(_LARGEST * size) // _BLOCK
    basis = torch.empty(size, (blocks + 1) * _BLOCK)
    projected = torch.zeros(blocks * _BLOCK, blocks * _BLOCK)
    start = seeded_generator(0, "spectrum").standard_normal((size, _BLOCK)).astype(np.float32)
    basis[:, :_BLOCK] = torch.linalg.qr(torch.from_numpy(start)).Q
    next_look = _FIRST
    for width in range(_BLOCK, blocks * _BLOCK + 1, _BLOCK):
        known = basis[:, :width]
        block = matrix @ known[:, -_BLOCK:]
        inside = known.T @ block
        projected[:width, width - _BLOCK : width] = inside
        projected[width - _BLOCK : width, :width] = inside.T
        block -= known @ inside
        block -= known @ (known.T @ block)  # once is not enough in float32
        beyond = torch.linalg.qr(block)
        if width >= next_look:
            next_look = int(1.15 * width)
            values, turn = (found.flip(-1) for found in torch.linalg.eigh(projected[:width, :width]))
            misses = torch.linalg.vector_norm(beyond.R @ turn[-_BLOCK:], dim=0)  # |G v - l v| of each
            left = (values + misses - above).clamp(min=0) / values.abs().clamp(min=1e-30)
            errors = misses / values.abs().clamp(min=1e-30) * left
            wanted = int((values > above).sum())
            if (wanted < width or width >= most) and not bool((errors[:most] > _CLOSE).any()):
                chosen = min(wanted, most)
                return values[:chosen].numpy(), (known @ turn[:, :chosen]).numpy()
        following = beyond.Q - known @ (known.T @ beyond.Q)  # where the block was nearly zero Q is anything
        basis[:, width : width + _BLOCK] = torch.linalg.qr(following).Q
    return None


def _by_lapack(matrix: Floats, above: float, most: int) -> tuple[Floats, Floats]:
    size = len(matrix)
    asked: dict[str, Any] = {"subset_by_index": (size - most, size - 1)} if most < size else {}
    if above > 0:
        asked = {"subset_by_value": (above, np.inf)}
    values, vectors = scipy.linalg.eigh(matrix.T, driver="evr", **asked)
    chosen = np.flatnonzero(values > above)[::-1][:most]
    return values[chosen], vectors[:, chosen]
