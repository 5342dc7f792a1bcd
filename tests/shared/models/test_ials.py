import numpy as np
import torch

from hansa.metrics import evaluate
from hansa.models import ials
from hansa.models.ials import Ials, IalsSettings, _solve
from hansa.models.tuning import hold_back
from hansa.rng import seeded_generator
from hansa.schema import Histories


def clustered(n: int = 120, n_items: int = 60, seed: int = 0) -> Histories:
    """Customers of three tastes, each over a third of the items."""
    rng = seeded_generator(seed, "test")
    taste = np.arange(n)[:, None] % 3 == np.arange(n_items) % 3
    users, items = np.nonzero(rng.random((n, n_items)) < np.where(taste, 0.5, 0.02))
    order = rng.permutation(len(users))
    return Histories.from_pairs(users[order], items[order], n, n_items)


def test_solution_is_the_ridge_minimum(monkeypatch) -> None:
    monkeypatch.setattr(ials, "BATCH_CELLS", 40)  # several batches, some of one row
    histories = clustered(n=17)
    settings = IalsSettings(dimensions=4, unobserved=0.2, regularisation=0.05, frequency=0.7)
    fixed = torch.from_numpy(seeded_generator(1, "test").normal(size=(60, 4)).astype(np.float32))
    found = _solve(fixed, histories.offsets, histories.items, settings).numpy()
    h = fixed.numpy().astype(np.float64)
    for u in range(17):
        mine = h[histories.row(u)]
        penalty = 0.05 * (len(mine) + 0.2 * 60) ** 0.7
        system = mine.T @ mine + 0.2 * h.T @ h + penalty * np.eye(4)
        np.testing.assert_allclose(found[u], np.linalg.solve(system, mine.sum(0)), atol=1e-4)


def test_finds_tastes_and_repeats_itself() -> None:
    split = hold_back(clustered())
    settings = IalsSettings(dimensions=8, sweeps=6)
    model = Ials.fit(split.kept, settings, seed=3)
    assert np.nanmean(evaluate(model.score, split.kept, split.held)["hr@10"]) > 0.75
    again = Ials.fit(split.kept, settings, seed=3)
    np.testing.assert_array_equal(model.items.numpy(), again.items.numpy())


def test_empty_rows_have_zero_vectors() -> None:
    empty = Histories(np.zeros(3, dtype=np.int64), np.empty(0, dtype=np.int32), 60)
    assert not Ials.fit(clustered(), IalsSettings(dimensions=4, sweeps=1)).score(empty).any()


def test_a_large_catalogue_stays_small() -> None:
    rng = seeded_generator(2, "test")
    n, n_items = 2000, 50_000
    pairs = rng.integers(0, n_items, (n, 5))
    histories = Histories.from_pairs(np.repeat(np.arange(n), 5), pairs.ravel(), n, n_items)
    model = Ials.fit(histories, IalsSettings(dimensions=8, sweeps=1))
    assert model.items.shape == (n_items, 8)
    assert model.score(histories.select(np.arange(3))).shape == (3, n_items)
