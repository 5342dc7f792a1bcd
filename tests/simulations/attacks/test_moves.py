import numpy as np
import pytest

from hansa.plan import METHODS, build_method
from hansa.rng import seeded_generator
from hansa.schema import Histories
from hansa_simulations.attacks.faults import leaking_state, looser_clipping
from hansa_simulations.attacks.moves import ROUNDING, largest_move

ITEMS = 40


def customers(count=6):
    draw = seeded_generator(0, "rows")
    rows = [draw.permutation(ITEMS)[: 3 + at] for at in range(count)]
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Histories(offsets, np.concatenate(rows).astype(np.int32), ITEMS)


def moves(name):
    learner = build_method(name, ITEMS, {"refinement_share": 0.4} if name == "hybrid" else {})
    draw = seeded_generator(1, "state")
    state = {
        key: draw.standard_normal(shape).astype(np.float32) for key, shape in learner.state_shapes().items()
    }
    releases = {release.name: (at, release) for at, release in enumerate(learner.releases(), 1)}
    return [largest_move(learner, at, release, state, customers()) for at, release in releases.values()]


@pytest.mark.parametrize("name", METHODS)
def test_each_customer_moves_a_sum_by_the_bound_at_most(name):
    assert all(0.5 < moved <= 1 + ROUNDING for moved in moves(name))
    with looser_clipping(4.0):
        assert all(moved > 1.5 for moved in moves(name))


def test_a_customer_who_is_seen_in_another_s_contribution_moves_more():
    with leaking_state():
        assert moves("popularity")[0] > 1.1
