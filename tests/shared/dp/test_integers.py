import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.dp.accounting import epsilon, gaussian, rdp_epsilon
from hansa.dp.events import NON_PRIVATE
from hansa.dp.integers import IntegerSkellam, residues
from hansa.dp.renyi import SkellamEvent
from hansa.dp.skellam import LARGEST_VARIANCE
from hansa.rng import seeded_generator
from hansa.secagg.masks import centre

WIDTHS = [16, 24, 32, 40, 48, 56, 64]


def whole(draw, bits, count=2000):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    drawn = draw.integers(low, high, count, dtype=np.int64, endpoint=True)
    return np.concatenate([drawn, np.array([low, high, 0, 1, -1], dtype=np.int64)])


@pytest.mark.parametrize("bits", WIDTHS)
def test_residues_and_centre_are_inverse(bits):
    numbers = whole(seeded_generator(bits), bits)
    words = residues(numbers.copy(), bits)
    assert words.dtype == (np.uint32 if bits <= 32 else np.uint64)
    assert int(words.max()) < 2**bits
    np.testing.assert_array_equal(centre(words, bits), numbers)


@pytest.mark.parametrize("bits", WIDTHS)
def test_numbers_that_do_not_fit_wrap_around_and_nothing_else(bits):
    draw = seeded_generator(bits)
    numbers = draw.integers(-(2**62), 2**62, 2000)
    back = centre(residues(numbers.copy(), bits), bits)
    moved = [(int(one) - int(other)) % 2**bits for one, other in zip(numbers, back, strict=True)]
    assert not any(moved)
    assert (back != numbers).any() == (bits < 64)


@pytest.mark.parametrize("bits", WIDTHS)
def test_sums_of_residues_are_residues_of_sums(bits):
    draw = seeded_generator(bits)
    parts = [whole(draw, bits) for _ in range(5)]
    total = sum(residues(part.copy(), bits).astype(np.uint64) for part in parts) & np.uint64(2**bits - 1)
    expected = [sum(map(int, column)) % 2**bits for column in zip(*parts, strict=True)]
    assert [int(word) for word in total] == expected


@pytest.mark.parametrize(
    ("entries", "scale"),
    [(1, 2**12), (262_144, 2**12), (262_145, 2**13), (25_000_000, 2**16), (10**9, 2**16)],
)
def test_the_scale_grows_with_the_entries_within_limits(entries, scale):
    mechanism = IntegerSkellam(3.0, 1.0, entries)
    assert mechanism.scale == scale
    assert mechanism.quantum * scale == 3.0


@given(entries=st.integers(1, 10**9))
def test_norms_leave_room_for_rounding_and_never_more_than_needed(entries):
    mechanism = IntegerSkellam(1.0, 1.0, entries)
    assert mechanism.squared >= mechanism.scale**2 + entries / 4 + 4 * mechanism.scale
    if entries <= 2**26:
        assert mechanism.squared <= mechanism.scale**2 * (1 + 1 / 256 + 1 / 1000) + 1
    # Cauchy and Schwarz; and a whole number is at most its square.
    assert mechanism.absolute <= mechanism.squared
    assert mechanism.absolute**2 >= min(entries * mechanism.squared, mechanism.squared**2)


@pytest.mark.parametrize("vector", [[4096], [1] * 5000, [-3] * 1800, [4000, -800, 17]])
def test_whole_numbers_within_the_squared_norm_are_within_the_absolute_one(vector):
    mechanism = IntegerSkellam(1.0, 1.0, len(vector))
    assert sum(v * v for v in vector) <= mechanism.squared
    assert sum(map(abs, vector)) <= mechanism.absolute


def test_the_event_is_the_mechanism_s():
    mechanism = IntegerSkellam(2.0, 1.5, 1000)
    (event,) = {mechanism.event.event}
    assert event == SkellamEvent(2.25 * mechanism.squared, mechanism.squared, mechanism.absolute)
    assert mechanism.deviation == pytest.approx(1.5 * 2.0 * math.sqrt(mechanism.squared) / mechanism.scale)
    assert rdp_epsilon(mechanism.event, 1e-5) == pytest.approx(rdp_epsilon(gaussian(1.5), 1e-5), rel=3e-3)
    assert IntegerSkellam(2.0, 0.0, 10).event == NON_PRIVATE
    assert epsilon(IntegerSkellam(2.0, 1e-200, 10).event, 1e-5) == math.inf


@given(
    customers=st.integers(1, 10**7),
    entries=st.integers(1, 10**7),
    multiplier=st.floats(0, 40),
    shares=st.floats(1, 5),
)
def test_the_modulus_holds_everybody_s_bound_and_ten_deviations_and_no_byte_more(
    customers, entries, multiplier, shares
):
    mechanism = IntegerSkellam(1.0, multiplier, entries)
    bits = mechanism.bits(customers, shares)
    reach = customers * math.sqrt(mechanism.squared) + 10 * math.sqrt(mechanism.variance * shares)
    assert bits % 8 == 0
    assert reach <= 2.0 ** (bits - 1) * (1 + 1e-12)
    assert bits == 16 or reach * (1 + 1e-12) > 2.0 ** (bits - 9)


def test_usual_leagues_fit_24_and_32_bits():
    assert IntegerSkellam(1.0, 4.0, 3_000).bits(1_500, 1.5) == 24
    assert IntegerSkellam(1.0, 4.0, 25_000_000).bits(7_000, 1.5) == 32


def test_more_than_64_bits_are_refused():
    with pytest.raises(ValueError, match="sums would need 72 bits; declare fewer customers"):
        IntegerSkellam(1.0, 1.0, 10).bits(10**17, 1.0)


def test_shares_of_honest_shops_make_up_the_noise():
    mechanism, honest, count = IntegerSkellam(1.0, 0.5, 4), 3, 200_000
    total = np.zeros(count, dtype=np.int64)
    for shop in range(honest):
        before = total.copy()
        mechanism.add_share(total, honest, seeded_generator(shop))
        one = float(np.var(total - before))
        assert one == pytest.approx(mechanism.variance / honest, rel=5 * math.sqrt(2 / count))
    assert float(np.var(total)) == pytest.approx(mechanism.variance, rel=5 * math.sqrt(2 / count))


@pytest.mark.parametrize("multiplier", [0.0, 1e-200])
def test_no_noise_is_none(multiplier):
    total = np.arange(5)
    IntegerSkellam(1.0, multiplier, 5).add_share(total, 2, seeded_generator(0))
    np.testing.assert_array_equal(total, np.arange(5))


def test_noise_that_cannot_be_drawn_is_said_beforehand():
    mechanism = IntegerSkellam(1.0, 100.0, 25_000_000)
    assert mechanism.share(5) == mechanism.variance / 5 < LARGEST_VARIANCE
    with pytest.raises(ValueError, match="a shop's share of the noise would have variance"):
        mechanism.share(2)
    assert IntegerSkellam(1.0, 1e200, 10).variance == math.inf
