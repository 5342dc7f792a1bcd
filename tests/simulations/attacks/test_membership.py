import numpy as np
import pytest

from hansa.rng import seeded_generator
from hansa_simulations.attacks import membership
from hansa_simulations.attacks.faults import small_federation
from hansa_simulations.attacks.membership import Shadows, area, attack_membership, likelihood_ratios, rates_at


@pytest.fixture(scope="module")
def federation():
    return small_federation()


def test_without_noise_members_are_told_and_with_it_hardly(federation):
    plain = attack_membership(federation, "cooccurrence", "none", None, shadows=16)
    private = attack_membership(federation, "cooccurrence", "central", 1.0, shadows=16)
    assert plain.claimed is None
    assert plain.figures["auc"] > 0.9
    assert plain.figures["tpr_at_0.01"] > 0.5
    assert private.claimed == pytest.approx(1.0, rel=1e-3)
    assert private.figures["auc"] < 0.65
    assert not plain.broken
    assert not private.broken
    assert "the claim allows" in private.words


@pytest.mark.parametrize("method", ["popularity", "dpsgd"])
def test_every_kind_of_method_can_be_attacked(federation, method):
    settings = {"gradient_rounds": 3} if method == "dpsgd" else {}
    found = attack_membership(federation, method, "local", 4.0, shadows=8, settings=settings)
    assert 0.4 < found.figures["auc"] < 0.8
    assert not found.broken


def test_noise_that_is_missing_refutes_the_claim(federation, monkeypatch):
    plan = membership._plan

    def silent(*arguments):
        """The plan of ``none``, and the claim of what was asked for."""
        federation, method, _, _, *others = arguments
        return plan(federation, method, "none", None, *others)

    train = membership.train_shadows
    monkeypatch.setattr(membership, "_plan", silent)
    monkeypatch.setattr(
        membership, "train_shadows", lambda *a: Shadows(**{**vars(train(*a)), "claimed": 1.0})
    )
    found = attack_membership(federation, "cooccurrence", "central", 1.0, shadows=32)
    assert found.broken
    assert found.bound > 1.0
    assert "refuted" in found.words


def gaussians(shift, models=100, customers=800):
    random = seeded_generator(0, "shadows")
    present = random.random((models, customers)) < 0.5
    said = random.standard_normal((models, customers, 1)) + shift * present[..., None]
    return Shadows(present, said, 1.0)


def test_ratios_of_known_normals_reach_the_area_that_theory_says():
    found = gaussians(1.0)
    ratios = likelihood_ratios(found)
    assert area(ratios[found.present], ratios[~found.present]) == pytest.approx(0.76, abs=0.015)
    nothing = gaussians(0.0)
    ratios = likelihood_ratios(nothing)
    assert area(ratios[nothing.present], ratios[~nothing.present]) == pytest.approx(0.5, abs=0.015)


def test_a_model_is_never_judged_by_itself():
    found = gaussians(1.0, models=20)
    before = likelihood_ratios(found)
    flipped = found.present.copy()
    flipped[3:5] = ~flipped[3:5]
    # Who was in models of one half says nothing about how that half is judged.
    np.testing.assert_array_equal(likelihood_ratios(Shadows(flipped, found.said, 1.0))[:10], before[:10])
    assert not np.allclose(likelihood_ratios(Shadows(flipped, found.said, 1.0))[10:], before[10:])


def test_pure_noise_refutes_no_claim_more_often_than_it_says():
    wrong = 0
    for seed in range(150):
        random = seeded_generator(seed, "noise")
        present = random.random((32, 100)) < 0.5
        found = Shadows(present, random.standard_normal((32, 100, 2)), 0.0)
        ratios = likelihood_ratios(found)
        rates = rates_at(ratios, present, 0.01, 0.01)
        wrong += rates.true_low > rates.false_high
    assert wrong <= 6


def test_limits_hold_the_rate():
    found = gaussians(1.0)
    rates = rates_at(likelihood_ratios(found), found.present, 0.01, 0.01)
    assert rates.true_low < rates.true < rates.true_high
    assert 0.01 < rates.false_high < 0.03
    assert rates.true == pytest.approx(0.092, abs=0.03)  # of normals one apart


def test_statistics_of_somebody_without_items_are_nothing(federation):
    plan = membership._plan(federation, "popularity", "none", None, 1e-5, 1000, {})
    state = {"counts": np.ones((federation.items, 1), dtype=np.float32)}
    nobody = federation.shops[0].train.select(np.array([], dtype=np.int64))
    assert membership.statistics(plan, state, nobody).shape == (0, 2)
