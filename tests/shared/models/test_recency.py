import numpy as np

from hansa.models.recency import recency_matrix
from hansa.schema import Histories

ROWS = Histories(np.array([0, 3, 3, 5]), np.array([4, 0, 2, 1, 4], dtype=np.int32), 6)


def test_the_newest_counts_fully_and_older_ones_less_by_their_place():
    weights = recency_matrix(ROWS, 0.5)
    assert weights.dtype == np.float32
    expected = np.zeros((3, 6))
    expected[0, [2, 0, 4]] = 1, 2**-0.5, 3**-0.5
    expected[2, [4, 1]] = 1, 2**-0.5
    np.testing.assert_allclose(weights.toarray(), expected, rtol=1e-6)


def test_without_power_it_is_the_binary_matrix():
    np.testing.assert_array_equal(recency_matrix(ROWS, 0.0).toarray(), ROWS.matrix().toarray())


def test_a_customer_s_weights_are_the_same_alone():
    alone = recency_matrix(ROWS.select(np.array([2])), 1.0).toarray()
    np.testing.assert_array_equal(alone[0], recency_matrix(ROWS, 1.0).toarray()[2])
