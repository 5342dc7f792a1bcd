"""The rival: its least squares, its weights, and that it learns."""

import numpy as np
import pytest

from hansa.errors import UsageError
from hansa.models.base import NoisySum
from hansa.models.dpals import ITEMS as FACTORS
from hansa.models.dpals import Dpals
from hansa.models.popularity import COUNTS
from hansa.plan import build_method
from hansa.recommended import recommended_settings
from hansa.rng import seeded_generator
from hansa.schema import Histories

ITEMS = 60


def test_without_noise_an_update_solves_every_items_least_squares() -> None:
    method, d = Dpals(5, vocabulary=5, dimensions=3, iterations=1, negative_weight=0.4, everything=0.5), 3
    people = seeded_generator(0).standard_normal((40, d))
    had, weights = seeded_generator(1).random((40, 5)) < 0.4, 0.7
    first, second = np.triu_indices(d)
    factor = np.where(first == second, 1.0, 2**0.5)
    rows = np.concatenate([people[:, first] * people[:, second] * factor, people], axis=1)
    total = np.concatenate([weights * had.T @ rows, 0.5 * rows.sum(axis=0, keepdims=True)])
    state = {**method.initial_state(seeded_generator(0)), COUNTS: np.ones((5, 1), np.float32)}
    release = method.releases()[1]
    found = method.update(2, release, state, NoisySum(total.astype(np.float32), 0.0, 40), {})[FACTORS]
    everybody = 0.4 * people.T @ people + 1e-3 * np.eye(d)
    for item in range(5):
        own = people[had[:, item]]
        expected = np.linalg.solve(weights * own.T @ own + everybody, weights * own.sum(axis=0))
        cosine = expected @ found[item] / np.linalg.norm(expected) / np.linalg.norm(found[item])
        assert cosine > 0.9999


def test_rare_items_get_a_larger_share_of_a_customers_bound_with_the_exponent() -> None:
    shares = {}
    for exponent in (0.0, 0.5):
        method = Dpals(ITEMS, vocabulary=ITEMS, dimensions=2, exponent=exponent)
        counts = np.full((ITEMS, 1), 100.0, np.float32)
        counts[0] = 1.0
        state = {**method.initial_state(seeded_generator(0)), COUNTS: counts}
        row = Histories.from_pairs([0, 0], [0, 1], 1, ITEMS)
        coefficients = method.contribution(2, method.releases()[1], state, row).coefficients[0]
        shares[exponent] = float(coefficients[0] / coefficients[1])
    assert shares[0.0] == pytest.approx(1)
    assert shares[0.5] == pytest.approx(10, rel=1e-4)


def test_it_finds_the_tastes_through_noise(tastes, learn, accuracy) -> None:
    rows = tastes(2000)
    method = Dpals(ITEMS, dimensions=4)
    state = learn(method, rows, noise=4.0)
    blind = {**state, FACTORS: np.zeros_like(state[FACTORS])}
    assert accuracy(method, state, rows) > 1.2 * accuracy(method, blind, rows)


def test_a_larger_budget_gets_more_dimensions() -> None:
    small, large = (recommended_settings("dpals", epsilon, 7000) for epsilon in (1.0, 4.0))
    assert build_method("dpals", 3000, small).dimensions < build_method("dpals", 3000, large).dimensions


@pytest.mark.parametrize("wrong", [{"dimensions": 0}, {"ridge": 0.0}, {"exponent": 2.0}, {"cap": 0}])
def test_impossible_settings_are_refused(wrong) -> None:
    with pytest.raises(UsageError, match="method settings of dpals"):
        build_method("dpals", 50, wrong)
