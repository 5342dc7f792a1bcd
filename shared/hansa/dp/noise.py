"""Gaussian noise on a grid: cryptographic bits, an untruncated normal, and no floating-point fingerprints.

Real numbers do not fit a computer, and textbook Gaussian noise leaks through the gaps (Mironov 2012; Jin et
al. 2022, arXiv 2112.05307). Here sums are rounded to a public grid, the noise is a multiple of the same grid,
and both are added exactly. docs/noise.md has the argument and what it leaves open.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hansa.rng import Generator, Keystream

Floats = npt.NDArray[np.float64]

_BLOCK = 1 << 16  # normals at a time: the working set stays in the cache
_FINENESS = 26  # bits of the grid below the noise's own size
_FEW = 2 * _BLOCK  # below this, threads cost more than they gain
# Taylor's series of sin(pi / 4 x) in odd powers of x; the first term left out is below 5e-17 for |x| <= 1.
_SINE = [(-1) ** k * (math.pi / 4) ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(8)]


@dataclass(frozen=True)
class GridGaussian:
    """The Gaussian mechanism, released on a grid.

    The release is round(S) + round(N) for the exact sum S and N ~ N(0, deviation^2), where round goes to the
    nearest multiple of ``spacing``. Since round(S) is a multiple itself, that equals round(round(S) + N): a
    function of the ideal mechanism on round(S), which costs no privacy. Rounding may move two neighbouring
    sums apart, by ``spacing`` in each entry at most; ``contribution_bound`` keeps room for that.

    Guarantee: with contributions of L2 norm at most ``contribution_bound``, summed in float64 as
    ``clipped_sum`` does, the release has the epsilon of a Gaussian of noise multiplier deviation / bound for
    adding or removing one customer, up to the quality of the normals (docs/noise.md gives a bound), provided
    that the generator is secret.

    Attributes:
        bound: What one customer may change in the released, rounded sum, in L2 norm.
        deviation: Standard deviation of the noise; 0 releases the sum as it is.
        entries: Numbers released together.
    """

    bound: float
    deviation: float
    entries: int

    def __post_init__(self) -> None:
        if not 0 <= self.deviation < math.inf:
            raise ValueError(f"standard deviation must be finite and not negative, not {self.deviation}")

    @property
    def spacing(self) -> float:
        """The grid's step: a power of two, 2^-27 to 2^-26 deviations; less for absurdly large noise."""
        if not self.deviation:
            return 0.0
        usual = math.frexp(self.deviation)[1] - 1 - _FINENESS
        at_most = math.frexp(self.bound / (2 * math.sqrt(max(1, self.entries))))[1] - 1
        return math.ldexp(1.0, min(usual, at_most))

    @property
    def contribution_bound(self) -> float:
        """What is left of ``bound`` for a contribution, after rounding's spacing * sqrt(entries)."""
        return self.bound - self.spacing * math.sqrt(self.entries)

    def release(self, total: Tensor, generator: Generator) -> Tensor:
        """The noisy sum: float32 of the shape of ``total``, which is float [rows, width], contiguous."""
        if not self.deviation:
            return total.to(torch.float32)
        out = torch.empty(total.numel(), 1)
        self.fill(out, total.view(-1, 1), generator)
        return out.view(total.shape)

    def fill(
        self,
        out: Tensor,
        sums: Tensor,
        generator: Generator,
        rows: Tensor | None = None,
        times: float = 1.0,
    ) -> None:
        """Overwrite a table with the release of a sum, which is zero but for some rows.

        Args:
            out: float [n, width], contiguous; what is there already is lost.
            sums: float64 [r, width].
            generator: Secret, wherever the guarantee matters.
            rows: int64 [r], increasing, without repeats; None: all of them.
            times: Multiplies the release, after everything else.
        """
        if self.deviation:
            chosen = None if rows is None else rows.numpy()
            self._fill(out.numpy(), sums.numpy(), generator, chosen, times)
        elif rows is None:
            out.copy_(sums * times)
        else:
            out.zero_()[rows] = (sums * times).to(out.dtype)

    def _fill(
        self,
        out: npt.NDArray[Any],
        sums: npt.NDArray[Any],
        generator: Generator,
        rows: npt.NDArray[np.int64] | None,
        times: float,
    ) -> None:
        height, width = out.shape
        step = max(1, _BLOCK // width)
        keystream = Keystream(generator)
        spacing, scale = self.spacing, self.deviation / self.spacing

        def fill_every(first: int, stride: int) -> None:
            normals = _Normals(step * width, keystream)
            for block in range(first, math.ceil(height / step), stride):
                low, high = block * step, min((block + 1) * step, height)
                drawn = normals.draw(block, scale)
                noise = drawn[: (high - low) * width].reshape(high - low, width)
                np.rint(noise, out=noise)
                if rows is None:
                    noise += np.rint(sums[low:high] / spacing)
                else:
                    some = slice(*np.searchsorted(rows, (low, high)))
                    noise[rows[some] - low] += np.rint(sums[some] / spacing)
                np.multiply(noise, spacing * times, out=out[low:high], casting="same_kind")

        threads = min(torch.get_num_threads(), 2) if height * width >= _FEW else 1
        if threads == 1:
            fill_every(0, 1)
        else:  # every block has its own part of the stream: the result is the same
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(fill_every, range(threads), [threads] * threads))


class _Normals:
    """Normals by Box and Muller (1958): signed radius and half an angle from a pair of 64-bit words.

    The tail ends at 9.49 standard deviations, beyond which an exact normal lies once in 10^20 (torch's
    float32 normal ends at 5.77). Arithmetic is float64, with errors below 2^-48 standard deviations.
    """

    def __init__(self, size: int, keystream: Keystream) -> None:
        half = (size + 1) // 2
        self._keystream = keystream
        self._words = np.empty((2, half), dtype=np.uint64)
        self._buffers = np.empty((4, half))
        self._pairs = np.empty((2, half))

    def draw(self, block: int, deviation: float) -> Floats:
        """A block's normals, in a buffer that the next call overwrites: float64 [size or one more]."""
        words, (radius, angle, square, sine), pairs = self._words, self._buffers, self._pairs
        self._keystream.fill(block, words)
        np.copyto(square, words[0].view(np.int64))
        np.abs(square, out=radius)
        radius *= 2.0**-63
        radius += 2.0**-65  # never zero
        np.log(radius, out=radius)
        radius *= -2.0 * deviation * deviation
        np.sqrt(radius, out=radius)
        np.copysign(radius, square, out=radius)
        words[1] >>= np.uint64(12)
        words[1] |= np.uint64(0x4000000000000000)  # as float64 in [2, 4)
        np.subtract(words[1].view(np.float64), 3.0, out=angle)  # in units of pi / 4
        np.multiply(angle, angle, out=square)
        np.multiply(square, _SINE[-1], out=sine)
        for coefficient in _SINE[-2:0:-1]:
            sine += coefficient
            sine *= square
        sine += _SINE[0]
        sine *= angle
        # The double angle, from -pi / 2 to pi / 2; the other half circle has a negative radius.
        np.multiply(sine, sine, out=square)
        np.subtract(1.0, square, out=angle)
        np.sqrt(angle, out=angle)
        angle *= sine
        angle *= 2.0
        np.multiply(angle, radius, out=pairs[1])
        square *= -2.0
        square += 1.0
        np.multiply(square, radius, out=pairs[0])
        return pairs.reshape(-1)
