import numpy as np
import pytest
import torch

from hansa.dp.accounting import gaussian
from hansa.dp.ledger import Budget, Ledger
from hansa.dp.private_sum import Door, PerformanceSettings, Release, finish_central
from hansa.errors import RefusalError
from hansa.models.popularity import counts_contribution
from hansa.rng import seeded_generator
from hansa.schema import Histories

N_ITEMS = 40
RELEASE = Release("counts", rows=N_ITEMS, width=1, bound=2.0, noise_multiplier=0.5)
HISTORIES = Histories(
    np.arange(0, 601, 3, dtype=np.int64),
    np.concatenate([seeded_generator(k).permutation(N_ITEMS)[:3] for k in range(200)]).astype(np.int32),
    N_ITEMS,
)
EXACT = np.bincount(HISTORIES.items, minlength=N_ITEMS)[:, None] / 3**0.5


def counts(chunk):
    return counts_contribution(chunk, 500)


def door(dp="local", release=RELEASE, times=10, seed=0, chunk=256):
    ledger = Ledger(Budget(1e6, 1e-5))
    if dp != "none":
        ledger.reserve("r", (release.event,) * times)
    return Door(
        dp,
        ledger,
        "r",
        seeded_generator(seed, "noise"),
        seeded_generator(seed, "coins"),
        PerformanceSettings(chunk),
    )


def charged(the_door):
    return the_door.ledger.reservations["r"].charged


@pytest.mark.parametrize("dp", ["central", "none"])
def test_central_and_none_return_the_clipped_sum(dp):
    total = door(dp).private_sum(RELEASE, counts, HISTORIES)
    np.testing.assert_allclose(total, EXACT, rtol=1e-5)
    assert total.dtype == np.float32


def test_none_still_clips():
    narrow = Release("counts", rows=N_ITEMS, width=1, bound=0.1)
    total = door("none", narrow).private_sum(narrow, counts, HISTORIES)
    np.testing.assert_allclose(total, 0.1 * EXACT, rtol=1e-4)


def test_local_adds_noise_of_multiplier_times_bound():
    wide = Release("counts", rows=N_ITEMS, width=1, bound=2.0, noise_multiplier=0.5)
    noise = np.stack([door(seed=s).private_sum(wide, counts, HISTORIES) - EXACT for s in range(250)])
    assert abs(noise.std() - 1.0) < 5 / (2 * noise.size) ** 0.5  # false alarm 6e-7 with fresh seeds
    assert abs(noise.mean()) < 5 / noise.size**0.5
    assert abs(noise.std() - 0.5) > 0.1  # a control: the multiplier alone is not the deviation


def test_finish_central_is_the_same_noise():
    start = EXACT.astype(np.float32)
    finished = finish_central(start.copy(), RELEASE, seeded_generator(0, "noise"))
    np.testing.assert_allclose(finished, door("local").private_sum(RELEASE, counts, HISTORIES), atol=1e-4)
    assert np.abs(finished - start).max() > 0.5


def test_the_charge_comes_before_anything_is_computed():
    the_door = door()

    def fails(chunk):
        assert charged(the_door) == 1
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        the_door.private_sum(RELEASE, fails, HISTORIES)
    assert charged(the_door) == 1


@pytest.mark.parametrize("dp", ["local", "central"])
def test_what_is_not_in_the_plan_is_refused_before_any_data_is_touched(dp):
    the_door = door(dp, times=1)
    touched = []

    def spy(chunk):
        touched.append(chunk)
        return counts(chunk)

    other = Release("counts", rows=N_ITEMS, width=1, noise_multiplier=0.4)
    with pytest.raises(RefusalError):
        the_door.private_sum(other, spy, HISTORIES)
    assert not touched
    the_door.private_sum(RELEASE, spy, HISTORIES)
    assert touched
    touched.clear()
    with pytest.raises(RefusalError):
        the_door.private_sum(RELEASE, spy, HISTORIES)
    assert not touched


def test_none_is_not_charged():
    the_door = door("none")
    the_door.private_sum(RELEASE, counts, HISTORIES)
    assert the_door.ledger.reservations == {}
    assert the_door.ledger.spent() == 0.0


@pytest.mark.parametrize("rate", [0.1, 0.7])
def test_poisson_samples_have_the_rate_and_are_fresh(rate):
    sampled = Release("counts", rows=N_ITEMS, width=1, noise_multiplier=1.0, sampling_rate=rate)
    assert sampled.event == gaussian(1.0, rate)
    the_door = door("central", sampled, times=50)
    sizes, sums = [], set()
    for _ in range(50):
        seen = []

        def spy(chunk, seen=seen):
            seen.append(len(chunk))
            return counts(chunk)

        sums.add(the_door.private_sum(sampled, spy, HISTORIES).tobytes())
        sizes.append(sum(seen))
    assert charged(the_door) == 50
    assert len(sums) == 50
    deviation = (200 * rate * (1 - rate)) ** 0.5
    assert abs(np.mean(sizes) - 200 * rate) < 5 * deviation / 50**0.5
    assert 0.5 < np.std(sizes) / deviation < 1.6  # a fixed batch size would have none


def test_coins_and_noise_are_independent_streams():
    """The sample must not move the noise, nor the noise the sample."""
    sampled = Release("counts", rows=N_ITEMS, width=1, noise_multiplier=0.0, sampling_rate=0.5)
    bare, noisy = (
        Door("none", Ledger(Budget(1, 1e-5)), "r", seeded_generator(n), seeded_generator(9, "coins"))
        for n in (1, 2)
    )
    np.testing.assert_array_equal(
        bare.private_sum(sampled, counts, HISTORIES), noisy.private_sum(sampled, counts, HISTORIES)
    )


@pytest.mark.parametrize("histories", [HISTORIES, HISTORIES.select(np.zeros(200, dtype=bool))])
def test_an_empty_sample_still_adds_noise_and_is_charged(histories):
    rare = Release("counts", rows=N_ITEMS, width=1, noise_multiplier=1.0, sampling_rate=1e-12)
    the_door = door("local", rare)
    total = the_door.private_sum(rare, counts, histories)
    assert charged(the_door) == 1
    assert 0.5 < total.std() < 1.6
    assert (total != 0).all()


@pytest.mark.parametrize("chunk", [1, 7, 200])
def test_performance_settings_change_nothing_but_rounding(chunk):
    total = door("local", chunk=chunk).private_sum(RELEASE, counts, HISTORIES)
    np.testing.assert_allclose(total, door("local").private_sum(RELEASE, counts, HISTORIES), atol=1e-4)


def test_contributions_are_formed_without_autograd():
    def spy(chunk):
        assert not torch.is_grad_enabled()
        return counts(chunk)

    door().private_sum(RELEASE, spy, HISTORIES)
    assert torch.is_grad_enabled()
