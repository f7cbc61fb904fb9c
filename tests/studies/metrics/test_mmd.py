"""MMD^2 against the double sum of its definition, its mean of 0 under the null, and its invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from studies.metrics import mmd
from studies.metrics.mmd import median_distance, unbiased_mmd2

seeds = st.integers(0, 2**32 - 1)


def mmd2_by_pairs(x, y, bandwidth):
    """The U-statistic as written: means of k over i != j within each set, and over all i, j across."""

    def k(a, b):
        return np.exp(-np.sum((a - b) ** 2) / (2 * bandwidth**2))

    n, m = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 8), st.integers(2, 8), st.integers(1, 4))
def test_definition(seed, n, m, dimension):
    """The estimator is the double sum, to the rounding of some ten kernels of size 1."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, dimension)), rng.normal(size=(m, dimension)) + 3
    pairs = [np.linalg.norm(y[i] - y[j]) for i in range(m) for j in range(i)]
    assert median_distance(y) == pytest.approx(np.median(pairs), rel=1e-12)
    expected = [mmd2_by_pairs(x, y, multiple * np.median(pairs)) for multiple in (0.5, 2)]
    assert unbiased_mmd2(x, y, multiples=(0.5, 2)) == pytest.approx(expected, abs=1e-13)


def test_gaussians_in_closed_form():
    """E exp(-|u|^2 / (2 h^2)) for u ~ N(a, s^2) is h / sqrt(h^2 + s^2) exp(-a^2 / (2 (h^2 + s^2))).

    2,000 points each; the spread of MMD^2 over repeats is 0.007, so 0.036 off is a false alarm of 1e-6.
    """
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2000, 1)), 1 + 2 * rng.normal(size=(2000, 1))
    h = median_distance(y)

    def mean_kernel(shift, variance):
        return h / np.sqrt(h**2 + variance) * np.exp(-(shift**2) / (2 * (h**2 + variance)))

    expected = mean_kernel(0, 2) + mean_kernel(0, 8) - 2 * mean_kernel(1, 5)
    assert unbiased_mmd2(x, y, multiples=(1,))[0] == pytest.approx(expected, abs=0.036)


def test_unbiased():
    """Over 400 pairs of sets from one distribution each mean is within 4 standard errors of 0.

    The four bandwidths are tested apart: false alarm below 4 x 6e-5 = 3e-4. A biased sum, which keeps i = j,
    would be off by 1/N + 1/M = 0.08, dozens of standard errors.
    """
    rng = np.random.default_rng(1)
    values = np.array([unbiased_mmd2(rng.normal(size=(30, 3)), rng.normal(size=(20, 3))) for _ in range(400)])
    standard_errors = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    assert np.all(np.abs(values.mean(axis=0)) < 4 * standard_errors)
    assert np.all(standard_errors < 0.005)
    assert np.all(values.min(axis=0) < 0)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 20), st.integers(2, 20), st.integers(1, 5), st.floats(1e-3, 1e3))
def test_invariances(seed, n, m, dimension, scale):
    """Unmoved by order and by a common rotation, shift and scale: the bandwidth moves with the reference."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, dimension)), rng.normal(size=(m, dimension))
    value = unbiased_mmd2(x, y)
    rotation, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
    assert unbiased_mmd2(rng.permutation(x), rng.permutation(y)) == pytest.approx(value, abs=1e-12)
    assert unbiased_mmd2(scale * (x @ rotation + 5), scale * (y @ rotation + 5)) == pytest.approx(value, abs=1e-12)


def test_bandwidth_is_of_the_reference_alone():
    """Samples far away cannot widen the kernel: k(x, y) = 0, so MMD^2 is the two means within, here 1 and less."""
    rng = np.random.default_rng(2)
    y = rng.normal(size=(50, 2))
    collapsed = np.full((50, 2), 1e6)
    near = unbiased_mmd2(y, y + 100, multiples=(1,))[0]
    assert unbiased_mmd2(collapsed, y, multiples=(1,))[0] > near > 0.5


def test_blocks_of_rows_add_up(monkeypatch):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(33, 4)), rng.normal(size=(21, 4))
    whole = unbiased_mmd2(x, y)
    monkeypatch.setattr(mmd, "ROWS_AT_ONCE", 5)
    assert unbiased_mmd2(x, y) == pytest.approx(whole, abs=1e-14)


def test_bad_input():
    with pytest.raises(ValueError, match="multiples: expected positive numbers"):
        unbiased_mmd2(np.eye(3), np.eye(3), multiples=(1, 0))
    with pytest.raises(ValueError, match="multiples: expected positive numbers"):
        unbiased_mmd2(np.eye(3), np.eye(3), multiples=())
    with pytest.raises(ValueError, match="median distance of 0"):
        unbiased_mmd2(np.eye(3), np.ones((3, 3)))
    with pytest.raises(ValueError, match="at least 2 rows"):
        unbiased_mmd2(np.eye(3), np.ones((1, 3)))


def test_points_far_off_leave_the_others_distances():
    """A point at 1e8 in both sets: kernels of differences, by cdist, to what 1e8 itself rounds by."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)), rng.normal(size=(50, 3))
    x[0, 0] = y[0, 0] = 1e8
    h = median_distance(y)

    def mean_kernel(a, b, less=0):
        return (np.exp(-cdist(a, b, "sqeuclidean") / (2 * h**2)).sum() - less) / (len(a) * (len(b) - (less > 0)))

    expected = mean_kernel(x, x, 60) + mean_kernel(y, y, 50) - 2 * mean_kernel(x, y)
    assert unbiased_mmd2(x, y, multiples=[1.0])[0] == pytest.approx(expected, abs=1e-8)
