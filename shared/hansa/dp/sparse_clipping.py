"""An Opacus module wrapper for recommenders: per-customer gradients of embeddings in sparse form.

Opacus's hooks keep a gradient [customers, items, d] of every embedding (its issue 350). Here an embedding
keeps the gradients of the rows that were looked up, and the backward pass makes nothing of its table's size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.functorch import ft_compute_per_sample_gradient, prepare_layer
from opacus.layers.dp_rnn import DPGRU, DPLSTM, DPRNN
from torch import Tensor, nn
from torch.nn import Parameter

from hansa.dp.clipping import Contributions, DenseContributions, OuterContributions, RowContributions

Record = Callable[[Tensor], None]
# They repeat the parameters of the linear layers inside, which have hooks.
_RECURRENT = (DPRNN, DPGRU, DPLSTM)


@dataclass(frozen=True)
class Call:
    """One call of a layer in the forward pass, with the gradient of the loss at its output.

    Attributes:
        layer: The layer.
        inputs: Its inputs, customers first.
        gradient: float [customers, ...], of the loss as it was reduced.
        mean: Whether that was the mean over customers, or the sum.
    """

    layer: nn.Module
    inputs: list[Tensor]
    gradient: Tensor
    mean: bool

    @cached_property
    def samples(self) -> dict[Parameter, Tensor]:
        """Gradients of the layer's parameters, by Opacus's samplers: float [customers, *parameter] each."""
        sampler = GradSampleModule.GRAD_SAMPLERS.get(type(self.layer), ft_compute_per_sample_gradient)
        samples: dict[Parameter, Tensor] = sampler(self.layer, self.inputs, self.gradient)
        return samples


class SparseGradSampleModule(GradSampleModule):  # type: ignore[misc]
    """Use it like Opacus's ``GradSampleModule``, together with ``SparseDPOptimizer``.

    Every layer with parameters is called with customers as the first dimension, e.g. an embedding with
    [customers, K]; the loss is the mean (or sum) of one number a customer. Embeddings may be called several
    times; other layers go through Opacus's own samplers, linear ones on [customers, in] by their ghost norm.

    Guarantee: none by itself. That a customer's loss depends on that customer alone cannot be seen from here;
    ``hansa.dp.probe`` looks for models that break it.

    Args:
        module: The model; its embeddings are ``nn.Embedding`` itself.
        loss_reduction: "mean" or "sum": how the loss is made of one number a customer.
        strict: As in Opacus: refuse layers with buffers.

    Raises:
        NotImplementedError: A layer cannot be clipped exactly; the message names it and what to use instead.
    """

    def __init__(self, module: nn.Module, *, loss_reduction: str = "mean", strict: bool = True) -> None:
        _refuse_unsuitable(module)
        super().__init__(module, loss_reduction=loss_reduction, strict=strict)

    def add_hooks(self, **_: Any) -> None:
        """Opacus's extension point: taps on layers' outputs instead of its full backward hooks."""
        if hasattr(self._module, "autograd_grad_sample_hooks"):
            raise ValueError("Trying to add hooks twice to the same model")
        self.autograd_grad_sample_hooks = self._module.autograd_grad_sample_hooks = []
        for layer in self.iterate_submodules(self._module):
            if isinstance(layer, _RECURRENT):
                continue
            if type(layer) not in self.GRAD_SAMPLERS:
                prepare_layer(layer, batch_first=True)
            self.autograd_grad_sample_hooks.append(layer.register_forward_hook(self._capture))
        self.enable_hooks()

    def _capture(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        parameters = [p for p in layer.parameters() if p.requires_grad]
        if not (self.hooks_enabled and layer.training and torch.is_grad_enabled() and parameters):
            return None
        if any(getattr(p, "grad_sample", None) for p in parameters):
            raise ValueError(
                "a second batch before optimizer.step(): step after every backward pass "
                "(with signal_skip_step for parts of one batch), or call zero_grad() to drop the first"
            )
        if not inputs:
            raise ValueError(f"{type(layer).__name__}: pass the input by position")
        record = partial(self._record, layer, parameters, [tensor.detach() for tensor in inputs])
        if not isinstance(layer, nn.Embedding):
            tapped: Tensor = _Tap.apply(output, record)  # type: ignore[no-untyped-call]
            return tapped
        # Cut off from the table: no gradient of the table's size is made, and one that arrives there all
        # the same has bypassed this layer.
        gathered = output.detach().requires_grad_()
        gathered.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
            partial(_take_gradient, record)
        )
        return gathered

    def _record(
        self, layer: nn.Module, parameters: list[Parameter], inputs: list[Tensor], gradient: Tensor
    ) -> None:
        if not self.hooks_enabled:
            return
        call = Call(layer, inputs, gradient.detach(), self.loss_reduction == "mean")
        for parameter in parameters:
            calls = getattr(parameter, "grad_sample", None) or []
            parameter.grad_sample = [*calls, call]  # type: ignore[attr-defined]


class _Tap(torch.autograd.Function):
    """The identity, which records the gradient. Unlike a hook it makes changes in place fail loudly."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, record: Record) -> Tensor:
        ctx.record = record
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.record(gradient)
        return gradient, None


def _take_gradient(record: Record, gathered: Tensor) -> None:
    assert gathered.grad is not None
    record(gathered.grad)
    gathered.grad = None


def customers_in(calls: Sequence[Call]) -> int:
    """The number of customers in a batch, which all calls must agree on.

    Raises:
        ValueError: They do not.
    """
    sizes = {len(call.gradient): type(call.layer).__name__ for call in calls}
    if len(sizes) > 1:
        seen = ", ".join(f"{name} {size}" for size, name in sizes.items())
        raise ValueError(
            f"layers disagree on the number of customers ({seen}): the first dimension must be the customer"
        )
    return next(iter(sizes), 0)


def contributions(parameter: Parameter, calls: Sequence[Call]) -> Contributions:
    """What each customer contributes to the gradient of one parameter, in the leanest form there is.

    Args:
        parameter: Of any shape; the contribution's table is [len(parameter), everything else].
        calls: All calls of layers that have this parameter, at least one.
    """
    if isinstance(calls[0].layer, nn.Embedding):
        return _embedded(calls)
    if len(calls) == 1 and isinstance(calls[0].layer, nn.Linear) and calls[0].gradient.dim() == 2:
        gradient, inputs = calls[0].gradient, calls[0].inputs[0]
        return OuterContributions(
            gradient, inputs if parameter is calls[0].layer.weight else inputs.new_ones(len(inputs), 1)
        )
    total = torch.stack([call.samples[parameter] for call in calls]).sum(dim=0)
    return DenseContributions(total.reshape(len(total), len(parameter), -1))


def _embedded(calls: Sequence[Call]) -> RowContributions:
    customers, rows, values = [], [], []
    for call in calls:
        looked_up = call.inputs[0]
        each = looked_up[:1].numel()
        customers.append(torch.arange(len(looked_up)).repeat_interleave(each))
        rows.append(looked_up.reshape(-1))
        values.append(call.gradient.reshape(-1, call.gradient.shape[-1]))
    entries = [part[0] if len(part) == 1 else torch.cat(part) for part in (customers, rows, values)]
    padding = calls[0].layer.padding_idx
    if padding is not None:
        kept = entries[1] != padding
        entries = [part[kept] for part in entries]
    return RowContributions(len(calls[0].inputs[0]), *entries)


def _refuse_unsuitable(module: nn.Module) -> None:
    owners: dict[Parameter, str] = {}
    for name, layer in module.named_modules():
        direct = [p for p in layer.parameters(recurse=False) if p.requires_grad]
        if not direct or isinstance(layer, _RECURRENT):
            continue
        problem = _problem(layer)
        for parameter in direct:
            kind = type(layer).__name__
            if owners.setdefault(parameter, kind) != kind:
                problem = f"shares a weight with a layer of type {owners[parameter]}: give each its own"
        if problem:
            raise NotImplementedError(f"{name or 'the module'} ({type(layer).__name__}): {problem}")


def _problem(layer: nn.Module) -> str | None:
    if isinstance(layer, nn.EmbeddingBag):
        return "cannot be clipped for each customer; use nn.Embedding and sum its output"
    if isinstance(layer, nn.Embedding):
        if type(layer) is not nn.Embedding:
            return "a subclass may do more than look rows up; use nn.Embedding itself"
        if layer.scale_grad_by_freq:
            return "scale_grad_by_freq divides by counts of the whole batch; leave it out"
        if layer.max_norm is not None:
            return "max_norm changes rows because they were looked up, without noise; leave it out"
        return None
    if any(isinstance(child, nn.Embedding | nn.EmbeddingBag) for child in layer.children()):
        return "has parameters of its own beside an embedding; move them into a layer of their own"
    return None
