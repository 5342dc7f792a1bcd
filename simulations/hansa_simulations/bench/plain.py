"""What a round of ``dpsgd`` costs without a federation: one vectorised loop in torch.

Nothing of Hansa's is used but its settings: no shops, messages, ledgers or checks. Customers are padded
into one matrix beforehand. With the same start and no noise it learns the same table as the engines.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from hansa.models.factorization import Factorization
from hansa.schema import Histories


class PlainLoop:
    """DP-SGD over all customers at once: normalised per-customer gradients, their noisy mean, Adam.

    Args:
        method: Hyperparameters; only plain ones, as in ``dpsgd``'s defaults, are understood.
        histories: All customers.
        table: float32 [items, d + 1], embeddings with biases; changed in place.
        customers: Denominator of the mean.
        noise_deviation: Standard deviation of the noise of a sum.
        chunk: Customers at a time.
    """

    def __init__(
        self,
        method: Factorization,
        histories: Histories,
        table: Tensor,
        customers: float,
        noise_deviation: float = 0.0,
        chunk: int = 128,
    ) -> None:
        newest = histories.newest(method.cap)
        lengths = torch.from_numpy(newest.lengths)
        self._mask = (torch.arange(int(lengths.max()))[None, :] < lengths[:, None]).float()
        self._items = torch.zeros(self._mask.shape, dtype=torch.int64)
        self._items[self._mask > 0] = torch.from_numpy(newest.items.astype(np.int64))
        self._method, self._customers, self._chunk = method, customers, chunk
        self._deviation = noise_deviation
        self.table = table
        self._first, self._second, self._step = torch.zeros_like(table), torch.zeros(()), 0

    def gradient(self) -> Tensor:
        """The sum of all customers' gradients, each of norm 1: float32 [items, d + 1]."""
        method, total = self._method, torch.zeros_like(self.table, dtype=torch.float64)
        embeddings = self.table[:, :-1].contiguous()
        gram = method.negative_weight * embeddings.T @ embeddings + method.ridge * torch.eye(
            embeddings.shape[1]
        )
        for start in range(0, len(self._items), self._chunk):
            items, mask = (padded[start : start + self._chunk] for padded in (self._items, self._mask))
            had = torch.nn.functional.embedding(items, embeddings) * mask[:, :, None]
            root = torch.linalg.cholesky(had.mT @ had + gram)
            vectors = torch.cholesky_solve(had.sum(dim=1)[:, :, None], root)[:, :, 0]
            factors = torch.cat([method.temperature * vectors, torch.ones(len(items), 1)], dim=1)
            errors = torch.softmax(factors @ self.table.T, dim=1)
            errors.scatter_add_(1, items, -mask / mask.sum(dim=1, keepdim=True))
            # Norms and sums in double precision, as everywhere: rounding must not exceed a bound.
            norms = torch.linalg.vector_norm(errors, dim=1, dtype=torch.float64)
            norms *= torch.linalg.vector_norm(factors, dim=1, dtype=torch.float64)
            total.addmm_(errors.double().T, factors / norms[:, None])
        return total.float()

    def round(self) -> None:
        """One step: gradient, noise, Adam with one second moment for the whole table."""
        method, self._step = self._method, self._step + 1
        total = self.gradient()
        if self._deviation:
            total += torch.randn_like(total) * self._deviation
        mean = total / self._customers
        decay, second = method.momentum, 0.99
        self._first = decay * self._first + (1 - decay) * mean
        self._second = second * self._second + (1 - second) * mean.square().mean()
        rate = method.rate * 0.5 * (1 + math.cos(math.pi * (self._step - 1) / method.gradient_rounds))
        scale = (self._second / (1 - second**self._step)).sqrt() + 1e-8
        self.table -= rate * self._first / (1 - decay**self._step) / scale
