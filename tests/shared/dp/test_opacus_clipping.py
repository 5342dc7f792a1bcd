"""Opacus's hooks and ghost clipping sum as the sparse core does."""

import pytest
import torch

from hansa.dp.clipping import OuterContributions, RowContributions, clipped_sum
from hansa.dp.opacus_clipping import Mode, opacus_clipped_sum
from hansa.errors import UsageError
from hansa.rng import seeded_generator


def contributions(customers: int, rows: int, width: int) -> OuterContributions:
    generator = seeded_generator(3, "opacus")
    coefficients = generator.standard_normal((customers, rows)) * generator.exponential(size=(customers, 1))
    factors = generator.standard_normal((customers, width))
    return OuterContributions(torch.tensor(coefficients).float(), torch.tensor(factors).float())


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
@pytest.mark.parametrize("bound", [0.5, 30.0, 1e4])
def test_equals_the_sparse_sum(mode: Mode, bound: float) -> None:
    given = [contributions(40, 23, 5), contributions(7, 23, 5)]
    wanted = clipped_sum(given, bound, torch.zeros(23, 5))
    found = opacus_clipped_sum(given, bound, torch.zeros(23, 5), mode)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_customer_without_finite_gradient_counts_as_zero(mode: Mode) -> None:
    given = contributions(6, 8, 3)
    wanted = opacus_clipped_sum([given], 1.0, torch.zeros(8, 3), mode)
    spoilt = OuterContributions(
        torch.cat([given.coefficients, torch.full((1, 8), torch.inf)]),
        torch.cat([given.factors, torch.ones(1, 3)]),
    )
    assert torch.allclose(opacus_clipped_sum([spoilt], 1.0, torch.zeros(8, 3), mode), wanted)


def test_counts_are_summed_as_ever() -> None:
    rows = RowContributions(2, torch.tensor([0, 1]), torch.tensor([1, 1]), torch.ones(2, 1))
    assert opacus_clipped_sum([rows], 2.0, torch.zeros(3, 1), "hooks").tolist() == [[0.0], [2.0], [0.0]]


def test_other_forms_are_refused() -> None:
    some = OuterContributions(torch.ones(1, 2), torch.ones(1, 3), rows=torch.tensor([0, 4]))
    with pytest.raises(UsageError, match="use sparse"):
        opacus_clipped_sum([some], 1.0, torch.zeros(5, 3), "ghost")
