"""W_2 against quadrature of quantile functions, the assignment problem and the closed form of Gaussians."""

import math
import subprocess
import sys
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import norm

from studies.metrics import wasserstein
from studies.metrics.frechet import gaussian_frechet
from studies.metrics.wasserstein import (
    projections,
    sliced_wasserstein_2,
    squared_wasserstein_1d,
    wasserstein_2,
)

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 12)


@settings(max_examples=50, deadline=None)
@given(seeds, sizes, sizes)
def test_one_dimension_is_the_integral_of_squared_quantile_differences(seed, n, m):
    """W_2^2 = integral of (F^-1(u) - G^-1(u))^2, by midpoints of n m cells, on each of which both are constant."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 3)), rng.normal(size=(m, 3)) + 1
    u = (np.arange(n * m) + 0.5) / (n * m)
    quantiles = [np.quantile(z, u, axis=0, method="inverted_cdf") for z in (x, y)]
    expected = np.mean((quantiles[0] - quantiles[1]) ** 2, axis=0)
    assert squared_wasserstein_1d(x, y) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(seeds, sizes, sizes)
def test_exact_and_sorted_agree_in_one_dimension(seed, n, m):
    """The linear program and the sorted quantiles are two routes to W_2 on the line, for any two sizes."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 1)), rng.normal(size=(m, 1)) + 1
    assert wasserstein_2(x, y) == pytest.approx(sliced_wasserstein_2(x, y), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 20), st.integers(1, 5))
def test_equal_sizes_are_an_assignment(seed, n, dimension):
    """For N = M an optimal plan is a permutation, which the Hungarian method finds."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, dimension)), rng.normal(size=(n, dimension))
    costs = cdist(x, y) ** 2
    assert wasserstein_2(x, y) == pytest.approx(np.sqrt(costs[linear_sum_assignment(costs)].mean()), rel=1e-9)


def test_one_dimensional_gaussians():
    """W_2(N(0, 1), N(1, 2^2)) = sqrt(1 + 1), on 20,000 quantile midpoints, whose cut tails cost 1e-3."""
    u = (np.arange(20_000) + 0.5) / 20_000
    x, y = norm.ppf(u)[:, None], 1 + 2 * norm.ppf(u)[:, None]
    assert sliced_wasserstein_2(x, y) == pytest.approx(np.sqrt(2), abs=1e-3)


def test_gaussians_in_closed_form():
    """W_2 of 1,000 points of two Gaussians in the plane against the Bures distance, 4.41.

    The bias is about +0.01, the standard deviation 0.03: 0.16 off would be a false alarm of 1e-6.
    """
    rng = np.random.default_rng(0)
    mean, covariance = np.array([3.0, -3.0]), np.array([[4.0, 1.5], [1.5, 1.0]])
    x, y = rng.normal(size=(1000, 2)), rng.multivariate_normal(mean, covariance, size=1000)
    exact = np.sqrt(gaussian_frechet(np.zeros(2), np.eye(2), mean, covariance))
    assert wasserstein_2(x, y) == pytest.approx(exact, abs=0.16)


@settings(max_examples=30, deadline=None)
@given(seeds, sizes, sizes, st.integers(1, 5), st.floats(1e-3, 1e3))
def test_invariances_of_the_exact_distance(seed, n, m, dimension, scale):
    """Symmetric; unmoved by order, a common rotation and shift; scales with the data; 0 for the same set."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, dimension)), rng.normal(size=(m, dimension))
    w2 = wasserstein_2(x, y)
    rotation, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
    shift = rng.normal(size=dimension)
    assert wasserstein_2(y, x) == pytest.approx(w2, rel=1e-9)
    assert wasserstein_2(rng.permutation(x), rng.permutation(y)) == pytest.approx(w2, rel=1e-9)
    assert wasserstein_2(x @ rotation + shift, y @ rotation + shift) == pytest.approx(w2, rel=1e-9)
    assert wasserstein_2(scale * x, scale * y) == pytest.approx(scale * w2, rel=1e-9)
    assert wasserstein_2(x, rng.permutation(x)) == pytest.approx(0, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(seeds, sizes, sizes, st.integers(1, 5), st.floats(1e-3, 1e3))
def test_invariances_of_the_sliced_distance(seed, n, m, dimension, scale):
    """As the exact one, but for rotation, which holds in the mean over directions only; below the exact one."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, dimension)), rng.normal(size=(m, dimension))
    sw2, shift = sliced_wasserstein_2(x, y), rng.normal(size=dimension)
    assert sliced_wasserstein_2(y, x) == pytest.approx(sw2, rel=1e-10)
    assert sliced_wasserstein_2(rng.permutation(x), rng.permutation(y)) == pytest.approx(sw2, rel=1e-10)
    assert sliced_wasserstein_2(x + shift, y + shift) == pytest.approx(sw2, rel=1e-10)
    assert sliced_wasserstein_2(scale * x, scale * y) == pytest.approx(scale * sw2, rel=1e-10)
    assert sliced_wasserstein_2(x, rng.permutation(x)) == pytest.approx(0, abs=1e-14)
    assert sw2 <= wasserstein_2(x, y) * (1 + 1e-9)


def test_sliced_distance_of_a_shift():
    """Moving a set by m costs |m| / sqrt(D) when the directions come in whole orthonormal groups."""
    rng = np.random.default_rng(3)
    x, m = rng.normal(size=(40, 8)), rng.normal(size=8)
    assert sliced_wasserstein_2(x, x + m, num_projections=16) == pytest.approx(np.linalg.norm(m) / np.sqrt(8))


def test_sliced_distance_is_rotation_invariant_in_the_mean():
    """With 4,096 directions a rotation moves SW_2 by under 0.5 %; over directions its spread is 0.03 %."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(50, 5)) * [1, 2, 3, 4, 5], rng.normal(size=(60, 5))
    rotation, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    before, after = (sliced_wasserstein_2(x @ r, y @ r, num_projections=4096) for r in (np.eye(5), rotation))
    assert after == pytest.approx(before, rel=0.005)


@pytest.mark.parametrize(("dimension", "count"), [(1, 10), (4, 3), (4, 4), (4, 10)])
def test_projections_are_unit_vectors_in_orthonormal_groups(dimension, count):
    directions = projections(dimension, count, seed=0)
    assert directions.shape == (dimension, 1 if dimension == 1 else count)
    group = directions[:, :dimension]
    assert group.T @ group == pytest.approx(np.eye(group.shape[1]), abs=1e-14)
    assert np.linalg.norm(directions, axis=0) == pytest.approx(1)
    assert np.array_equal(directions, projections(dimension, count, seed=0))


def test_pot_is_imported_without_other_frameworks():
    """Neither TensorFlow nor PyTorch nor JAX comes in with POT, and the environment is left as it was."""
    script = (
        "import os, sys; before = dict(os.environ); from studies.metrics.wasserstein import wasserstein_2; "
        "wasserstein_2([[0.0], [1.0]], [[0.0]]); assert dict(os.environ) == before; "
        "assert not {'torch', 'tensorflow', 'jax'} & set(sys.modules)"
    )
    root = Path(wasserstein.__file__).parents[2]
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root, timeout=60)


def test_missing_pot_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ImportError, match="install the extra `studies`"):
        wasserstein_2([[0.0], [1.0]], [[0.0], [2.0]])


def test_an_unfinished_program_is_an_error(monkeypatch):
    monkeypatch.setattr(wasserstein, "MAX_PIVOTS", 1)
    rng = np.random.default_rng(0)
    with (
        pytest.warns(UserWarning, match="numItermax"),
        pytest.raises(RuntimeError, match="use fewer, or sliced_wasserstein_2"),
    ):
        wasserstein_2(rng.normal(size=(50, 3)), rng.normal(size=(50, 3)))


def test_bad_input():
    with pytest.raises(ValueError, match="num_projections: expected at least 1"):
        sliced_wasserstein_2(np.zeros((2, 2)), np.zeros((2, 2)), num_projections=0)
    with pytest.raises(ValueError, match="rows of one size"):
        wasserstein_2(np.zeros((2, 2)), np.zeros((2, 3)))


@pytest.mark.parametrize(("n", "m"), [(6, 6), (2, 3)])
@pytest.mark.parametrize("apart", [0.0, 1e3])
def test_a_pair_of_points_far_off_hides_no_other(n, m, apart):
    """Both sets hold a point near 1e8: every permutation's mean cost in fractions, points repeated to lcm(n, m)."""
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, 2)), rng.normal(size=(m, 2)) + 0.5
    x[0, 0], y[-1, 0] = 1e8, 1e8 + apart
    size = math.lcm(n, m)
    costs = [
        [
            sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(p, q, strict=True))
            for q in np.repeat(y, size // m, axis=0)
        ]
        for p in np.repeat(x, size // n, axis=0)
    ]
    least = min(sum(row[j] for row, j in zip(costs, order, strict=True)) for order in permutations(range(size)))
    assert wasserstein_2(x, y) == pytest.approx(math.sqrt(least / size), rel=1e-12)


def test_a_pair_of_points_far_off_among_many():
    """200 in each set, where the far pair's cost of 1e16 swamps the solver's tolerance."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 3)), rng.normal(size=(200, 3))
    x[0, 0] = y[0, 0] = 1e8
    rest = cdist(x[1:], y[1:], "sqeuclidean")  # no other plan carries the far points to each other
    total = rest[linear_sum_assignment(rest)].sum() + np.sum((x[0] - y[0]) ** 2)
    assert wasserstein_2(x, y) == pytest.approx(math.sqrt(total / 200), rel=1e-9)
