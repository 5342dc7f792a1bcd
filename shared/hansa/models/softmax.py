"""Gradients of a softmax loss of scores ``W f_u``, for a chunk of customers whose items are padded rows.

With P the items to be predicted, -1/|P| sum_P log softmax(W f)_i has the gradient
(softmax(W f) - 1_P / |P|) f^T with respect to the item table W: one outer product a customer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hansa.dp.clipping import OuterContributions
from hansa.dp.rowwise import Grid


@dataclass(frozen=True)
class Candidates:
    """The items that stand for the whole catalogue in a softmax.

    Attributes:
        rows: int64 [candidates], their catalogue positions.
        position: int64 [items], where each item is among them, or -1.
        table: Their rows of the item table.
    """

    rows: Tensor
    position: Tensor
    table: Grid


def full_gradient(
    table: Grid, factors: Tensor, items: Tensor, given: Tensor | None, wanted: Tensor
) -> OuterContributions:
    """The gradient over all items but the given ones; zero for customers without wanted items.

    Args:
        table: [n_items, width], W.
        factors: float32 [customers, width], f.
        items: int64 [customers, longest], each customer's items, padded with any.
        given: bool [customers, longest], those that are left out; None for none.
        wanted: bool [customers, longest], P.
    """
    scores = table.products(factors)
    if given is not None:
        _strike(scores, items, given)
    errors, counts = torch.softmax(scores, dim=1), wanted.sum(dim=1, keepdim=True)
    errors.scatter_add_(1, items, wanted / -counts.clamp(min=1))
    return OuterContributions(_without_idle(errors, counts), factors)


def sampled_gradient(
    table: Grid,
    candidates: Candidates,
    factors: Tensor,
    items: Tensor,
    present: Tensor,
    wanted: Tensor,
    most: int,
) -> OuterContributions:
    """The gradient over the wanted items and candidates that the customer has not had.

    The candidates' exponentials are weighted by the inverse of their share of the catalogue
    (importance-sampled softmax, Bengio and Senecal 2008).

    Args:
        table: [n_items, width], W.
        candidates: Drawn without looking at any data.
        factors: float32 [customers, width], f.
        items: int64 [customers, longest], each customer's items, padded with any.
        present: bool [customers, longest], which of them are no padding.
        wanted: bool [customers, longest], P.
        most: A public bound of ``longest``: whatever that is, rows of as many scores meet in the softmax.
    """
    drawn = len(candidates.rows)
    scores = torch.empty(len(items), drawn + most)
    scores[:, drawn:] = -torch.inf
    shared = candidates.table.products(factors, out=scores[:, :drawn])
    shared += float(np.log(len(table.numbers) / drawn))
    position = candidates.position[items]
    _strike(scores, position.clamp(min=0), present & (position >= 0))
    customers, columns = torch.nonzero(wanted, as_tuple=True)
    own = items[customers, columns]
    scores[customers, drawn + columns] = table.products_with(factors, customers, own)
    shares, counts = torch.softmax(scores, dim=1), wanted.sum(dim=1, keepdim=True)
    extra = (customers, own, shares[customers, drawn + columns] - 1 / counts[customers, 0])
    return OuterContributions(_without_idle(shares[:, :drawn], counts), factors, candidates.rows, extra)


def _strike(scores: Tensor, columns: Tensor, out: Tensor) -> None:
    """Scores of minus infinity where ``out`` [customers, longest] marks ``columns``."""
    scores.scatter_add_(1, columns, torch.zeros(out.shape).masked_fill_(out, -torch.inf))


def _without_idle(errors: Tensor, counts: Tensor) -> Tensor:
    """Zero for customers without wanted items."""
    busy = counts > 0
    return errors if bool(busy.all()) else torch.where(busy, errors, 0.0)
