"""The classifier two-sample test: how often a classifier tells samples from data, on points it has not seen.

Lopez-Paz & Oquab (2017), sec. 3. The classifier here is kernel least squares on standardised points, because
its prediction is linear in the labels: every permutation of them costs a matrix product and not a training,
and the p-value is exact, cross-validation included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.metrics.points import FloatArray, as_pair

# Chosen on handwritten digits against noisy, shrunk and Gaussian copies; the bandwidth is in median distances.
BANDWIDTH = 0.5
RIDGE = 0.1


@dataclass(frozen=True)
class TwoSampleResult:
    """`accuracy` in [0, 1], 0.5 at chance; `p_value`, the chance of one so high; the points used of each set."""

    accuracy: float
    p_value: float
    n_per_set: int


def classifier_two_sample(
    samples: ArrayLike, reference: ArrayLike, *, folds: int = 5, permutations: int = 199, seed: int = 0
) -> TwoSampleResult:
    """C2ST of samples (N, ...) and reference (M, ...): out-of-fold accuracy, lower is better, and its p-value.

    The sets are cut to n = min(N, M) at random, so that chance is 1/2. The p-value is a multiple of 1 /
    (permutations + 1), and at most alpha with probability at most alpha when both sets come from one
    distribution. Accuracy has mean about 1/2 there, and otherwise grows with n as the classifier learns more:
    compare at equal n. 0.5 says that *this* classifier sees nothing. Time about (2n)^3.
    """
    if folds < 2 or permutations < 1:
        raise ValueError(f"folds and permutations: expected at least 2 and 1, got {folds} and {permutations}")
    points, others = as_pair(samples, reference, least=2 * folds)
    n = min(len(points), len(others))
    rng = np.random.default_rng(seed)
    pooled = np.concatenate([rng.permutation(points)[:n], rng.permutation(others)[:n]])
    fold = np.concatenate([np.arange(n) % folds, np.arange(n) % folds])  # in step, so every fold is balanced
    labels = np.repeat([1.0, -1.0], n)
    columns = [labels, *(_permuted_within(fold, labels, rng) for _ in range(permutations))]
    accuracy = _out_of_fold_accuracy(_kernel(pooled), fold, np.stack(columns, axis=1))
    # Accuracies are counts over 2n: half a count of slack makes equal ones equal.
    as_high = np.count_nonzero(accuracy[1:] >= accuracy[0] - 0.25 / (2 * n))
    return TwoSampleResult(accuracy=float(accuracy[0]), p_value=float((1 + as_high) / (1 + permutations)), n_per_set=n)


def _permuted_within(fold: NDArray[np.int64], labels: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Labels shuffled inside each fold, so that permuted folds are as balanced as the real ones."""
    order = np.lexsort((rng.random(len(labels)), fold))
    shuffled = np.empty_like(labels)
    shuffled[np.argsort(fold, kind="stable")] = labels[order]
    return shuffled


def _out_of_fold_accuracy(kernel: FloatArray, fold: NDArray[np.int64], labels: FloatArray) -> FloatArray:
    """The accuracy for each column of labels (2n, P) in {-1, 1}; a score of exactly 0 is half right."""
    agreement = np.empty_like(labels)
    for held_out in np.unique(fold):
        test, train = np.flatnonzero(fold == held_out), np.flatnonzero(fold != held_out)
        ridge = kernel[np.ix_(train, train)] + RIDGE * np.eye(len(train))
        scores = kernel[np.ix_(test, train)] @ np.linalg.solve(ridge, labels[train])
        agreement[test] = np.sign(scores) * labels[test]
    accuracy: FloatArray = (1 + agreement.mean(axis=0)) / 2
    return accuracy


def _kernel(pooled: FloatArray) -> FloatArray:
    """exp(-|z - z'|^2 / (2 h^2)) of the points standardised together; nothing in it looks at the labels."""
    from scipy.spatial.distance import pdist, squareform

    spread = pooled.std(axis=0)
    distances = pdist((pooled - pooled.mean(axis=0)) / np.where(spread > 0, spread, 1.0))
    bandwidth = BANDWIDTH * float(np.median(distances))
    if bandwidth == 0:
        raise ValueError(
            "samples and reference: expected points that differ, got a median distance of 0; has the model collapsed?"
        )
    kernel: FloatArray = np.exp(-(squareform(distances) ** 2) / (2 * bandwidth**2))
    return kernel
