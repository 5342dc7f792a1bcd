import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.dp.accounting import compose, gaussian
from hansa.models.base import NoisySum
from hansa.models.coins import coins
from hansa.models.factorization import COUNTS, ITEMS, Factorization
from hansa.rng import seeded_generator
from hansa.schema import Histories

N_ITEMS, ROUND = 30, 3


def pack(rows):
    offsets = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
    return Histories(offsets, np.array([i for row in rows for i in row], dtype=np.int32), N_ITEMS)


ROWS = [
    tuple(seeded_generator(k, "row").permutation(N_ITEMS)[:length])
    for k, length in enumerate([9, 5, 14, 2, 1])
]


def model(**changed):
    return Factorization(
        **{"n_items": N_ITEMS, "dimensions": 4, "temperature": 1.7, "given_share": 0.5, **changed}
    )


def table(seed=0, method=None):
    shape = (method or model()).state_shapes()[ITEMS]
    return seeded_generator(seed, "table").standard_normal(shape).astype(np.float32)


def ridge(method, items, row):
    """The minimiser, from the stated normal equations in float64."""
    v = items[:, :-1].astype(np.float64)
    mine = v[list(row)]
    system = mine.T @ mine + method.negative_weight * v.T @ v + method.ridge * np.eye(v.shape[1])
    return np.linalg.solve(system, mine.sum(axis=0))


def parts(method, row):
    """The items that give the vector, and those that are to be predicted."""
    items, present = pack([row]).padded(method.cap)
    if method.given_share == 1:
        return list(row), list(row)
    given = coins(ROUND, items, present)[0] < method.given_share
    return items[0][present[0] & given].tolist(), items[0][present[0] & ~given].tolist()


def autograd(method, items, row):
    """Gradient of the stated loss, normalised: float64 [items, d + 1]."""
    inputs, targets = parts(method, row)
    if not targets:
        return np.zeros(items.shape)
    w = torch.tensor(items, dtype=torch.float64, requires_grad=True)
    f = torch.tensor([*(method.temperature * ridge(method, items, inputs)), 1.0])
    scores = w @ f
    if method.candidates >= N_ITEMS:
        out = [] if method.given_share == 1 else inputs
        keep = torch.tensor([i for i in range(N_ITEMS) if i not in out])
        mass = torch.logsumexp(scores[keep], 0)
    else:
        drawn = [int(i) for i in method._draw(ROUND) if int(i) not in row]
        weighted = scores[torch.tensor(drawn, dtype=torch.int64)] + math.log(N_ITEMS / method.candidates)
        mass = torch.logsumexp(torch.cat([weighted, scores[torch.tensor(targets)]]), 0)
    (mass - scores[torch.tensor(targets)].mean()).backward()
    return (w.grad / w.grad.norm()).numpy()


def gradients(method, items, rows=ROWS):
    """Each customer's contribution in one chunk: float32 [customers, items, d + 1]."""
    release = method.releases()[ROUND - 1]
    contributions = method.contribution(ROUND, release, {ITEMS: items}, pack(rows))
    out = []
    for position in range(len(rows)):
        total = torch.zeros(release.rows, release.width)
        contributions.add_to(total, torch.eye(len(rows))[position])
        out.append(total.numpy())
    return np.stack(out)


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("candidates", [8192, 29, 10, 1])
@pytest.mark.parametrize("seed", [0, 1])
def test_contributions_are_the_gradient_of_the_stated_loss(share, candidates, seed):
    method = model(given_share=share, candidates=candidates)
    items = table(seed)
    ours = gradients(method, items)
    for position, row in enumerate(ROWS):
        np.testing.assert_allclose(ours[position], autograd(method, items, row), atol=2e-5)
    assert np.linalg.norm(ours[0]) == pytest.approx(1.0, abs=1e-5)


def test_the_gradient_test_notices_a_missing_mask_and_a_missing_weight():
    """Controls: the reference of one variant must not fit the gradient of the other."""
    items = table()
    full, whole, drawn = model(), model(given_share=1.0), model(candidates=10)
    for method, other in [(full, whole), (drawn, full)]:
        wrong = np.stack([autograd(other, items, row) for row in ROWS])
        assert np.abs(gradients(method, items) - wrong).max() > 1e-2


@settings(max_examples=50, deadline=None)
@given(order=st.permutations(range(N_ITEMS)), length=st.integers(0, N_ITEMS), share=st.floats(0.05, 0.95))
def test_given_and_predicted_items_partition_a_history(order, length, share):
    row = tuple(order[:length])
    inputs, targets = parts(model(given_share=share), row)
    assert sorted(inputs + targets) == sorted(row)
    assert [i for i in row if i in inputs] == inputs  # order is kept


def test_the_share_of_given_items_is_kept_and_fresh_every_round():
    method = Factorization(n_items=2000, given_share=0.3)
    rows = [np.sort(seeded_generator(k).permutation(2000)[:200]) for k in range(50)]
    offsets = np.arange(51, dtype=np.int64) * 200
    many = Histories(offsets, np.concatenate(rows).astype(np.int32), 2000)
    masks = {}
    for round_ in (2, 3):
        masks[round_] = coins(round_, *many.padded(method.cap)) < method.given_share
        assert abs(masks[round_].mean() - 0.3) < 5.5 * (0.3 * 0.7 / 10_000) ** 0.5
    agreement = (masks[2] == masks[3]).mean()
    assert abs(agreement - (0.3**2 + 0.7**2)) < 0.03  # independent coins
    few = many.select(np.arange(3, 7))  # nobody else's row matters
    np.testing.assert_array_equal(coins(2, *few.padded(500)) < method.given_share, masks[2][3:7])


def test_candidates_are_public_distinct_and_fresh_every_round():
    method = model(candidates=10)
    draws = [method._draw(round_) for round_ in range(2, 12)]
    assert all(len(np.unique(draw)) == 10 and draw.min() >= 0 and draw.max() < N_ITEMS for draw in draws)
    assert len({draw.tobytes() for draw in draws}) == 10
    np.testing.assert_array_equal(draws[0], model(candidates=10, rate=5.0)._draw(2))


def test_sampled_gradients_approach_the_full_one():
    items, row = table(2) * 0.5, ROWS[0]
    full = gradients(model(), items, [row])[0]

    def cosine(candidates):
        return float((gradients(model(candidates=candidates), items, [row])[0] * full).sum())

    assert cosine(N_ITEMS - 1) > 0.97
    assert cosine(N_ITEMS - 1) > cosine(8) > cosine(1)


def test_scores_come_from_the_ridge_vector():
    method, items = model(negative_weight=0.2, ridge=2.5, cap=8), table(4)
    scores = method.score({ITEMS: items}, pack([*ROWS, ()]))
    for position, row in enumerate([*ROWS, ()]):
        f = method.temperature * ridge(method, items, row[-8:])
        np.testing.assert_allclose(scores[position], items[:, :-1] @ f + items[:, -1], atol=1e-4)


def test_the_ridge_vector_minimises_its_loss():
    method, items = model(negative_weight=0.2, ridge=2.5), table(4)
    row = ROWS[0]
    v = items[:, :-1].astype(np.float64)

    def loss(f):
        fit = ((1 - v[list(row)] @ f) ** 2).sum()
        return fit + method.negative_weight * ((v @ f) ** 2).sum() + method.ridge * (f**2).sum()

    padded = (torch.from_numpy(part) for part in pack([row]).padded(500))
    best = method._vectors(method._solver(items), *padded)[0].numpy().astype(np.float64)
    assert all(loss(best) < loss(best + 0.05 * direction) for direction in (*np.eye(4), *-np.eye(4)))


def test_a_singular_system_is_no_error_that_tells_of_data():
    """Rounding makes the system of whoever has item 0 singular here, and nobody else's."""
    found = 0
    method = Factorization(n_items=5, dimensions=2, given_share=1.0)
    release = method.releases()[1]
    for size in np.geomspace(0.1, 1e3, 200):
        items = np.zeros((5, 3), dtype=np.float32)
        items[0, :2], items[1, :2] = [1e5, 1e5], [size, -size]
        v = torch.from_numpy(items[:, :2])
        system = v[:1].T @ v[:1] + method.negative_weight * v.T @ v + torch.eye(2)
        found += int(torch.linalg.cholesky_ex(system).info) != 0
        for item in (0, 2):
            histories = Histories(np.array([0, 1]), np.array([item], dtype=np.int32), 5)
            norms = method.contribution(2, release, {ITEMS: items}, histories).squared_norms()
            assert norms.shape == (1,)
            method.score({ITEMS: items}, histories)
    assert found  # torch.linalg.cholesky would have raised here


def test_noise_is_shared_out_as_stated():
    method = model(count_share=0.2, gradient_rounds=7, local_steps=3, sampling_rate=1.0)
    counts, *gradients_ = method.releases()
    assert (counts.name, counts.width, counts.steps, counts.sampling_rate) == (COUNTS, 1, 1, 1.0)
    assert {(g.name, g.width, g.steps) for g in gradients_} == {(ITEMS, 5, 3)}
    assert len(gradients_) == 7
    shares = [counts.noise_multiplier**-2, sum(g.steps * g.noise_multiplier**-2 for g in gradients_)]
    np.testing.assert_allclose(shares, [0.2, 0.8])
    sampled = model(sampling_rate=0.25).releases()[1]
    assert sampled.sampling_rate == 0.25
    assert sampled.event == gaussian(sampled.noise_multiplier, 0.25)
    assert compose([sampled.event]) != compose([model().releases()[1].event])


def test_counts_become_biases_above_a_floor_of_noise():
    method = model()
    items = table()
    total = np.linspace(-5, 100, N_ITEMS, dtype=np.float32)[:, None]
    after = method.update(1, method.releases()[0], {ITEMS: items}, NoisySum(total, 3.0, 9.0), {})[ITEMS]
    np.testing.assert_array_equal(after[:, :-1], items[:, :-1])
    expected = np.log(np.maximum(total[:, 0], 6.0))
    np.testing.assert_allclose(after[:, -1], expected - expected.mean(), rtol=1e-5)


def test_gradients_move_the_table_against_them():
    method = model(optimizer="fedavg", rate=0.5)
    items, total = table(), np.full((N_ITEMS, 5), 4.0, dtype=np.float32)
    after = method.update(2, method.releases()[1], {ITEMS: items}, NoisySum(total, 0.0, 8.0), {})[ITEMS]
    np.testing.assert_allclose(after, items - 0.25, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dimensions": 0}, "dimensions must be at least 1"),
        ({"gradient_rounds": 0}, "gradient_rounds must be at least 1"),
        ({"cap": 0}, "cap must be at least 1"),
        ({"candidates": 0}, "candidates must be at least 1"),
        ({"local_steps": 0}, "local_steps must be at least 1"),
        ({"gradient_rounds": 10**9}, "gradient_rounds times local_steps must be at most"),
        ({"gradient_rounds": 1000, "local_steps": 101}, "gradient_rounds times local_steps must be at most"),
        ({"ridge": 0.0}, "ridge must lie between 1e-06 and 1e+06"),
        ({"negative_weight": math.nan}, "negative_weight must lie between"),
        ({"negative_weight": 1e-35}, "negative_weight must lie between"),
        ({"temperature": -1.0}, "temperature must lie between 0.001 and 1000"),
        ({"temperature": 1e25}, "temperature must lie between 0.001 and 1000"),
        ({"rate": 0.0}, "rate must lie between"),
        ({"rate": math.inf}, "rate must lie between"),
        ({"local_rate": 0.0}, "local_rate must lie between"),
        ({"count_share": 1.0}, "count_share must lie between 0 and 1"),
        ({"count_share": 0.0}, "count_share must lie between 0 and 1"),
        ({"given_share": 0.0}, "given_share must be above 0"),
        ({"sampling_rate": 0.0}, "sampling_rate must be above 0"),
        ({"sampling_rate": 1.5}, "sampling_rate must be above 0 and at most 1"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1"),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'"),
    ],
)
def test_settings_out_of_range_are_named(changed, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        model(**changed)
