"""The partial spectrum against the full one."""

import numpy as np
import pytest
import torch

from hansa.models import spectrum
from hansa.models.spectrum import leading
from hansa.rng import seeded_generator

SIZE = 1400


def noisy(signals: list[float], size: int = SIZE) -> tuple[np.ndarray, float]:
    """A few directions of the given eigenvalues in symmetric noise, and the noise's spectral radius."""
    rng = seeded_generator(1, "spiked")
    noise = rng.standard_normal((size, size))
    noise = np.triu(noise, 1) / np.sqrt(2) + np.diag(rng.standard_normal(size))
    vectors = np.linalg.qr(rng.standard_normal((size, max(1, len(signals)))))[0][:, : len(signals)]
    matrix = (vectors * signals) @ vectors.T + noise + np.triu(noise, 1).T
    return matrix.astype(np.float32), float(np.sqrt(2 * size))


def denoised(values: np.ndarray, vectors: np.ndarray, above: float) -> np.ndarray:
    return (vectors * (values - above)) @ vectors.T


def full(matrix: np.ndarray, above: float, most: int) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(matrix.astype(np.float64))
    wanted = np.flatnonzero(values > above)[::-1][:most]
    return values[wanted], vectors[:, wanted]


@pytest.mark.parametrize(
    ("signals", "share", "most", "settles"),
    [
        ([250.0, 200, 150, 80], 1.1, 1000, True),
        ([250.0, 200, 150, 80], 0.9, 3, True),
        ([250.0, 200, 150, 80], 0.5, 1000, False),  # over a hundred of the noise are above half its radius
        ([], 1.2, 10, True),
    ],
)
def test_what_is_wanted_of_the_spectrum_is_that_of_the_full_one(signals, share, most, settles) -> None:
    matrix, radius = noisy(signals)
    above = share * radius
    before = matrix.copy()
    values, vectors = leading(matrix, above, most)
    expected = full(matrix, above, most)
    assert (spectrum._by_lanczos(torch.from_numpy(matrix), above, most) is not None) == settles
    assert len(values) == len(expected[0]) == vectors.shape[1]
    np.testing.assert_allclose(values, expected[0], rtol=1e-3)
    ours, theirs = denoised(values, vectors, above), denoised(*expected, above)
    assert np.linalg.norm(ours - theirs) <= 5e-3 * np.linalg.norm(theirs)
    assert (matrix == before).all()


def test_a_small_matrix_and_one_without_noise() -> None:
    low = seeded_generator(0).standard_normal((SIZE, 5)).astype(np.float32)
    for matrix in (low[:20] @ low[:20].T, low @ low.T):
        values, vectors = leading(matrix, 0.0, 5)
        assert len(values) == 5
        np.testing.assert_allclose(denoised(values, vectors, 0.0), matrix, atol=2e-3)


def test_ties_and_nothing_at_all() -> None:
    values, vectors = leading(np.eye(SIZE, dtype=np.float32), 0.5, 48)
    np.testing.assert_allclose(values, 1.0, rtol=1e-5)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(48), atol=1e-4)
    assert leading(np.zeros((SIZE, SIZE), dtype=np.float32), 0.0, 10)[0].shape == (0,)
