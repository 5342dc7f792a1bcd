"""One DP-SGD step by Opacus's own ghost clipping or hooks: what the sparse optimiser is measured against."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from torch import Tensor, nn
from torch.optim import SGD

from hansa.dp.sparse_clipping import SparseGradSampleModule
from hansa.dp.sparse_optimizer import SparseDPOptimizer

Way = Literal["sparse", "ghost", "hooks", "dense"]
WAYS: tuple[Way, ...] = ("dense", "sparse", "ghost", "hooks")


def stepper(
    way: Way, model: nn.Module, *, rate: float, noise_multiplier: float, bound: float, expected: int
) -> Callable[..., None]:
    """A function that takes one step of SGD on the mean loss of a batch.

    Args:
        way: ``dense`` for an ordinary step without clipping and noise; else how gradients are clipped.
        model: Gives one loss a customer; its embedding is called once. It is trained in place.
        rate: Learning rate.
        noise_multiplier: Standard deviation of the noise over ``bound``.
        bound: The clipping bound.
        expected: Divides the noisy sum.
    """
    plain = SGD(model.parameters(), lr=rate)
    if way == "dense":
        return partial(_step, model, plain)
    private = {
        "noise_multiplier": noise_multiplier,
        "max_grad_norm": bound,
        "expected_batch_size": expected,
    }
    if way == "sparse":
        return partial(_step, SparseGradSampleModule(model), SparseDPOptimizer(plain, **private))  # type: ignore[arg-type]
    if way == "hooks":
        return partial(_step, GradSampleModule(model), DPOptimizer(plain, **private))
    module = GradSampleModuleFastGradientClipping(model, max_grad_norm=bound, use_ghost_clipping=True)
    return partial(_ghost_step, module, DPOptimizerFastGradientClipping(plain, **private))


def _step(module: nn.Module, optimizer: torch.optim.Optimizer, *batch: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    module(*batch).mean().backward()
    optimizer.step()


def _ghost_step(
    module: GradSampleModuleFastGradientClipping, optimizer: DPOptimizerFastGradientClipping, *batch: Tensor
) -> None:
    optimizer.zero_grad(set_to_none=True)
    DPTensorFastGradientClipping(module, optimizer, module(*batch), "mean").backward()
    optimizer.step()
