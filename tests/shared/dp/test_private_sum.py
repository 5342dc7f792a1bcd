from dataclasses import replace

import numpy as np
import pytest
import torch

from hansa.dp.accounting import gaussian
from hansa.dp.ledger import Budget, Ledger
from hansa.dp.private_sum import Door, PerformanceSettings, Release, Share, finish_central
from hansa.errors import RefusalError
from hansa.models.popularity import counts_contribution
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa.secagg.masks import centre

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
    ledger = Ledger(Budget(1e6 if release.noise_multiplier else np.inf, 1e-5))
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


MASKED = replace(RELEASE, noise="skellam")


def unmasked(words):
    pass


def masked(the_door, release=MASKED, contribution=counts, honest=3, bits=32, mask=unmasked, rows=HISTORIES):
    return the_door.masked_sum(release, contribution, rows, Share(honest, bits, mask))


@pytest.mark.parametrize("bits", [24, 32, 40])
def test_without_noise_and_masks_it_is_the_integer_sum(bits):
    bare = replace(MASKED, noise_multiplier=0.0)
    words = masked(door("distributed", bare), bare, bits=bits)
    assert words.shape == (N_ITEMS,)
    assert words.dtype == (np.uint32 if bits <= 32 else np.uint64)
    found = centre(words, bits)[:, None] * bare.shared_mechanism.quantum
    assert np.abs(found - EXACT).max() < 5 * bare.shared_mechanism.quantum * 200**0.5 / 2 + 2e-5 * 200


def test_the_share_of_the_noise_is_one_honest_shop_s():
    """Five deviations of a variance from 40 x 100 numbers; the whole noise, or the root, is a control."""
    mechanism, noise = MASKED.shared_mechanism, []
    bare = replace(MASKED, noise_multiplier=0.0)
    for seed in range(100):
        with_noise = centre(masked(door("distributed", MASKED, seed=seed), honest=4), 32)
        noise.append(with_noise - centre(masked(door("distributed", bare, seed=seed), bare), 32))
    drawn = np.concatenate(noise).astype(np.float64)
    spread = 5 * (2 / len(drawn)) ** 0.5
    assert drawn.var() / (mechanism.variance / 4) == pytest.approx(1, abs=spread)
    assert abs(drawn.mean()) < 5 * (mechanism.variance / 4 / len(drawn)) ** 0.5
    for wrong in (mechanism.variance, mechanism.variance / 16):
        assert abs(drawn.var() / wrong - 1) > spread


def test_masks_are_added_to_the_sum_modulo_the_power():
    seen = []

    def mask(words):
        seen.append(words.copy())
        words += words.dtype.type(12345)

    words = masked(door("distributed", MASKED), bits=32, mask=mask)
    np.testing.assert_array_equal(words, seen[0] + np.uint32(12345))
    np.testing.assert_array_equal(seen[0], masked(door("distributed", MASKED)))


def test_wrapping_around_changes_a_sum_modulo_the_power_only():
    few, many = (masked(door("distributed", MASKED), bits=bits) for bits in (8, 40))
    np.testing.assert_array_equal(few, many % 2**8)
    assert (centre(few, 8) != centre(many, 40)).any()


def test_masked_sums_are_charged_before_anything_is_computed():
    the_door = door("distributed", MASKED, times=1)

    def fails(chunk):
        assert charged(the_door) == 1
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        masked(the_door, contribution=fails)
    assert charged(the_door) == 1
    with pytest.raises(RefusalError):  # computing again would be a second release
        masked(the_door, contribution=fails)


@pytest.mark.parametrize(
    ("dp", "release"),
    [
        ("local", MASKED),
        ("central", MASKED),
        ("none", MASKED),
        ("distributed", RELEASE),
        ("distributed", replace(MASKED, sampling_rate=0.5)),
    ],
)
def test_only_skellam_sums_over_everybody_leave_masked(dp, release):
    the_door, touched = door(dp, release), []
    with pytest.raises(ValueError, match="only a release of distributed noise over all customers"):
        masked(the_door, release, contribution=touched.append)
    assert not touched
    assert dp == "none" or charged(the_door) == 0


def test_distributed_sums_leave_no_other_way():
    the_door = door("distributed", MASKED)
    with pytest.raises(ValueError, match="under distributed noise a sum leaves masked"):
        the_door.private_sum(MASKED, counts, HISTORIES)
    assert charged(the_door) == 0


def test_masked_sums_not_in_the_plan_are_refused():
    for other in (replace(MASKED, noise_multiplier=0.4), replace(MASKED, rows=N_ITEMS + 1)):
        with pytest.raises(RefusalError):
            masked(door("distributed", MASKED), other)


def test_an_empty_shop_still_adds_its_share():
    words = masked(door("distributed", MASKED), rows=HISTORIES.select(np.zeros(200, dtype=bool)))
    assert (words != 0).sum() > 30


def test_sampling_gives_no_amplification_to_skellam_sums():
    assert replace(MASKED, sampling_rate=0.1).event == MASKED.event != RELEASE.event
