import numpy as np
import pytest
import torch

from hansa.dp.clipping import OuterContributions, RowContributions, clipped_sum
from hansa.plan import METHODS
from hansa_simulations.attacks.canaries import attack_canaries, best_bound, inner_products, plant
from hansa_simulations.attacks.commands import FEW_ROUNDS
from hansa_simulations.attacks.faults import charged_once, less_noise, small_federation

EVERY = pytest.mark.parametrize("method", METHODS)
FEW = {**FEW_ROUNDS, "dpsgd": {"gradient_rounds": 2, "dimensions": 4}}


@pytest.fixture(scope="module")
def federation():
    return small_federation()


def attack(federation, method, dp, claim=8.0, canaries=150, **more):
    claimed = None if dp == "none" else claim
    settings = FEW.get(method, {})
    return attack_canaries(federation, method, dp, claimed, canaries=canaries, settings=settings, **more)


@EVERY
def test_without_noise_every_canary_is_found(federation, method):
    found = attack(federation, method, "none")
    assert found.claimed is None
    assert found.figures["right_of_all"] >= 0.97 * found.trials
    assert found.bound > 2
    assert not found.broken


@EVERY
@pytest.mark.parametrize("dp", ["local", "distributed", "central"])
def test_with_noise_many_are_found_and_the_claim_stands(federation, method, dp):
    found = attack(federation, method, dp)
    assert found.claimed == pytest.approx(8.0, rel=1e-3)
    assert found.bound < found.figures["most_it_could_show"] < 8.0
    assert not found.broken
    # Far from chance, so that the scores mean something: the noise hides most of each, not all.
    assert found.figures["right_of_all"] > 0.62 * found.trials
    assert 0.5 < found.figures["moved_over_bound"] <= 1.00001


@pytest.mark.parametrize("dp", ["local", "distributed", "central"])
def test_missing_noise_is_found(federation, dp):
    with less_noise(0.01):
        found = attack(federation, "popularity", dp, claim=1.0)
    assert found.broken
    assert "the claim is refuted" in found.words


def test_the_claim_is_what_the_ledger_was_charged(federation):
    with charged_once():
        found = attack(federation, "dpsgd", "local", claim=4.0)
    assert found.claimed < 3.0


def test_canaries_belong_to_honest_shops_and_are_in_by_their_coins(federation):
    planted = plant(federation, 40, (0, 2), seed=1)
    assert set(planted.shop) == {0, 2}
    assert 8 < planted.present.sum() < 32
    assert planted.n_items == federation.items + 80
    for shop, real in enumerate(planted.real):
        own = planted.present & (planted.shop == shop)
        assert len(planted.histories(shop)) == len(real) + own.sum()
        added = planted.histories(shop).items[len(real.items) :]
        np.testing.assert_array_equal(added, planted.canaries.select(own).items)


def test_inner_products_are_those_of_clipped_contributions():
    torch.manual_seed(0)
    table = torch.randn(7, 3, dtype=torch.float64)
    several = [
        RowContributions(2, torch.tensor([0, 0, 1]), torch.tensor([1, 4, 4]), torch.randn(3, 3)),
        OuterContributions(torch.randn(2, 7), torch.randn(2, 3)),
        OuterContributions(torch.randn(2, 2), torch.randn(2, 3), torch.tensor([2, 5])),
    ]
    for each in several:
        found = inner_products(each, 0.5, table)
        for customer in range(2):
            alone = each.where(torch.arange(2) == customer)
            total = clipped_sum([alone], 0.5, torch.zeros(7, 3, dtype=torch.float64))
            assert found[customer] == pytest.approx(float((total * table).sum()), rel=1e-5)


def test_the_surest_guesses_are_made_first():
    scores = np.array([9.0, -8.0, 7.0, -6.0] + [0.1, -0.1] * 48)
    present = np.array([True, False, True, False] + [False, True] * 48)
    assert best_bound(scores, present, 0.0, 1.0)[1:] == (5, 4)
