"""The classifier two-sample test: its p-value under the null, its power, and its balance."""

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge
from sklearn.preprocessing import StandardScaler

from studies.metrics import two_sample
from studies.metrics.two_sample import classifier_two_sample


def test_p_value_and_accuracy_under_the_null():
    """Over 300 pairs from one distribution p is uniform to Kolmogorov's distance 0.1 (false alarm 5e-3, fixed seed).

    P(p <= 0.05) is at most 0.05 in truth; 0.1 is 4 binomial deviations up (3e-5). Accuracy has mean 1/2 to 0.015,
    4 standard errors.
    """
    rng = np.random.default_rng(0)
    results = [
        classifier_two_sample(rng.normal(size=(30, 3)), rng.normal(size=(30, 3)), permutations=99, seed=seed)
        for seed in range(300)
    ]
    p = np.sort([result.p_value for result in results])
    assert np.abs(p - (np.arange(300) + 0.5) / 300).max() < 0.1
    assert np.mean(p <= 0.05) < 0.1
    assert np.mean([result.accuracy for result in results]) == pytest.approx(0.5, abs=0.015)


def test_separate_sets_are_told_apart():
    """Two far clusters: accuracy 1, and p = 1 / (permutations + 1) but for a permutation that repeats the labels."""
    rng = np.random.default_rng(1)
    result = classifier_two_sample(rng.normal(size=(50, 2)), rng.normal(size=(50, 2)) + 20)
    assert result.accuracy == 1.0
    assert result.p_value == pytest.approx(1 / 200)


def test_sees_more_than_means():
    """Equal means and covariances, other shape (a ring): seen at p = 1/200; chance of a miss is negligible."""
    rng = np.random.default_rng(2)
    angles = rng.uniform(0, 2 * np.pi, 200)
    ring = np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert classifier_two_sample(ring, rng.normal(size=(200, 2))).p_value == pytest.approx(1 / 200)


def test_accuracy_is_that_of_kernel_ridge_out_of_fold():
    """The same folds, labels and kernel given to scikit-learn's KernelRidge give the same decisions."""
    rng = np.random.default_rng(3)
    pooled = rng.normal(size=(40, 2)) + np.repeat([[0.0], [0.7]], 20, axis=0)
    fold, labels = np.tile(np.arange(20) % 5, 2), np.repeat([1.0, -1.0], 20)
    z = StandardScaler().fit_transform(pooled)
    gaps = np.linalg.norm(z[:, None] - z, axis=2)[np.triu_indices(40, 1)]
    kernel = RBF(two_sample.BANDWIDTH * np.median(gaps))(z)
    right = []
    for held_out in range(5):
        train, test = np.flatnonzero(fold != held_out), np.flatnonzero(fold == held_out)
        model = KernelRidge(alpha=two_sample.RIDGE, kernel="precomputed")
        model.fit(kernel[np.ix_(train, train)], labels[train])
        right.extend(np.sign(model.predict(kernel[np.ix_(test, train)])) == labels[test])
    ours = two_sample._out_of_fold_accuracy(two_sample._kernel(pooled), fold, labels[:, None])
    assert ours[0] == pytest.approx(np.mean(right), abs=1e-12)


def test_permutations_keep_every_fold_balanced():
    rng = np.random.default_rng(4)
    fold, labels = np.tile(np.arange(23) % 5, 2), np.repeat([1.0, -1.0], 23)
    shuffled = [two_sample._permuted_within(fold, labels, rng) for _ in range(20)]
    for column in shuffled:
        assert all(column[fold == k].sum() == 0 for k in range(5))
    assert len({tuple(column) for column in shuffled}) == 20


def test_unequal_sets_are_cut_to_the_smaller():
    """9 of 10 points in one class would give a constant accuracy 0.9; here chance stays 1/2 (to 4 deviations)."""
    rng = np.random.default_rng(5)
    result = classifier_two_sample(rng.normal(size=(900, 2)), rng.normal(size=(100, 2)))
    assert result.n_per_set == 100
    assert result.accuracy == pytest.approx(0.5, abs=0.18)


def test_same_seed_same_result():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(30, 3))
    assert classifier_two_sample(x, y, seed=7) == classifier_two_sample(x, y, seed=7)


def test_bad_input():
    with pytest.raises(ValueError, match="folds and permutations"):
        classifier_two_sample(np.eye(20), np.eye(20), folds=1)
    with pytest.raises(ValueError, match="samples: expected at least 10 rows"):
        classifier_two_sample(np.eye(9), np.eye(9))
    with pytest.raises(ValueError, match="has the model collapsed"):
        classifier_two_sample(np.ones((20, 2)), np.ones((20, 2)))
