"""The same clipped sum by Opacus's own hooks or ghost clipping: slower, kept to be compared with.

An item table W that scores customers as ``W f_u`` is a linear layer without bias, and the outer product
that a customer contributes is its per-sample gradient.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Literal

import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from torch import Tensor, nn

from hansa.dp.clipping import Contributions, OuterContributions, RowContributions, clipped_sum
from hansa.errors import UsageError

Mode = Literal["hooks", "ghost"]
_OPACUS_SLACK = 1e-6  # what its optimisers add to a norm before they divide by it

# True of this layer, whose inputs are constants, and of no consequence: the hooks get what they need.
warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)


def opacus_clipped_sum(chunks: Iterable[Contributions], bound: float, total: Tensor, mode: Mode) -> Tensor:
    """``clipped_sum`` computed by Opacus, equal to it within rounding.

    Guarantee: that of ``clipped_sum``, up to the rounding of Opacus's float32 norms.

    Args:
        chunks: Contributions of all customers: outer products over the whole table. Sums of a few rows a
            customer, such as counts, come from no layer and are taken as ever.
        bound: The clipping bound C > 0.
        total: float [rows, width], usually zeros.
        mode: ``hooks`` materialises [customers, rows, width]; ``ghost`` takes a second backward pass.

    Raises:
        UsageError: The contributions have another form.
    """
    for contributions in chunks:
        if isinstance(contributions, RowContributions):
            clipped_sum([contributions], bound, total)
            continue
        if not isinstance(contributions, OuterContributions) or (
            contributions.rows is not None or contributions.extra is not None
        ):
            raise UsageError(
                f"engine.clipping={mode}: only for dpsgd with the whole catalogue as candidates; use sparse"
            )
        finite = contributions.squared_norms().isfinite()[:, None]
        factors = torch.where(finite, contributions.factors, 0.0)
        errors = torch.where(finite, contributions.coefficients, 0.0)
        with torch.enable_grad():
            total += _hooks(factors, errors, bound) if mode == "hooks" else _ghost(factors, errors, bound)
    return total


def _layer(factors: Tensor, errors: Tensor) -> nn.Linear:
    # Scores do not depend on the weights' values here: the errors, their gradient, are given.
    return nn.Linear(factors.shape[1], errors.shape[1], bias=False)


def _hooks(factors: Tensor, errors: Tensor, bound: float) -> Tensor:
    model = GradSampleModule(_layer(factors, errors), loss_reduction="sum")
    model(factors).backward(errors)
    samples: Tensor = model._module.weight.grad_sample
    scale = (bound / (samples.flatten(1).norm(dim=1) + _OPACUS_SLACK)).clamp(max=1.0)
    return torch.einsum("i,i...", scale, samples)


def _ghost(factors: Tensor, errors: Tensor, bound: float) -> Tensor:
    model = GradSampleModuleFastGradientClipping(
        _layer(factors, errors), loss_reduction="sum", max_grad_norm=bound, use_ghost_clipping=True
    )
    losses = (model(factors) * errors).sum(dim=1)
    losses.sum().backward(retain_graph=True)
    model.zero_grad()
    model.disable_hooks()
    (model.get_clipping_coef() * losses).sum().backward()
    gradient: Tensor = model._module.weight.grad
    return gradient
