import numpy as np
import pytest
import torch

from hansa.models.base import NoisySum
from hansa.models.coins import coins
from hansa.models.cooccurrence import EMBEDDINGS, Cooccurrence
from hansa.models.hybrid import REFINEMENT, Hybrid
from hansa.models.popularity import COUNTS
from hansa.plan import build_method
from hansa.rng import seeded_generator
from hansa.schema import Histories

N_ITEMS, ROUND = 14, 4
ROWS = [tuple(seeded_generator(k, "row").permutation(N_ITEMS)[: 3 + k]) for k in range(8)]


def pack(rows, n_items=N_ITEMS):
    offsets = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
    return Histories(offsets, np.array([i for row in rows for i in row], dtype=np.int32), n_items)


def method(**changed):
    return Hybrid(
        **{
            "n_items": N_ITEMS,
            "refinement_share": 0.4,
            "refinement_rounds": 3,
            "dimensions": 4,
            "next_items": 2,
            "temperature": 3.0,
            "recency": 0.7,
            **changed,
        }
    )


def exact_sum(model, round_, release, state, histories):
    total = torch.zeros(release.rows, release.width, dtype=torch.float64)
    contributions = model.contribution(round_, release, state, histories)
    contributions.add_to(total, torch.ones(len(histories), dtype=torch.float64))
    return total.numpy()


def learnt(model, histories):
    """The state after a run without noise."""
    state, memory = model.initial_state(seeded_generator(0)), {}
    for round_, release in enumerate(model.releases(), start=1):
        total = exact_sum(model, round_, release, state, histories).astype(np.float32)
        state = model.update(round_, release, state, NoisySum(total, 0.0, float(len(histories))), memory)
    return state


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("size", [N_ITEMS, 9])
def test_the_gradient_is_that_of_the_stated_loss_by_autograd(row, size):
    model = method(vocabulary=size)
    state = learnt(model, pack(ROWS))
    chosen = np.sort(np.argsort(-state[COUNTS][:, 0], kind="stable")[:size]).tolist()
    known = [chosen.index(item) for item in row if item in chosen]
    coin = coins(ROUND, np.array([known or [0]]), np.array([[bool(known)] * max(1, len(known))]))[0, 0]
    cut = 1 + int(coin * (len(known) - 1))
    older, wanted = known[:cut], known[cut : cut + 2]
    release = model.releases()[ROUND - 1]
    found = exact_sum(model, ROUND, release, state, pack([row]))
    if not wanted:
        assert not found.any()
        return
    v = torch.from_numpy(state[EMBEDDINGS]).double()
    extra = torch.from_numpy(state[REFINEMENT]).double().requires_grad_()
    query = sum((len(older) - k) ** -0.7 * v[item] for k, item in enumerate(older))
    w = v / (1 - (v**2).sum(dim=1, keepdim=True))
    w = torch.cat([w[:, :4] + extra[:, :4], w[:, 4:]], dim=1)
    scores = 3.0 * w @ query + extra[:, 4]
    others = [item for item in range(size) if item not in older]
    (torch.logsumexp(scores[others], 0) - scores[wanted].mean()).backward()
    np.testing.assert_allclose(found, (extra.grad / extra.grad.norm()).numpy(), atol=2e-5)


def test_cuts_differ_between_customers_and_rounds():
    many = pack([tuple(seeded_generator(k).permutation(99)[:14]) for k in range(300)], 99)
    first, second = (coins(round_, *many.padded(500))[:, 0] for round_ in (3, 4))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.25
    assert len(np.unique(np.floor(first * 13))) == 13


def test_without_a_share_it_is_cooccurrence():
    plain, hybrid = Cooccurrence(N_ITEMS, recency=0.7), method(refinement_share=0.0)
    assert hybrid.releases() == plain.releases()
    scores = [model.score(learnt(model, pack(ROWS)), pack(ROWS)) for model in (plain, hybrid)]
    np.testing.assert_allclose(*scores, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_the_shares_add_up_to_one_budget(share):
    releases = method(refinement_share=share).releases()
    spent = [release.noise_multiplier**-2 for release in releases]
    assert sum(spent) == pytest.approx(1)
    assert sum(spent[2:]) == pytest.approx(share)


def test_refinement_learns_what_follows_what():
    """Everybody goes round the same circle, which a symmetric statistic cannot tell from going back."""
    n = 24
    rows = pack([tuple((start + np.arange(3)) % n) for start in range(n)] * 5, n)
    asked = pack([(start, (start + 1) % n) for start in range(n)], n)
    refined = Hybrid(
        n,
        popularity_weight=0.0,
        refinement_share=0.5,
        refinement_rounds=40,
        dimensions=n,
        next_items=1,
        temperature=10.0,
        optimizer="fedadam",
        rate=0.02,
        recency=0.0,
    )
    state = learnt(refined, rows)
    before = {**state, REFINEMENT: np.zeros_like(state[REFINEMENT])}

    def forward(state):
        scores, starts = refined.score(state, asked), np.arange(n)
        return (scores[starts, (starts + 2) % n] - scores[starts, starts - 1]).round(4)

    assert np.abs(forward(before)).max() < 1e-3
    assert (forward(state) > 0.1).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"refinement_share": 1.0},
        {"next_items": 0},
        {"temperature": 0.0},
        {"optimizer": "sgd"},
        {"rate": -1.0},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be|must lie|unknown"):
        method(**wrong)


def test_a_plan_can_set_all_of_it():
    settings = {"refinement_share": 0.2, "recency": 1, "dimensions": 8, "optimizer": "fedadam"}
    assert build_method("hybrid", 50, settings) == Hybrid(50, **settings)
