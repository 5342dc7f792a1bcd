"""From real contributions to whole numbers: each customer's by itself, within a bound that cannot fail."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from hansa.dp.clipping import Contributions, Group, clip
from hansa.dp.integers import IntegerSkellam
from hansa.rng import Generator


def integer_sum(
    chunks: Iterable[Contributions], mechanism: IntegerSkellam, total: Tensor, coins: Generator
) -> Tensor:
    """Add all customers' contributions to ``total`` in place, clipped and rounded to whole quanta.

    Rounding is stochastic, up or down with the chance that keeps the mean, so that errors of many customers
    cancel. Whoever comes out above ``mechanism.squared`` is rounded towards zero instead, which no norm
    survives grown; if floating point had still failed, the customer counts as nothing.

    Guarantee: unit one customer; adding or removing one changes ``total`` by a vector of whole numbers of
    squared L2 norm at most ``mechanism.squared``, whatever the coins and the errors of floating point,
    provided that each customer's contribution depends on that customer's rows and public state alone. Coins
    are independent between customers; they need not be secret. The sum is exact.

    Args:
        chunks: Contributions of all customers, each customer in exactly one chunk.
        mechanism: Bound and quantum.
        total: int64 [rows, width], usually zeros.
        coins: Generator of the rounding.
    """
    for contributions in chunks:
        (kept,), scale = clip([contributions], mechanism.scale, times=1 / mechanism.quantum)
        for group in kept.groups(scale):
            _add(group, mechanism.squared, total, coins)
    return total


def _add(group: Group, squared: int, total: Tensor, coins: Generator) -> None:
    block, values = _stochastic(group.block, coins), _stochastic(group.values, coins)
    over = ~(_squares(group, block, values) <= squared)  # also what is no number
    if bool(over.any()):
        block = torch.where(over[:, None, None], group.block.trunc(), block)
        values = torch.where(over[group.owners, None], group.values.trunc(), values)
        broken = ~(_squares(group, block, values) <= squared)
        if bool(broken.any()):
            block = torch.where(broken[:, None, None], 0.0, block)
            values = torch.where(broken[group.owners, None], 0.0, values)
    if block.numel():
        # Whole numbers below 2^17 each, few enough that float64 holds their sums exactly.
        sums = block.sum(dim=0, dtype=torch.float64).to(torch.int64)
        if group.rows is None:
            total[: len(sums)] += sums
        else:
            total.index_add_(0, group.rows, sums)
    if not values.numel():
        return
    whole = values.to(torch.int64)
    if total.shape[1] == 1:  # quicker than torch's
        np.add.at(total.view(-1).numpy(), group.spots.numpy(), whole.view(-1).numpy())
    else:
        total.index_add_(0, group.spots, whole)


def _stochastic(values: Tensor, coins: Generator) -> Tensor:
    """The next whole number below or above, on average the value itself."""
    kind = np.float32 if values.dtype == torch.float32 else np.float64
    thrown = torch.from_numpy(coins.random(tuple(values.shape), dtype=kind))
    return (values + thrown).floor_()


def _squares(group: Group, block: Tensor, values: Tensor) -> Tensor:
    """Squared norms of whole numbers, exact below 2^53: float64 [customers]."""
    squares = block.double().square().sum(dim=(1, 2))
    return squares.index_add_(0, group.owners, values.double().square().sum(dim=1))
