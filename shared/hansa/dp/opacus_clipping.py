"""The same clipped sum by Opacus's own hooks or ghost clipping: slower, kept to be compared with.

An item table W that scores customers as ``W f_u`` is a linear layer without bias, and the outer product
that a customer contributes is its per-sample gradient.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from hansa.dp.clipping import Contributions, OuterContributions, RowContributions, clipped_sum
from hansa.dp.opacus_reference import stepper
from hansa.errors import UsageError

Mode = Literal["hooks", "ghost"]

# True of this layer, whose inputs are constants, and of no consequence: the hooks get what they need.
warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)


class _Scores(nn.Module):
    """Scores ``W f_u`` times what their gradient is to be: float [customers]."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.table = nn.Linear(width, rows, bias=False)

    def forward(self, factors: Tensor, errors: Tensor) -> Tensor:
        products: Tensor = self.table(factors) * errors
        return products.sum(dim=1)


def opacus_clipped_sum(chunks: Iterable[Contributions], bound: float, total: Tensor, mode: Mode) -> Tensor:
    """``clipped_sum`` computed by Opacus, equal to it within rounding.

    Guarantee: that of ``clipped_sum``, up to the rounding of Opacus's float32 norms and sums.

    Args:
        chunks: Contributions of all customers: outer products over the whole table. Sums of a few rows a
            customer, such as counts, come from no layer and are taken as ever.
        bound: The clipping bound C > 0.
        total: float64 [rows, width], usually zeros.
        mode: ``hooks`` materialises [customers, rows, width]; ``ghost`` takes a second backward pass.

    Raises:
        UsageError: The contributions have another form.
    """
    model = _Scores(*total.shape)
    step = stepper(mode, model, rate=0.0, noise_multiplier=0.0, bound=bound, expected=1)
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
        sound = contributions.where(contributions.squared_norms().isfinite())
        with torch.enable_grad():
            step(sound.factors, sound.coefficients)
        assert model.table.weight.grad is not None
        total += model.table.weight.grad
    return total
