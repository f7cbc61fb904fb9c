"""The Fréchet distance against the Bures formula by a matrix square root, and its invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import ortho_group

from studies.metrics.frechet import frechet_distance, gaussian_frechet

seeds = st.integers(0, 2**32 - 1)
dimensions = st.integers(1, 8)


def bures_by_square_roots(mean_1, covariance_1, mean_2, covariance_2):
    """|m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^1/2), the form with one general matrix square root."""
    root = np.real(sqrtm(covariance_1 @ covariance_2))
    return np.sum((mean_1 - mean_2) ** 2) + np.trace(covariance_1 + covariance_2 - 2 * root)


def random_gaussian(rng, dimension):
    factor = rng.normal(size=(dimension, dimension))
    return rng.normal(size=dimension), factor @ factor.T + 0.1 * np.eye(dimension)


@settings(max_examples=50, deadline=None)
@given(seeds, dimensions)
def test_closed_form_of_two_gaussians(seed, dimension):
    """d^2 is the Bures formula; the tolerance is that of sqrtm on a matrix of condition up to about 1e4."""
    rng = np.random.default_rng(seed)
    one, two = random_gaussian(rng, dimension), random_gaussian(rng, dimension)
    assert gaussian_frechet(*one, *two) == pytest.approx(bures_by_square_roots(*one, *two), rel=1e-8, abs=1e-8)


@settings(max_examples=50, deadline=None)
@given(st.floats(-10, 10), st.floats(0, 10), st.floats(-10, 10), st.floats(0, 10))
def test_one_dimension(mean_1, sigma_1, mean_2, sigma_2):
    """In one dimension d^2 = (m_1 - m_2)^2 + (sigma_1 - sigma_2)^2."""
    d2 = gaussian_frechet([mean_1], [[sigma_1**2]], [mean_2], [[sigma_2**2]])
    assert d2 == pytest.approx((mean_1 - mean_2) ** 2 + (sigma_1 - sigma_2) ** 2, rel=1e-12, abs=1e-13)


def test_commuting_covariances():
    """For covariances with common eigenvectors d^2 is the sum of squared differences of standard deviations."""
    a, b = np.array([4.0, 1.0, 0.0, 0.0]), np.array([1.0, 0.0, 9.0, 0.0])
    q = ortho_group.rvs(4, random_state=0)
    zero = np.zeros(4)
    d2 = gaussian_frechet(zero, q @ np.diag(a) @ q.T, zero, q @ np.diag(b) @ q.T)
    assert d2 == pytest.approx(1 + 1 + 9, rel=1e-7)  # eigenvalues 0 are 1e-16 after rotation, 1e-8 as deviations


@settings(max_examples=50, deadline=None)
@given(seeds, dimensions, st.integers(2, 12), st.integers(2, 12))
def test_fitted_gaussians(seed, dimension, n, m):
    """The distance of two sets is that of their sample means and covariances, full rank or not."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, dimension)), 2 * rng.normal(size=(m, dimension)) + 1
    covariances = [np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y)]
    of_moments = gaussian_frechet(x.mean(axis=0), covariances[0], y.mean(axis=0), covariances[1])
    # Zero eigenvalues of a covariance are 1e-16 after rounding, 1e-8 as standard deviations.
    assert frechet_distance(x, y) == pytest.approx(of_moments, rel=1e-6, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(seeds, dimensions, st.floats(0.01, 100))
def test_invariances(seed, dimension, scale):
    """Symmetric; unmoved by order, by a common rotation and shift; c^2 d^2 when both sets are scaled by c."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(20, dimension)), rng.normal(size=(15, dimension)) * 1.5 + 0.5
    d2 = frechet_distance(x, y)
    rotation, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
    shift = rng.normal(size=dimension)
    assert frechet_distance(y, x) == pytest.approx(d2, rel=1e-11)
    assert frechet_distance(rng.permutation(x), rng.permutation(y)) == pytest.approx(d2, rel=1e-11)
    assert frechet_distance(x @ rotation + shift, y @ rotation + shift) == pytest.approx(d2, rel=1e-10)
    assert frechet_distance(scale * x, scale * y) == pytest.approx(scale**2 * d2, rel=1e-11)


@pytest.mark.parametrize(("n", "dimension"), [(30, 5), (5, 30)])
def test_zero_to_rounding_for_equal_sets(n, dimension):
    """d^2 of a set and itself reordered is squared rounding, where a difference of traces would leave 1e-14."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, dimension))
    assert 0 <= frechet_distance(x, x[::-1]) < 1e-27


def test_small_differences_keep_their_digits():
    """sigma against sigma + 1e-9: d^2 = D 1e-18, to the 1e-7 that the rounding of sigma^2 + 2e-9 leaves."""
    d2 = gaussian_frechet(np.zeros(3), np.eye(3), np.zeros(3), np.eye(3) * (1 + 1e-9) ** 2)
    assert d2 == pytest.approx(3e-18, rel=1e-6)


def test_bias_is_upwards_and_fades():
    """Between sets from one distribution d^2 > 0, and ten times the points divide it by about ten (7 to 14).

    Over 20 repeats the ratio of means has standard deviation about 0.7; false alarm under 1e-3.
    """
    rng = np.random.default_rng(1)
    few, many = (
        np.mean([frechet_distance(rng.normal(size=(n, 6)), rng.normal(size=(n, 6))) for _ in range(20)])
        for n in (200, 2000)
    )
    assert 7 < few / many < 14


def test_bad_input():
    with pytest.raises(ValueError, match="samples: expected at least 2 rows"):
        frechet_distance(np.zeros((1, 3)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="got 1 NaN or infinite of 6"):
        frechet_distance([[0, 1, np.nan], [1, 2, 3]], np.zeros((4, 3)))
    with pytest.raises(ValueError, match="rows of one size, got 3 and 4"):
        frechet_distance(np.zeros((5, 3)), np.zeros((5, 2, 2)))
    with pytest.raises(ValueError, match="means: expected two vectors"):
        gaussian_frechet([0.0], [[1.0]], [0.0, 0.0], np.eye(2))
    with pytest.raises(ValueError, match="symmetric positive semidefinite"):
        gaussian_frechet(np.zeros(2), np.eye(2), np.zeros(2), [[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(ValueError, match="symmetric positive semidefinite"):
        gaussian_frechet(np.zeros(2), [[1.0, 0.5], [0.0, 1.0]], np.zeros(2), np.eye(2))
    with pytest.raises(ValueError, match=r"finite \(2, 2\) matrix"):
        gaussian_frechet(np.zeros(2), np.eye(3), np.zeros(2), np.eye(2))
