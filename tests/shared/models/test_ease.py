import numpy as np
import pytest

from hansa.models.ease import DualEase, EaseProblem, PrimalEase
from hansa.rng import seeded_generator
from hansa.schema import Histories


def random_histories(n: int, n_items: int, seed: int = 0) -> Histories:
    rng = seeded_generator(seed, "test")
    users, items = np.nonzero(rng.random((n, n_items)) < 0.15)
    return Histories.from_pairs(users, items, n, n_items)


def textbook(histories: Histories, regularisation: float) -> np.ndarray:
    x = histories.matrix().toarray().astype(np.float64)
    p = np.linalg.inv(x.T @ x + regularisation * np.eye(x.shape[1]))
    return np.eye(x.shape[1]) - p / np.diag(p)


@pytest.mark.parametrize("n", [8, 200])
@pytest.mark.parametrize("regularisation", [2.0, 50.0])
def test_both_forms_equal_the_textbook(n: int, regularisation: float) -> None:
    train, queries = random_histories(n, 40), random_histories(30, 40, seed=1)
    problem = EaseProblem(train)
    model = problem.solve(regularisation)
    assert isinstance(model, DualEase if n == 8 else PrimalEase)
    expected = queries.matrix().toarray() @ textbook(train, regularisation)
    np.testing.assert_allclose(model.score(queries), expected, atol=2e-5)
    assert model.score(queries).dtype == np.float32


def test_from_gram_equals_from_histories() -> None:
    train = random_histories(200, 40)
    x = train.matrix()
    from_gram = PrimalEase.from_gram((x.T @ x).toarray(), 5.0)
    np.testing.assert_allclose(from_gram.score(train), EaseProblem(train).solve(5.0).score(train), atol=1e-6)
    assert not np.diag(from_gram.weights).any()


def test_hand_solved_pair() -> None:
    # Two items always bought together by one customer: X'X + I = [[2,1],[1,2]], B = [[0,1/2],[1/2,0]].
    model = PrimalEase.from_gram(np.ones((2, 2), dtype=np.float32), 1.0)
    np.testing.assert_allclose(model.weights, [[0, 0.5], [0.5, 0]], atol=1e-6)


def test_customers_without_history_score_zero() -> None:
    empty = Histories(np.zeros(3, dtype=np.int64), np.empty(0, dtype=np.int32), 40)
    for n in (8, 200):
        assert not EaseProblem(random_histories(n, 40)).solve(3.0).score(empty).any()
    assert not EaseProblem(empty).solve(3.0).score(random_histories(4, 40)).any()


def test_memory_bounds_decide_feasibility() -> None:
    def sized(n: int, n_items: int) -> EaseProblem:
        return EaseProblem(Histories(np.zeros(n + 1, dtype=np.int64), np.empty(0, dtype=np.int32), n_items))

    assert sized(1_000, 100_000).feasible
    assert not sized(20_000, 50_000).feasible
    assert not sized(40_000, 10_001).feasible
    assert sized(40_000, 10_000).feasible
