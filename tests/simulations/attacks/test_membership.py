import numpy as np
import pytest

from hansa.rng import seeded_generator
from hansa_simulations.attacks import membership
from hansa_simulations.attacks.faults import small_federation
from hansa_simulations.attacks.membership import (
    Rates,
    Shadows,
    area,
    attack_membership,
    likelihood_ratios,
    proven_bound,
    rates_at,
    ratios_by,
)


@pytest.fixture(scope="module")
def federation():
    return small_federation()


def test_without_noise_members_are_told_and_with_it_hardly(federation):
    plain = attack_membership(federation, "cooccurrence", "none", None, shadows=16)
    private = attack_membership(federation, "cooccurrence", "central", 1.0, shadows=16)
    assert plain.claimed is None
    assert plain.figures["auc"] > 0.9
    assert plain.figures["tpr_at_0.01"] > 0.5
    assert plain.bound > 4  # of 5.7 that as many guesses could show at most, all of them right
    assert private.claimed == pytest.approx(1.0, rel=1e-3)
    assert private.figures["auc"] < 0.65
    assert not plain.broken
    assert not private.broken
    assert "the claim allows" in private.words


def test_what_a_claim_allows_is_no_less_than_at_the_rate_itself(federation, monkeypatch):
    nobody = Rates(true=0.0, true_low=0.0, true_high=0.0, false_high=0.0)
    monkeypatch.setattr(membership, "rates_at", lambda *arguments: nobody)
    found = attack_membership(federation, "popularity", "central", 1.0, shadows=8)
    for rate in membership.RATES:
        assert found.figures[f"ceiling_at_{rate:g}"] == pytest.approx(np.e * rate, rel=1e-3)


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
    present = found.present.copy()
    present[3] = ~present[3]
    after = likelihood_ratios(Shadows(present, found.said, 1.0))
    np.testing.assert_array_equal(after[3], before[3])
    assert not np.array_equal(after[4], before[4])


def test_a_few_models_tell_nothing_where_there_is_nothing():
    areas = []
    for seed in range(40):
        random = seeded_generator(seed, "nothing")
        present = random.random((8, 300)) < 0.5
        ratios = likelihood_ratios(Shadows(present, random.standard_normal((8, 300, 2)), 1.0))
        areas.append(area(ratios[present], ratios[~present]))
    assert np.mean(areas) == pytest.approx(0.5, abs=0.01)  # 0.547 where the spread knows the model judged


def test_a_customer_of_whom_only_one_world_is_known_is_not_guessed():
    found = gaussians(1.0, models=6)
    present = found.present.copy()
    present[:, 0], present[:, 1] = True, False
    known = np.arange(6) < 5
    ratios = ratios_by(Shadows(present, found.said, 1.0), known, ~known)
    assert (ratios[:, :2] == 0).all()
    assert (ratios != 0).any()


def sure(epsilon, models, customers, share, random):
    """The hardest mechanism for a bound: it calls some customers, e^epsilon times as often if they are in."""
    present = random.random((models, customers)) < 0.5
    said = random.random(present.shape) < share * np.where(present, np.exp(epsilon), 1.0)
    return Shadows(present, said[..., None].astype(np.float64), epsilon)


@pytest.mark.parametrize(("epsilon", "share"), [(1.0, 0.2), (2.0, 0.1), (4.0, 0.002), (4.0, 0.01)])
def test_bounds_hold_where_the_claim_is_all_used_up(epsilon, share):
    random = seeded_generator(0, "sure")
    bounds = [proven_bound(sure(epsilon, 16, 100, share, random), 0.0, 0.05)[0] for _ in range(100)]
    assert (
        sum(bound > epsilon for bound in bounds) <= 11
    )  # 5 of 100 are allowed; chance makes that more than 11 in 0.4 %
    assert max(bounds) > 0


def test_most_of_what_a_mechanism_tells_is_proven():
    random = seeded_generator(1, "sure")
    flipped = sure(2.0, 64, 400, 0.1192, random)  # randomised response: 0.8808 against 0.1192
    assert 1.6 < proven_bound(flipped, 0.0, 0.01)[0] < 2.0


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
