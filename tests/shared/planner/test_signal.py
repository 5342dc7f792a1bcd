from dataclasses import replace

import numpy as np
import pytest

from hansa.dp.pairs import PairContributions, packed_rows, unpack
from hansa.dp.private_sum import Release
from hansa.models.cooccurrence import PAIRS
from hansa.models.popularity import counts_contribution, counts_release
from hansa.planner.signal import expect, shares
from hansa.rng import seeded_generator
from hansa.schema import Histories

ITEMS, HISTORY, CUSTOMERS = 60, 8, 4_000


@pytest.fixture(scope="module")
def histories():
    """Customers who buy as assumed: items drawn with popularity 1 / rank, each counted once."""
    generator = seeded_generator(0, "signal")
    popularity = 1 / np.arange(1, ITEMS + 1)
    drawn = generator.choice(ITEMS, (CUSTOMERS, HISTORY), p=popularity / popularity.sum())
    rows = [np.unique(row) for row in drawn]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return Histories(offsets.astype(np.int64), np.concatenate(rows).astype(np.int32), ITEMS)


def summed(contributions, rows):
    import torch

    total = torch.zeros(rows, 1)
    contributions.add_to(total, torch.ones(CUSTOMERS))
    return total.numpy()


def test_shares_are_those_of_customers_who_buy_as_assumed(histories):
    seen = np.bincount(histories.items, minlength=ITEMS) / CUSTOMERS
    assert shares(ITEMS, HISTORY) == pytest.approx(seen, abs=0.03)
    assert shares(1, 5) == pytest.approx([1.0])


def test_the_best_seller_is_counted_as_expected(histories):
    release = replace(counts_release(ITEMS), noise_multiplier=10.0)
    found = expect(release, ITEMS, HISTORY, CUSTOMERS)
    counts = summed(counts_contribution(histories, 500), ITEMS)
    assert found.signal == pytest.approx(float(counts.max()), rel=0.1)
    assert found.visible == pytest.approx(int((counts > 20).sum()), abs=3)
    assert found.noise == 10.0


@pytest.mark.parametrize("vocabulary", [5, 20, ITEMS])
def test_the_largest_eigenvalue_is_as_expected(histories, vocabulary):
    rows = packed_rows(vocabulary)
    found = expect(Release(PAIRS, rows, 1, noise_multiplier=3.0), ITEMS, HISTORY, CUSTOMERS)
    best = histories.where(histories.items < vocabulary)
    best = Histories(best.offsets, best.items, vocabulary)
    matrix = unpack(summed(PairContributions(best), rows), vocabulary)
    assert found.signal == pytest.approx(float(np.linalg.eigvalsh(matrix)[-1]), rel=0.15)
    assert found.noise == pytest.approx(3.0 * (2 * vocabulary) ** 0.5)


@pytest.mark.parametrize(("vocabulary", "history"), [(1, HISTORY), (ITEMS, 1)])
def test_without_a_pair_nothing_is_to_be_seen(vocabulary, history):
    release = Release(PAIRS, packed_rows(vocabulary), 1, noise_multiplier=3.0)
    found = expect(release, ITEMS, history, CUSTOMERS)
    assert found.ratio == pytest.approx(0.0, abs=1e-9)


def test_the_noise_of_pairs_has_the_radius_stated():
    size = 400
    release = Release(PAIRS, packed_rows(size), 1, noise_multiplier=2.0)
    noise = 2.0 * seeded_generator(1, "noise").standard_normal((packed_rows(size), 1)).astype(np.float32)
    radius = float(np.linalg.eigvalsh(unpack(noise, size))[-1])
    assert expect(release, 1_000, HISTORY, CUSTOMERS).noise == pytest.approx(radius, rel=0.05)


def test_the_noise_of_a_table_has_the_radius_stated():
    release = Release("items", 400, 17, noise_multiplier=2.0)
    noise = 2.0 * seeded_generator(1, "noise").standard_normal((400, 17))
    radius = float(np.linalg.norm(noise, 2))
    assert expect(release, 400, HISTORY, CUSTOMERS).noise == pytest.approx(radius, rel=0.05)


@pytest.mark.parametrize("name", ["counts", PAIRS, "items"])
def test_more_customers_more_signal_and_more_sums_more_noise(name):
    release = Release(name, packed_rows(30), 1, noise_multiplier=2.0)
    one = expect(release, ITEMS, HISTORY, CUSTOMERS)
    many = expect(release, ITEMS, HISTORY, 10 * CUSTOMERS, sums=16)
    assert many.signal == pytest.approx(10 * one.signal)
    assert many.noise == pytest.approx(4 * one.noise)
    sampled = expect(replace(release, sampling_rate=0.1), ITEMS, HISTORY, CUSTOMERS)
    assert sampled.signal == pytest.approx(one.signal / 10)


def test_without_noise_the_ratio_is_infinite():
    assert expect(Release("items", 30, 4), ITEMS, HISTORY, CUSTOMERS).ratio == float("inf")
