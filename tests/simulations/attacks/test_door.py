import numpy as np
import pytest

from hansa.dp import private_sum
from hansa.dp.noise import GridGaussian
from hansa.rng import seeded_generator
from hansa_simulations.attacks.door import Stage, attack_door, largest_move, means_spread

MODELS = ("local", "central", "distributed")


def attack(dp="local", epsilon=2.0, trials=200_000, level=0.001, **more):
    return attack_door(Stage(dp, epsilon, 1024, **more), trials, level, seeded_generator(0, "coins"))


@pytest.mark.parametrize("dp", MODELS)
@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_the_door_withstands_and_the_bound_is_no_formality(dp, epsilon):
    found = attack(dp, epsilon)
    assert found.claimed == pytest.approx(epsilon, rel=1e-3)
    assert not found.broken
    assert 0.3 * epsilon < found.bound < epsilon
    assert found.figures["moved_over_bound"] == pytest.approx(1, abs=1e-4)
    assert found.trials >= 200_000
    assert 0.6 < found.figures["means_spread"] < 1.5  # of 196 releases


def test_several_releases_count_together():
    found = attack(rounds=4)
    assert found.claimed == pytest.approx(2.0, rel=1e-3)
    assert 0.6 < found.bound < 2.0
    assert not found.broken


def test_without_noise_nothing_is_claimed_and_everything_is_seen():
    found = attack("none", None, trials=5_000)
    assert found.claimed is None
    assert found.bound > 5


def test_half_the_noise_is_found(monkeypatch):
    release = GridGaussian.release

    def quieter(self, total, generator):
        return release(GridGaussian(self.bound, self.deviation / 2, self.entries), total, generator)

    monkeypatch.setattr(GridGaussian, "release", quieter)
    found = attack()
    assert found.broken
    assert found.bound > 2.0


def test_clipping_that_is_off_is_found_by_the_bound_and_by_leaving_customers_out(monkeypatch):
    clipped = private_sum.clipped_sum
    monkeypatch.setattr(private_sum, "clipped_sum", lambda c, bound, total: clipped(c, 4 * bound, total))
    assert largest_move(Stage("local", 2.0, 64)) == pytest.approx(4, abs=1e-3)
    found = attack()
    assert found.broken
    assert found.bound > 4.0


def test_leaving_each_customer_out_moves_by_the_bound_and_not_more():
    assert largest_move(Stage("distributed", 2.0, 64)) == pytest.approx(1, abs=1e-4)


def test_coins_decide_who_is_in():
    stage = Stage("none", None, 64)
    present = np.arange(64) % 2 == 0
    from hansa_simulations.attacks.door import _canaries

    total, _, _ = stage.seen(_canaries(present))
    np.testing.assert_array_equal(total > 0.5, present)


def test_nothing_charged_claims_nothing_that_could_stand(monkeypatch):
    monkeypatch.setattr(private_sum.Door, "_charge", lambda self, release: None)
    found = attack(trials=20_000)
    assert found.claimed == 0
    assert found.broken


def test_noise_that_entries_share_is_no_many_trials():
    random = seeded_generator(0, "shared")
    alone = [random.standard_normal(500) for _ in range(100)]
    assert 0.6 < means_spread(alone) < 1.5
    assert means_spread([each + 0.5 * random.standard_normal() for each in alone]) > 20
    assert means_spread([np.zeros(3)] * 2) is None
