"""Statistical tests here use one fixed stream, so that they pass or fail once and for all.

``ALARM`` is the rate at which each would fail a right implementation if the stream were fresh.
"""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hansa.dp.noise import _BLOCK, GridGaussian, _Normals
from hansa.rng import Keystream, seeded_generator

ALARM = 1e-6
MANY = 4_000_000


def release(total, deviation=1.0, seed=7, bound=1.0):
    return GridGaussian(bound, deviation, total.numel()).release(total, seeded_generator(seed, "noise test"))


def samples(scale=1.0, deviation=1.0, count=MANY):
    return release(torch.zeros(count // 4, 4), deviation).numpy().ravel() * scale


def rejected_by_distribution(drawn):
    """Kolmogorov and Smirnov against N(0, 1)."""
    return stats.kstest(drawn[:200_000], "norm").pvalue < ALARM


def rejected_by_tails(drawn):
    """Numbers beyond 3, 4 and 4.5 deviations, each side: six two-sided binomial tests."""
    p_values = [
        stats.binomtest(int(count), len(drawn), stats.norm.sf(edge)).pvalue
        for edge in (3.0, 4.0, 4.5)
        for count in ((drawn > edge).sum(), (drawn < -edge).sum())
    ]
    return min(p_values) < ALARM / 6


def test_noise_is_standard_normal_into_its_tails():
    drawn = samples()
    assert not rejected_by_distribution(drawn)
    assert not rejected_by_tails(drawn)


@pytest.mark.parametrize("scale", [2 / 3, 3 / 2])
def test_both_tests_catch_a_wrong_scale(scale):
    assert rejected_by_distribution(samples(scale))
    assert rejected_by_tails(samples(scale))


def test_the_tail_test_catches_a_truncated_normal():
    drawn = samples()
    truncated = drawn[np.abs(drawn) < 4.0]
    assert not rejected_by_distribution(truncated)  # that one is blind to it: both are needed
    assert rejected_by_tails(truncated)


class Chosen:
    """A keystream whose words are given: the tail is too thin to wait for it."""

    def __init__(self, radius, angle):
        self.bytes = np.concatenate([radius.view(np.uint8), angle.view(np.uint8)])

    def fill(self, block, out):
        out[:] = self.bytes


def normals_of(radius, angle):
    radius, angle = np.atleast_1d(np.asarray(radius, np.int64)), np.atleast_1d(np.asarray(angle, np.int32))
    return _Normals(2 * len(radius) - 1).draw(Chosen(radius, angle), 0, 1.0)


def test_the_tail_reaches_beyond_where_float32_normals_end():
    """Stratified words: uniform below 2^-24, where torch's float32 normal has its last value, 5.77."""
    draw = seeded_generator(3)
    count, rare = 1_000_000, 2.0**-20
    radius = draw.integers(0, int(2**63 * rare), count)
    pairs = normals_of(radius, draw.integers(-(2**31), 2**31, count))
    for edge in (5.77, 6.0, 6.5):
        # With a positive radius the first of a pair is positive, the second may be either.
        seen, share = int((pairs > edge).sum()), 1.5 / rare
        assert stats.binomtest(seen, len(pairs), share * stats.norm.sf(edge)).pvalue > ALARM
        for scale in (2 / 3, 3 / 2):
            assert (
                stats.binomtest(seen, len(pairs), min(1.0, share * stats.norm.sf(edge / scale))).pvalue
                < ALARM
            )
        assert seen > 10
    assert normals_of(0, 0).max() == pytest.approx(math.sqrt(2 * 65 * math.log(2)))


@given(
    st.integers(-(2**63), 2**63 - 1)
    | st.integers(0, 62).map(lambda bits: 2**63 - 2**bits)
    | st.integers(0, 62).map(lambda bits: 2**bits),
    st.integers(-(2**31), 2**31 - 1),
)
def test_normals_follow_box_and_muller(radius_word, angle_word):
    """Against the formula in 40 digits, within the error that the documentation states."""
    first, second = normals_of(radius_word, angle_word)
    with mpmath.workdps(40):
        uniform = min(mpmath.mpf(1), (abs(radius_word) + mpmath.mpf("0.25")) / 2**63)
        radius = math.copysign(1, radius_word) * mpmath.sqrt(-2 * mpmath.log(uniform))
        angle = mpmath.pi / 2 * angle_word / 2**31
        error = max(abs(first - radius * mpmath.cos(angle)), abs(second - radius * mpmath.sin(angle)))
        assert error <= 2.0**-50 * (abs(radius) + 3)


def test_the_four_quadrants_are_equally_likely_and_the_two_of_a_pair_independent():
    normals = _Normals(1 << 20)
    first, second = normals.draw(Keystream(seeded_generator(5)), 0, 1.0).reshape(2, -1)[:, : 1 << 19]
    quadrants = np.bincount(2 * (first > 0) + (second > 0), minlength=4)
    assert stats.chisquare(quadrants).pvalue > ALARM
    for a, b in ((first, second), (first**2, second**2), (np.abs(first), second)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / len(first) ** 0.5


def test_deviation_scales_and_adds():
    plain = samples(count=1000)
    np.testing.assert_allclose(samples(deviation=3.0, count=1000), 3 * plain, rtol=1e-6, atol=1e-7)
    start = torch.full((250, 4), 5.0)
    moved = release(start) - start
    np.testing.assert_allclose(moved.ravel(), plain, atol=1e-6)


def test_every_entry_gets_its_own_noise_across_blocks():
    drawn = release(torch.zeros(_BLOCK + 5, 2)).numpy().ravel()
    assert np.count_nonzero(drawn == 0.0) <= 1
    assert len(np.unique(drawn[-10:])) == 10
    first, second = drawn[:_BLOCK], drawn[_BLOCK : 2 * _BLOCK]
    assert abs(float(np.mean(first * second))) < 5 / _BLOCK**0.5  # false alarm 6e-7


def test_columns_and_neighbours_are_uncorrelated():
    drawn = samples().reshape(-1, 4).astype(np.float64)
    correlations = [np.mean(drawn[:, i] * drawn[:, j]) for i in range(4) for j in range(i)]
    correlations.append(np.mean(drawn[:-1, 0] * drawn[1:, 0]))
    assert np.max(np.abs(correlations)) < 5.5 / len(drawn) ** 0.5  # false alarm below 3e-7


def test_threads_change_nothing():
    total = torch.zeros(6 * _BLOCK + 3, 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = release(total)
        torch.set_num_threads(2)
        two = release(total)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, two)


# The grid.

DEVIATIONS = st.floats(1e-6, 1e6)


@given(deviation=DEVIATIONS, size=st.sampled_from([0.0, 1e-9, 1.0, 1e4]), seed=st.integers(0, 10**6))
def test_what_is_released_lies_on_the_grid(deviation, size, seed):
    total = torch.from_numpy(size * seeded_generator(seed).standard_normal((5, 3)))
    mechanism = GridGaussian(1.0, deviation, 15)
    steps = release(total, deviation).double() / mechanism.spacing
    assert torch.equal(steps, steps.round())
    assert math.frexp(mechanism.spacing)[0] == 0.5  # a power of two
    assert mechanism.spacing <= deviation * 2.0**-26


def test_sums_and_noise_alone_would_miss_the_grid():
    """A control: what Mironov (2012) warns of, low bits of the sum that survive the noise."""
    steps = (torch.full((100, 1), 0.1, dtype=torch.float64) + torch.randn(100, 1).double()) / 2.0**-26
    assert not torch.equal(steps, steps.round())


@given(low=st.floats(-1e3, 1e3), seed=st.integers(0, 10**6))
def test_the_release_depends_on_the_rounded_sum_alone(low, seed):
    """Two sums in the same cell of the grid give the very same release: no digit below it leaks."""
    spacing = GridGaussian(1.0, 1.0, 8).spacing
    cell = np.rint(low / spacing)
    sums = [torch.full((4, 2), (cell + shift) * spacing, dtype=torch.float64) for shift in (-0.49, 0.0, 0.49)]
    first, *others = (release(total, seed=seed) for total in sums)
    assert all(torch.equal(first, other) for other in others)
    next_cell = torch.full((4, 2), (cell + 1) * spacing, dtype=torch.float64)
    exact = [GridGaussian(1.0, 1.0, 8)] * 2
    outs = [torch.empty(4, 2, dtype=torch.float64) for _ in exact]
    for mechanism, out, total in zip(exact, outs, (sums[1], next_cell), strict=True):
        mechanism.fill(out, total, seeded_generator(seed))
    assert torch.equal(outs[1] - outs[0], torch.full((4, 2), spacing, dtype=torch.float64))


@given(
    bound=st.floats(1e-3, 1e3),
    multiplier=st.floats(1e-3, 1e9),
    entries=st.integers(1, 10**9),
)
def test_rounding_is_paid_from_the_bound(bound, multiplier, entries):
    mechanism = GridGaussian(bound, multiplier * bound, entries)
    room = mechanism.spacing * math.sqrt(entries)
    assert mechanism.contribution_bound + room == pytest.approx(bound)
    assert mechanism.contribution_bound >= bound / 2


def test_rounding_moves_neighbouring_sums_by_no_more_than_was_paid():
    """Worst case: every entry of one sum is rounded up, of its neighbour down."""
    entries = 10_000
    mechanism = GridGaussian(1.0, 64.0, entries)
    change = torch.full((entries, 1), mechanism.contribution_bound / entries**0.5, dtype=torch.float64)
    base = (0.5 - 1e-6) * mechanism.spacing - change % mechanism.spacing
    moved = torch.round((base + change + 2e-6 * mechanism.spacing) / mechanism.spacing) - torch.round(
        base / mechanism.spacing
    )
    moved = float(torch.linalg.vector_norm(moved)) * mechanism.spacing
    assert moved <= mechanism.bound
    assert moved > mechanism.contribution_bound  # a control: without the room it would be too much


def test_the_release_is_unbiased():
    total = torch.full((1000, 1000), 0.3, dtype=torch.float64)
    released = release(total, bound=1.0).double()
    assert abs(float(released.mean()) - 0.3) < 5 / 1000  # false alarm 6e-7


# Filling a few rows, and no noise.


@pytest.mark.parametrize("deviation", [0.0, 1.0])
@pytest.mark.parametrize("width", [1, 3, _BLOCK // 2 + 1, 2 * _BLOCK])
def test_some_rows_and_zeros_elsewhere_equal_the_whole_table(deviation, width):
    rows = torch.tensor([0, 2, 3, 6])
    sums = torch.from_numpy(seeded_generator(0).standard_normal((4, width)))
    whole = torch.zeros(7, width, dtype=torch.float64)
    whole[rows] = sums
    mechanism = GridGaussian(1.0, deviation, 7 * width)
    sparse, dense = torch.full((7, width), torch.nan), torch.full((7, width), torch.nan)
    mechanism.fill(sparse, sums, seeded_generator(1), rows=rows, times=0.5)
    mechanism.fill(dense, whole, seeded_generator(1), times=0.5)
    assert torch.equal(sparse, dense)
    again = torch.empty(7, width)
    mechanism.fill(again, whole, seeded_generator(1))
    np.testing.assert_allclose(again * 0.5, dense, rtol=1e-6)


def test_no_deviation_no_noise():
    untouched = seeded_generator(0)
    assert not release(torch.zeros(3, 3), 0.0).any()
    assert not GridGaussian(1.0, 0.0, 9).release(torch.zeros(3, 3), untouched).any()
    assert untouched.random() == seeded_generator(0).random()
    assert GridGaussian(1.0, 0.0, 9).contribution_bound == 1.0


@pytest.mark.parametrize("deviation", [-1.0, np.nan, np.inf])
def test_impossible_deviations_are_refused(deviation):
    with pytest.raises(ValueError, match="finite and not negative"):
        GridGaussian(1.0, deviation, 1)
