"""Optimiser and engine for ``SparseGradSampleModule``: Opacus's, with Hansa's clipping and noise."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from opacus import PrivacyEngine
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from hansa.dp.clipping import Contributions, RowContributions, clip
from hansa.dp.noise import GridGaussian
from hansa.dp.sparse_clipping import Call, SparseGradSampleModule, contributions, customers_in
from hansa.rng import Generator, system_generator


@dataclass(frozen=True)
class _Sum:
    """A clipped sum: all of a table, or of a few of its rows.

    Attributes:
        rows: int64 [r], increasing; None: all rows.
        values: float64 [r, width].
    """

    rows: Tensor | None
    values: Tensor

    def __add__(self, other: _Sum) -> _Sum:
        if self.rows is None or other.rows is None:
            return _Sum(None, self.values + other.values)
        rows, inverse = torch.unique(torch.cat([self.rows, other.rows]), return_inverse=True)
        values = self.values.new_zeros(len(rows), self.values.shape[1])
        return _Sum(rows, values.index_add_(0, inverse, torch.cat([self.values, other.values])))


def _sum(parameter: Parameter, part: Contributions, scale: Tensor) -> _Sum:
    if isinstance(part, RowContributions):
        return _Sum(*part.row_sums(scale))
    height = len(parameter)
    total = torch.zeros(height, parameter.numel() // height, dtype=torch.float64)
    part.add_to(total, scale)
    return _Sum(None, total)


class SumOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus's optimiser where no per-sample gradients exist, only their clipped sum."""

    @property
    def grad_samples(self) -> list[Tensor]:
        """One entry a parameter, for Opacus's own bookkeeping."""
        return list(self.params)

    @property
    def accumulated_iterations(self) -> int:
        """Every step is one batch."""
        return 1


class SparseDPOptimizer(SumOptimizer):
    """DP-SGD (Abadi et al. 2016, arXiv 1607.00133, Algorithm 1) for modules in a ``SparseGradSampleModule``.

    Use it like Opacus's ``DPOptimizer``: zero_grad, backward, step; ``attach_step_hook`` for an accountant;
    ``signal_skip_step`` for a batch in parts. The gradient of every parameter is the noisy sum (divided by
    ``expected_batch_size`` for a mean loss), in a buffer that is used again in every step.

    Guarantee: unit one customer, an index of the first dimension of every layer's input; adjacency add or
    remove one. A step is a Gaussian mechanism of ``noise_multiplier`` (``GridGaussian``) on the sum of the
    customers' gradients, clipped to ``max_grad_norm`` over all parameters together. Assumes that a
    customer's loss depends on that customer and the parameters alone, and a secret ``noise``. An empty
    batch, or one without backward pass, still adds noise.

    Args:
        optimizer: Any torch optimiser over parameters of the wrapped module.
        noise_multiplier: Standard deviation of the noise over ``max_grad_norm``.
        max_grad_norm: The bound C.
        expected_batch_size: Divides the sum for ``loss_reduction`` "mean"; public.
        loss_reduction: As given to the module.
        noise: Where the noise's key comes from; None: the operating system.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: float | None,
        loss_reduction: str = "mean",
        noise: Generator | None = None,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
            loss_reduction=loss_reduction,
        )
        self._noise = noise or system_generator()
        self._buffers: dict[Parameter, Tensor] = {}

    @property
    def mechanism(self) -> GridGaussian:
        """The noise of a step, over all parameters together."""
        entries = sum(parameter.numel() for parameter in self.params)
        return GridGaussian(self.max_grad_norm, self.noise_multiplier * self.max_grad_norm, entries)

    def clip_and_accumulate(self) -> None:
        """Add the clipped sum of the batch to ``summed_grad`` and forget the customers' gradients."""
        received = {p: p.grad_sample for p in self.params if getattr(p, "grad_sample", None)}
        self._refuse_bypassing()
        calls: list[Call] = list(chain.from_iterable(received.values()))
        customers = customers_in(calls)
        if customers:
            # Short work. Threads that helped would spin for milliseconds, on the core that the noise needs.
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                self._accumulate(received, float(customers) if calls[0].mean else 1.0)
            finally:
                torch.set_num_threads(threads)
        for parameter in self.params:
            parameter.grad_sample = None

    def _accumulate(self, received: Mapping[Parameter, Sequence[Call]], times: float) -> None:
        parts = [contributions(parameter, its_calls) for parameter, its_calls in received.items()]
        kept, scale = clip(parts, self.mechanism.contribution_bound, times)
        for parameter, part in zip(received, kept, strict=True):
            its_sum, so_far = _sum(parameter, part, scale), getattr(parameter, "summed_grad", None)
            parameter.summed_grad = its_sum if so_far is None else so_far + its_sum  # type: ignore[attr-defined]

    def add_noise(self) -> None:
        """Write the noisy sum into ``grad``, divided by the expected batch size for a mean loss."""
        mechanism = self.mechanism
        times = 1.0 if self.loss_reduction == "sum" else 1.0 / self.expected_batch_size
        for parameter in self.params:
            buffer = self._buffers.setdefault(parameter, torch.empty_like(parameter, requires_grad=False))
            table = buffer.view(len(buffer), -1)
            total = parameter.summed_grad or _Sum(
                torch.zeros(0, dtype=torch.int64), torch.zeros(0, table.shape[1], dtype=torch.float64)
            )
            mechanism.fill(table, total.values, self._noise, rows=total.rows, times=times)
            parameter.grad, parameter.summed_grad = buffer, None

    def scale_grad(self) -> None:
        """Nothing more: ``add_noise`` has divided, which saves a pass over the tables."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop gradients, and batches that have not been stepped with; parts of a batch stay."""
        for parameter in self.params:
            parameter.grad = parameter.grad_sample = None
            if not self._is_last_step_skipped:
                parameter.summed_grad = None

    def _refuse_bypassing(self) -> None:
        for parameter in self.params:
            calls = getattr(parameter, "grad_sample", None) or []
            tables = any(isinstance(call.layer, nn.Embedding) for call in calls)
            if tables and parameter.grad is not None and parameter.grad is not self._buffers.get(parameter):
                raise ValueError(
                    "an embedding's weight is used directly in the loss, past its layer: call the embedding "
                    "with the rows that each customer needs"
                )


class SparsePrivacyEngine(PrivacyEngine):  # type: ignore[misc]
    """Opacus's ``PrivacyEngine`` with ``make_private`` giving the sparse module and optimiser.

    Coins of the Poisson sampling are seeded by the operating system. Opacus derives the sampling rate from
    the length of the loader, 1 / len(loader).
    """

    def __init__(self, *, accountant: str = "prv") -> None:
        with warnings.catch_warnings():  # it says that its own generators are not secure; none is used
            warnings.simplefilter("ignore", UserWarning)
            super().__init__(accountant=accountant)
        self.secure_rng = torch.Generator()
        self.secure_rng.manual_seed(int(system_generator().integers(2**63)))

    def _prepare_model(
        self, module: nn.Module, *, loss_reduction: str = "mean", **_: Any
    ) -> SparseGradSampleModule:
        if isinstance(module, SparseGradSampleModule):
            return module
        self.validate(module=module, optimizer=None, data_loader=None)
        return SparseGradSampleModule(module, loss_reduction=loss_reduction)

    def _prepare_optimizer(
        self,
        *,
        optimizer: Optimizer,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: float,
        loss_reduction: str = "mean",
        **_: Any,
    ) -> SparseDPOptimizer:
        if isinstance(optimizer, DPOptimizer):
            optimizer = optimizer.original_optimizer
        return SparseDPOptimizer(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
            loss_reduction=loss_reduction,
        )
