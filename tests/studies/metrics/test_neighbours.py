"""Precision, recall, density, coverage and memorisation: constructed sets, exact means, and false alarms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm

from studies.metrics import neighbours
from studies.metrics.neighbours import density_coverage, memorisation_test, precision_recall

seeds = st.integers(0, 2**32 - 1)
grid = np.arange(10.0)[:, None]  # each inner point has its nearest neighbours at distance 1, the ends too


def test_precision_and_recall_on_a_grid():
    """With k = 1 the support of 0..9 is [-1, 10]; three of four samples are inside, and cover 0, 1 and 9."""
    samples = np.array([[0.5], [0.75], [9.5], [30.0]])
    # Radii of the samples: 0.25, 0.25, 8.75, 20.5; their balls reach [0.25, 1], [0.75, 18.25] and [9.5, 50.5].
    result = precision_recall(samples, grid, k=1)
    assert result.precision == 3 / 4
    assert result.recall == 9 / 10  # all but 0


def test_density_and_coverage_on_a_grid():
    """With k = 1 a sample at 2.5 is in the balls of 2 and 3, one at 30 in none: density 2/2, coverage 2/10."""
    result = density_coverage(np.array([[2.5], [30.0]]), grid, k=1)
    assert result.density == 1.0
    assert result.coverage == 0.2


def test_radii_do_not_count_the_point_itself_but_count_its_duplicates():
    """Two points at 0 and one at 1: with k = 1 the duplicates have radius 0, so 0.5 is only in the ball of 1."""
    reference = np.array([[0.0], [0.0], [1.0]])
    assert density_coverage(np.array([[0.5], [7.0]]), reference, k=1).density == 0.5


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(6, 30), st.integers(6, 30), st.integers(1, 5))
def test_against_the_definition(seed, n, m, dimension):
    """Every count as its formula says, by loops; recall is the precision of the exchanged sets."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, dimension)), rng.normal(size=(m, dimension)) + 0.5

    def radius(points, i, k):
        return sorted(np.linalg.norm(points[i] - other) for other in np.delete(points, i, axis=0))[k - 1]

    inside = np.array([[np.linalg.norm(a - y[j]) <= radius(y, j, 5) for j in range(m)] for a in x])
    result = density_coverage(x, y)
    assert result.density == pytest.approx(inside.sum() / (5 * n), rel=1e-12)
    assert result.coverage == pytest.approx(inside.any(axis=0).mean(), rel=1e-12)
    precise = np.array([any(np.linalg.norm(a - y[j]) <= radius(y, j, 3) for j in range(m)) for a in x])
    assert precision_recall(x, y).precision == pytest.approx(precise.mean(), rel=1e-12)
    assert precision_recall(x, y).recall == precision_recall(y, x).precision


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 5), st.floats(1e-3, 1e3))
def test_invariances(seed, dimension, scale):
    """Unmoved by order, and by a common rotation, shift and scale; 1 for a set and itself."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(20, dimension)), rng.normal(size=(25, dimension))
    rotation, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
    moved = [scale * (rng.permutation(z) @ rotation + 1) for z in (x, y)]
    # Sums in another order round differently.
    for metric in (precision_recall, density_coverage):
        before, after = vars(metric(x, y)), vars(metric(*moved))
        assert after == pytest.approx(before, rel=1e-12)
    assert vars(precision_recall(x, x)) == {"precision": 1.0, "recall": 1.0}
    assert density_coverage(x, x).coverage == 1.0
    assert density_coverage(x, x).density == pytest.approx(6 / 5)  # each ball holds its centre and k others


def test_disjoint_sets_score_zero():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 2)), rng.normal(size=(30, 2)) + 100
    assert vars(precision_recall(x, y)) == {"precision": 0.0, "recall": 0.0}
    assert vars(density_coverage(x, y)) == {"density": 0.0, "coverage": 0.0}


def test_dropped_mode_lowers_recall_and_extra_mode_lowers_precision():
    """Half the modes missing halve recall and coverage; half the samples astray halve precision and density.

    Modes are 100 apart, so only the edges of each mode vary: 0.1 is more than 5 standard deviations.
    """
    rng = np.random.default_rng(1)
    modes = np.repeat([0.0, 100.0], 200)[:, None]
    both, one = rng.normal(size=(400, 2)) + modes, rng.normal(size=(400, 2))
    assert precision_recall(one, both).precision == pytest.approx(1, abs=0.1)
    assert precision_recall(one, both).recall == pytest.approx(0.5, abs=0.1)
    assert density_coverage(one, both).coverage == pytest.approx(0.5, abs=0.1)
    assert precision_recall(both, one).precision == pytest.approx(0.5, abs=0.1)
    assert precision_recall(both, one).recall == pytest.approx(1, abs=0.1)


def test_means_under_the_null():
    """Density has mean 1 and coverage 1 - (M-1)...(M-k) / ((M+N-1)...(M+N-k)), for any distribution and N != M.

    200 repeats, 4 standard errors: false alarm below 1.3e-4.
    """
    rng = np.random.default_rng(2)
    n, m, k = 40, 25, 5
    results = [density_coverage(rng.normal(size=(n, 4)), rng.normal(size=(m, 4)), k=k) for _ in range(200)]
    steps = np.arange(1, k + 1)
    expected = {"density": 1.0, "coverage": 1 - np.prod((m - steps) / (m + n - steps))}
    for name, mean in expected.items():
        values = np.array([getattr(result, name) for result in results])
        assert abs(values.mean() - mean) < 4 * values.std(ddof=1) / np.sqrt(len(values))


def test_blocks_of_rows_agree(monkeypatch):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(33, 4)), rng.normal(size=(21, 4))
    whole = precision_recall(x, y), density_coverage(x, y)
    monkeypatch.setattr(neighbours, "ROWS_AT_ONCE", 5)
    assert (precision_recall(x, y), density_coverage(x, y)) == whole


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 30), st.integers(2, 30), st.booleans())
def test_memorisation_is_a_mann_whitney_test(seed, n, m, ties):
    """z and p are those of scipy on the nearest distances, ties included; `nearer` counts pairs."""
    rng = np.random.default_rng(seed)
    train, x, y = (rng.normal(size=(size, 2)) for size in (40, n, m))
    if ties:
        train, x, y = np.rint(train), np.rint(x), np.rint(y)
    d_x, d_y = (np.min(np.linalg.norm(z[:, None] - train, axis=2), axis=1) for z in (x, y))
    result = memorisation_test(x, train, y)
    pairs = (d_x[:, None] < d_y) + 0.5 * (d_x[:, None] == d_y)
    assert result.nearer == pytest.approx(pairs.mean(), abs=1e-12)
    if np.ptp(np.concatenate([d_x, d_y])) == 0:
        assert (result.z, result.p_value) == (0.0, 0.5)
        return
    oracle = mannwhitneyu(d_x, d_y, alternative="less", method="asymptotic", use_continuity=False)
    assert result.p_value == pytest.approx(oracle.pvalue, rel=1e-9)
    assert result.z == pytest.approx(norm.ppf(oracle.pvalue), abs=1e-9)


def test_memorisation_under_the_null():
    """Samples drawn like test: over 400 repeats 5 % of p are in each end of 0.05, up to 4 deviations: 9.4 %.

    False alarm about 1e-4; that the p-value is uniform is tested to Kolmogorov's distance 0.1 (1e-3).
    """
    rng = np.random.default_rng(4)
    p = np.sort([memorisation_test(*(rng.normal(size=(size, 3)) for size in (40, 60, 50))).p_value for _ in range(400)])
    assert np.mean(p < 0.05) < 0.094
    assert np.mean(p > 0.95) < 0.094
    assert np.abs(p - (np.arange(400) + 0.5) / 400).max() < 0.1


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_memorisation_flags_copies(noise):
    """Copies of training points, exact or blurred, are nearer to train than new data; p far below 1e-6."""
    rng = np.random.default_rng(5)
    train, test = rng.normal(size=(200, 5)), rng.normal(size=(100, 5))
    copies = train[rng.integers(0, 200, 100)] + noise * rng.normal(size=(100, 5))
    result = memorisation_test(copies, train, test)
    assert result.nearer > 0.95
    assert result.z < -6
    assert result.p_value < 1e-6


def test_copies_are_at_distance_zero():
    """Far from the origin too, where an expanded square rounds by 1e-8 of the distance to it."""
    train = np.random.default_rng(7).normal(size=(50, 40)) + 1e6
    of_samples, _ = neighbours._distances_to_train(train[::-1], train + 1, train)
    assert np.all(of_samples == 0)


def test_memorisation_does_not_flag_poor_samples():
    rng = np.random.default_rng(6)
    train, test = rng.normal(size=(200, 5)), rng.normal(size=(100, 5))
    result = memorisation_test(test + 10, train, test)
    assert (result.nearer, result.p_value) == (0.0, pytest.approx(1.0))


def test_bad_input():
    with pytest.raises(ValueError, match="samples: expected at least 4 rows"):
        precision_recall(np.zeros((3, 2)), np.zeros((9, 2)))
    with pytest.raises(ValueError, match="k: expected at least 1"):
        density_coverage(np.zeros((3, 2)), np.zeros((9, 2)), k=0)
    with pytest.raises(ValueError, match="test and train: expected rows of one size, got 3 and 2"):
        memorisation_test(np.zeros((3, 2)), np.zeros((9, 2)), np.zeros((9, 3)))


def test_a_training_point_far_off_leaves_the_nearest_where_they_are():
    """In 20 dimensions, where the search expands squares, a copy of a training point is at distance 0."""
    rng = np.random.default_rng(0)
    train = rng.normal(size=(60, 20))
    train[0, 0] = 1e12
    copies, test = train[1:31], rng.normal(size=(30, 20))
    near = train[1:] + 1e-3 * rng.normal(size=(59, 20))  # rivals that a rounded square cannot tell from the copies
    distances, _ = neighbours._distances_to_train(copies, test, np.concatenate([train, near]))
    np.testing.assert_array_equal(distances, 0)
