"""The door's Opacus back end: an Opacus optimiser whose every step is one private sum.

Opacus keeps per-sample gradients as a tensor [samples, *parameter]; for a table of embeddings and
customers as samples that tensor is far too large. Here the gradients of all customers stay in the sparse
forms of ``hansa.dp.clipping`` and only their clipped sum is ever materialised.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.optim import Optimizer

from hansa.dp.private_sum import Contribution, Door, Release, Table
from hansa.dp.sparse_optimizer import SumOptimizer
from hansa.schema import Histories


class PrivateSumOptimizer(SumOptimizer):
    """DP-SGD (Abadi et al. 2016, arXiv 1607.00133, Algorithm 1) with the door doing everything private.

    Guarantee: each ``step`` is one ``Door.private_sum`` of ``release``, with its unit, adjacency and
    assumptions, charged before it is computed; whatever ``optimizer`` does with it is post-processing.

    Args:
        optimizer: Any torch optimiser over exactly one parameter [release.rows, release.width].
        door: The shop's door.
        release: What each step discloses.
        contribution: The customers' gradients at the parameter's present value.
        histories: All of the shop's customers.
        expected: Declared number of customers expected to take part, the denominator of the mean.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        door: Door,
        release: Release,
        contribution: Callable[[Table], Contribution],
        histories: Histories,
        expected: float,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=release.noise_multiplier,
            max_grad_norm=release.bound,
            expected_batch_size=max(1.0, expected),
        )
        self._sum: Callable[[Table], Table] = lambda table: door.private_sum(
            release, contribution(table), histories
        )

    def clip_and_accumulate(self) -> None:
        """The private sum at the parameter's present value."""
        (table,) = self.params
        table.summed_grad = torch.from_numpy(self._sum(table.detach().numpy()))

    def add_noise(self) -> None:
        """Nothing more: the door has added the noise, or leaves that to the coordinator."""
        (table,) = self.params
        table.grad = table.summed_grad
