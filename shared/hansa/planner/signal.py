"""What a release can show above its noise, under a public assumption about what customers buy.

Assumption: every customer has the same number k of different items, drawn independently with popularity
proportional to 1 / rank (Zipf). Then the item of rank r is with a share pi_r of the customers. No data is
touched: only public figures enter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hansa.dp.private_sum import Release
from hansa.models.cooccurrence import PAIRS
from hansa.models.popularity import COUNTS


@dataclass(frozen=True)
class Signal:
    """The expected size of a sum against the standard deviation of its noise.

    Attributes:
        what: The quantity that is compared.
        customers: Customers in the sum.
        signal: Its expected value, in units of a customer's bound.
        noise: Its noise, in the same units.
        visible: Of counts, the items whose expected count is above twice the noise; else None.
    """

    what: str
    customers: int
    signal: float
    noise: float
    visible: int | None = None

    @property
    def ratio(self) -> float:
        """Signal to noise; infinite without noise."""
        return self.signal / self.noise if self.noise else math.inf


def shares(items: int, history: int) -> npt.NDArray[np.float64]:
    """pi_r, the expected share of customers with the item of each rank: float64 [items]."""
    popularity = 1.0 / np.arange(1, items + 1)
    popularity /= popularity.sum()
    return np.asarray(-np.expm1(history * np.log1p(-np.minimum(popularity, 1 - 1e-12))))


def expect(release: Release, items: int, history: int, customers: int, sums: float = 1) -> Signal:
    """What one release shows of ``customers`` customers.

    - Counts: the best seller's, n pi_1 / sqrt(k), against the noise of one count.
    - Pairs (x x^T without its diagonal, at Frobenius norm 1, of each customer over the K best sellers): the
      largest eigenvalue, about n (1 - 1 / k) (sum pi^2 - sum pi^4 / sum pi^2) / sqrt(k' (k' - 1)), k' of a
      customer's items being among them, 2 at least, against the spectral radius sqrt(2 K) sigma of the
      symmetric noise. That order weighs some pairs more is left out.
    - A table of gradients: at most n |pi| / sqrt(k), the largest singular value if all customers' vectors
      pointed the same way, against sigma (sqrt(rows) + sqrt(width)), the noise's. Over T rounds, what
      stays the same gains by sqrt(T).

    Args:
        release: The release with the noise of one complete sum.
        items: Size of the catalogue.
        history: k, items of a customer.
        customers: n.
        sums: Noisy sums that are added up, e.g. one a shop under local DP.
    """
    noise = release.noise_multiplier * math.sqrt(sums)
    taking_part = customers * release.sampling_rate
    share = shares(items, history)
    norm = math.sqrt(float(share.sum())) or 1.0
    if release.name == COUNTS:
        counts = taking_part * share / norm
        visible = int((counts >= 2 * noise).sum())
        return Signal("best seller's count", customers, float(counts[0]), noise, visible)
    if release.name == PAIRS:
        vocabulary = (1 + math.isqrt(1 + 8 * release.rows)) // 2  # rows = K (K - 1) / 2
        share = share[:vocabulary]
        among, square = max(2.0, float(share.sum())), float((share**2).sum())
        off_diagonal = (1 - 1 / history) * (square - float((share**4).sum()) / square)
        top = taking_part * off_diagonal / math.sqrt(among * (among - 1))
        return Signal("largest eigenvalue", customers, top, noise * math.sqrt(2 * vocabulary))
    largest = taking_part * float(np.linalg.norm(share)) / norm
    radius = noise * (math.sqrt(release.rows) + math.sqrt(release.width))
    return Signal("largest singular value, at most", customers, largest, radius)
