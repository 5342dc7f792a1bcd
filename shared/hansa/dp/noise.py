"""Gaussian noise for private sums."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hansa.rng import Generator

_BLOCK = 1 << 20


def add_gaussian(total: Tensor, standard_deviation: float, generator: Generator) -> Tensor:
    """Add independent N(0, standard_deviation^2) to every entry of ``total`` in place.

    Samples are numpy's float64 ziggurat, whose tail is not truncated (torch's float32 normal ends at
    5.77 standard deviations), drawn block by block so that memory stays small.

    Guarantee: the Gaussian mechanism for a ``total`` of sensitivity C has noise multiplier
    ``standard_deviation / C``. The rounding of floating-point sums is not defended against here.

    Args:
        total: float [rows, width], contiguous.
        standard_deviation: At least 0; 0 leaves ``total`` alone.
        generator: ``hansa.rng.system_generator()`` wherever the guarantee matters.
    """
    if standard_deviation < 0 or not np.isfinite(standard_deviation):
        raise ValueError(f"standard deviation must be finite and not negative, not {standard_deviation}")
    if standard_deviation:
        flat = total.view(-1)
        for start in range(0, len(flat), _BLOCK):
            block = flat[start : start + _BLOCK]
            block += torch.from_numpy(generator.standard_normal(len(block)) * standard_deviation)
    return total
