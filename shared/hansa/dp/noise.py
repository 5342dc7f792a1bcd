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

_BLOCK = 1 << 17  # normals at a time: few enough for the cache, enough to keep threads apart
_FINENESS = 26  # bits of the grid below the noise's own size
_FEW = 4 * _BLOCK  # below this, threads cost more than they gain
_NEAR_ONE = 1 - 2.0**-4
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
        step = min(max(1, _BLOCK // width), max(1, height))
        keystream = Keystream(generator)
        spacing, scale = self.spacing, self.deviation / self.spacing

        blocks = iter(range(math.ceil(height / step)))  # shared, so that a thread that is held up does fewer

        def work() -> None:
            normals = _workspace(step * width)
            for block in blocks:
                low, high = block * step, min((block + 1) * step, height)
                drawn = normals.draw(keystream, block, scale)
                noise = drawn[: (high - low) * width].reshape(high - low, width)
                np.rint(noise, out=noise)
                some = slice(low, high) if rows is None else slice(*np.searchsorted(rows, (low, high)))
                steps, gathered = normals.scratch(sums[some].shape)
                np.multiply(sums[some], 1.0 / spacing, out=steps)
                np.rint(steps, out=steps)
                if rows is None or len(steps) == len(noise):
                    noise += steps
                else:
                    place = rows[some] - low
                    steps += np.take(noise, place, axis=0, out=gathered, mode="clip")  # else it copies
                    noise[place] = steps
                np.multiply(noise, spacing * times, out=out[low:high], casting="same_kind")
            _spare.setdefault(step * width, []).append(normals)

        if height * width < _FEW or torch.get_num_threads() == 1:
            work()
        else:  # every block has its own part of the stream: the result is the same
            with ThreadPoolExecutor(1) as pool:
                other = pool.submit(work)
                work()
                other.result()


_spare: dict[int, list[_Normals]] = {}  # fresh memory costs as much as the noise of a small table


def _workspace(size: int) -> _Normals:
    try:
        return _spare[size].pop()
    except (KeyError, IndexError):
        return _Normals(size)


class _Normals:
    """Normals by Box and Muller (1958): a signed radius from 64 bits and half an angle from 32.

    The tail ends at 9.49 standard deviations, beyond which an exact normal lies once in 10^20 (torch's
    float32 normal ends at 5.77). Arithmetic is float64; at a radius r it errs by less than 2^-50 (r + 3)
    standard deviations.
    """

    def __init__(self, size: int) -> None:
        half = size // 2 + 1
        self._bytes = np.empty(12 * half, dtype=np.uint8)
        self._radius_words = self._bytes[: 8 * half].view(np.int64)
        self._angle_words = self._bytes[8 * half :].view(np.int32)
        self._buffers = np.empty((3, half))
        self._pairs = np.empty((2, half))
        self._scratch = np.empty((2, size))

    def scratch(self, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
        """Two arrays of at most the size of a block, for whatever is done with the normals."""
        size = math.prod(shape)
        first, second = self._scratch[:, :size].reshape(2, *shape)
        return first, second

    def draw(self, keystream: Keystream, block: int, deviation: float) -> Floats:
        """A block's normals, in a buffer that the next call overwrites: float64 [size or a few more]."""
        (radius, square, sine), pairs = self._buffers, self._pairs
        signed, angle = pairs  # free until the end
        keystream.fill(block, self._bytes)
        np.copyto(signed, self._radius_words)
        np.abs(signed, out=radius)
        radius *= 2.0**-63
        radius += 2.0**-65  # never zero
        short = np.flatnonzero(radius > _NEAR_ONE)
        np.log(radius, out=radius)
        # Close to 1 the 64 bits did not fit a float; what is missing from 1 does.
        missing = np.uint64(1 << 63) - np.abs(self._radius_words[short]).astype(np.uint64)
        radius[short] = np.log1p(-(2.0**-63) * np.maximum(missing - 0.25, 0.0))
        radius *= -2.0 * deviation * deviation
        np.sqrt(radius, out=radius)
        np.copysign(radius, signed, out=radius)
        np.copyto(angle, self._angle_words)
        angle *= 2.0**-31  # in units of pi / 4
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
        sine *= 2.0
        sine *= radius
        angle *= sine
        square *= -2.0
        square += 1.0
        np.multiply(square, radius, out=signed)
        return pairs.reshape(-1)
