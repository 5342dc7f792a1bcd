"""A remove-one-customer probe: looks for models that break the bound which the accounting rests on.

A falsifier, not a proof. What it refuses is broken; what it passes kept the bound for the data and weights
that were tried, and may break it for others.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hansa.dp.sparse_clipping import Call, SparseGradSampleModule
from hansa.dp.sparse_optimizer import SparseDPOptimizer
from hansa.errors import UsageError
from hansa.rng import Generator, system_generator

Inputs = Callable[[list[int]], tuple[Tensor, ...]]
"""The module's inputs for a choice of synthetic customers, numbered from 0."""

_SIZES = (1.0, 0.1, 5.0)  # of the weights; large ones saturate losses, small ones leave them flat
_TOLERANCE = 1e-6


def probe(
    module: nn.Module,
    inputs: Inputs,
    customers: int = 8,
    *,
    losses: Callable[..., Tensor] | None = None,
    generator: Generator | None = None,
) -> None:
    """Refuse a model whose clipped sum one customer can move by more than the bound.

    For weights of several sizes, everything is computed with all customers and again without each one, in
    float64, on copies of the module. Checked are the layers, how many losses there are, that each loss is the
    same whoever else is in the batch, that gradients go through the layers that saw the customers, and the
    bound itself. Dropout is switched off meanwhile.

    Args:
        module: What is to be wrapped in a ``SparseGradSampleModule``.
        inputs: Synthetic data, of customers that differ; never real ones, since a refusal tells of them.
        customers: How many there are, at least 3.
        losses: Of the module and its inputs the losses, float [customers]; None: the module's output.
        generator: Of the weights.

    Raises:
        UsageError: The model breaks the bound; one line with the cause and the fix.
    """
    random = generator or system_generator()
    everybody = list(range(customers))
    for size in _SIZES:
        model = _randomised(module, size, random)
        trial = _Trial(model, inputs, losses or (lambda m, *batch: m(*batch)))
        trial.check_losses(everybody)
        trial.check_gradients(everybody)
        trial.check_bound(everybody)


class _Trial:
    def __init__(self, model: nn.Module, inputs: Inputs, losses: Callable[..., Tensor]) -> None:
        self._model = model
        self._inputs = inputs
        self._losses = losses

    def check_losses(self, everybody: list[int]) -> None:
        """One loss a customer, the same whoever else is there."""
        with torch.no_grad():
            together, again = (self._losses(self._model, *self._inputs(everybody)) for _ in range(2))
            if together.shape != (len(everybody),):
                raise UsageError(
                    f"probe: losses of shape {list(together.shape)} for {len(everybody)} customers: "
                    "the first dimension of inputs and losses must be the customer; reshape to "
                    "[customers, K] and take the mean over K"
                )
            if not _same(together, again):
                raise UsageError("probe: the losses are random; draw outside the module and pass it in")
            for customer in everybody:
                others = [other for other in everybody if other != customer]
                rest = self._losses(self._model, *self._inputs(others))
                if not _same(together[others], rest):
                    raise UsageError(f"probe: {self._coupling()}")

    def _coupling(self) -> str:
        for name, layer in self._model.named_modules():
            if isinstance(layer, _BatchNorm):
                return (
                    f"{name} ({type(layer).__name__}) normalises over the batch, so that a customer's loss "
                    "depends on the others; use LayerNorm or GroupNorm"
                )
        return (
            "a customer's loss depends on the other customers in the batch, as with in-batch negatives; draw "
            "negatives for each customer, and take no statistics over the batch"
        )

    def check_gradients(self, everybody: list[int]) -> None:
        """The layers' gradients are all there are, and their first dimension is the customer."""
        module, optimizer = _wrap(self._model, math.inf)
        self._losses(module, *self._inputs(everybody)).sum().backward()  # type: ignore[no-untyped-call]
        calls: list[Call] = list(
            chain.from_iterable(getattr(p, "grad_sample", None) or [] for p in optimizer.params)
        )
        for call in calls:
            if len(call.gradient) != len(everybody):
                raise UsageError(
                    f"probe: {type(call.layer).__name__} sees a first dimension of {len(call.gradient)} for "
                    f"{len(everybody)} customers; call layers with [customers, ...], so that the unit "
                    "is not a record"
                )
        direct = {name: p.grad for name, p in self._named(module) if p.grad is not None}
        try:
            optimizer.step()
        except ValueError as error:
            raise UsageError(f"probe: {error}") from error
        for name, parameter in self._named(module):
            gradient = direct.get(name)
            if gradient is not None and parameter.grad is not None and not _same(gradient, parameter.grad):
                raise UsageError(
                    f"probe: {name} is used in the loss past its layer, where its gradient is not clipped; "
                    "call the layer instead"
                )

    def check_bound(self, everybody: list[int]) -> None:
        """Without any one customer the sum moves by at most the bound, which is one that binds."""
        alone = [float(self._sum([customer], math.inf).norm()) for customer in everybody]
        finite = sorted(norm for norm in alone if 0 < norm < math.inf)
        if not finite:
            return
        for bound in (finite[0] / 2, finite[len(finite) // 2]):
            whole = self._sum(everybody, bound)
            for customer in everybody:
                moved = float((whole - self._sum([c for c in everybody if c != customer], bound)).norm())
                if moved > bound * (1 + _TOLERANCE):
                    raise UsageError(
                        f"probe: leaving out one customer moves the clipped sum by {moved / bound:.2f} times "
                        "the bound; make each customer's loss a function of that customer and of the "
                        "weights alone"
                    )

    def _sum(self, chosen: Sequence[int], bound: float) -> Tensor:
        module, optimizer = _wrap(self._model, bound)
        self._losses(module, *self._inputs(list(chosen))).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return torch.cat([parameter.grad.ravel() for _, parameter in self._named(module)])  # type: ignore[union-attr]

    @staticmethod
    def _named(module: SparseGradSampleModule) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in module._module.named_parameters() if p.requires_grad]


def _wrap(model: nn.Module, bound: float) -> tuple[SparseGradSampleModule, SparseDPOptimizer]:
    try:
        module = SparseGradSampleModule(copy.deepcopy(model), loss_reduction="sum")
    except NotImplementedError as error:
        raise UsageError(f"probe: {' '.join(str(error).split())}") from error
    plain = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.0)
    bound = min(bound, 1e300)
    return module, SparseDPOptimizer(
        plain, noise_multiplier=0.0, max_grad_norm=bound, expected_batch_size=None, loss_reduction="sum"
    )


def _randomised(module: nn.Module, size: float, random: Generator) -> nn.Module:
    model = copy.deepcopy(module).double().train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(size * random.standard_normal(parameter.shape)))
    for layer in model.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.eval()
    return model


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True)
