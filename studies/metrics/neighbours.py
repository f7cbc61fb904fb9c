"""Nearest neighbours: are samples near the data, the data near samples, and samples too near the training set?

A set's support is taken as the union of balls around its points, each reaching its k-th nearest neighbour in
the set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.metrics.points import FloatArray, as_pair, as_points, same_space

ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class PrecisionRecall:
    """Fractions in [0, 1]; higher is better."""

    precision: float
    recall: float


@dataclass(frozen=True)
class DensityCoverage:
    """Density in [0, M / k], 1 in the mean when the two distributions agree; coverage in [0, 1]; higher is better."""

    density: float
    coverage: float


@dataclass(frozen=True)
class Memorisation:
    """`nearer`: P(a sample is nearer to train than a test point is), ties counting half; 0.5 for new data.

    `z`: that as a standard score of the rank sum, with the sign of C_T, so below 0 when samples crowd the
    training set. `p_value`: one-sided, small when samples are nearer to train than chance allows.
    """

    nearer: float
    z: float
    p_value: float


def precision_recall(samples: ArrayLike, reference: ArrayLike, *, k: int = 3) -> PrecisionRecall:
    """Precision: the fraction of samples in the reference's support; recall: that of reference in the samples' support.

    Kynkäänniemi et al. (2019), eqs. 1-2, with k = 3 as there. Samples (N, ...), reference (M, ...). Bias:
    both fall short of 1 for equal distributions, by more in high dimension, and rise with k; one outlier's
    wide ball lifts precision.
    """
    points, others = _checked_pair(samples, reference, k)
    return PrecisionRecall(
        precision=float(np.mean(_balls_around(points, others, _radii(others, k)) > 0)),
        recall=float(np.mean(_balls_around(others, points, _radii(points, k)) > 0)),
    )


def density_coverage(samples: ArrayLike, reference: ArrayLike, *, k: int = 5) -> DensityCoverage:
    """Density: how many of the reference's balls hold a sample, over k; coverage: how many of them hold any.

    Naeem et al. (2020), sec. 3, with k = 5 as there. Bias: for equal distributions density has mean 1 at any
    size, and coverage 1 - (M-1)...(M-k) / ((M+N-1)...(M+N-k)), about 1 - 2^-k when N = M: 0.97, not 1.
    """
    points, others = _checked_pair(samples, reference, k)
    radii = _radii(others, k)
    return DensityCoverage(
        density=float(np.mean(_balls_around(points, others, radii)) / k),
        coverage=float(np.mean(_nearest(others, points) <= radii)),
    )


def memorisation_test(samples: ArrayLike, train: ArrayLike, test: ArrayLike) -> Memorisation:
    """Mann-Whitney test of d(sample, train) against d(test point, train), d the distance to the nearest training point.

    It is the C_T of Meehan, Chaudhuri & Dasgupta (2020) with a single cell in place of their k-means cells.
    Given train, samples like new data leave the ranks exchangeable, so the p-value holds at any size at which
    the rank sum is near normal (some 20 points a set). It answers for the set as a whole: copies of a few
    training points hide in it, and samples that merely crowd the middle of the data (low recall) alarm it, so
    look at the nearest neighbours too.
    """
    points, seen = as_points("samples", samples), as_points("train", train, least=1)
    unseen = as_points("test", test)
    same_space("samples", points, "train", seen)
    same_space("test", unseen, "train", seen)
    return _compare_distances(*_distances_to_train(points, unseen, seen))


def _distances_to_train(points: FloatArray, unseen: FloatArray, seen: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The distance to the nearest training point, of each sample and of each test point."""
    from sklearn.neighbors import NearestNeighbors

    centre = np.median(seen, axis=0)  # a mean follows one point far off, and the rounding below is about the origin
    search = NearestNeighbors(n_neighbors=1).fit(seen - centre)

    def distances(queries: FloatArray) -> FloatArray:
        nearest = search.kneighbors(queries - centre, return_distance=False)[:, 0]
        # Anew from differences: the search may expand squares, and a copy must be at 0 and equal distances tie.
        return np.asarray(np.linalg.norm(queries - seen[nearest], axis=1), dtype=np.float64)

    return distances(points), distances(unseen)


def _compare_distances(of_samples: FloatArray, of_test: FloatArray) -> Memorisation:
    """The rank sum of the samples' distances, and its normal score with the variance corrected for ties."""
    from scipy.stats import norm, rankdata

    n, m = len(of_samples), len(of_test)
    ranks = rankdata(np.concatenate([of_samples, of_test]))
    farther = float(ranks[:n].sum()) - n * (n + 1) / 2  # pairs in which the sample is the farther one
    _, tied = np.unique(ranks, return_counts=True)
    variance = n * m / 12 * ((n + m + 1) - float(np.sum(tied**3 - tied)) / ((n + m) * (n + m - 1)))
    # With every distance the same there is no evidence either way.
    z = (farther - n * m / 2) / np.sqrt(variance) if variance > 0 else 0.0
    return Memorisation(nearer=1 - farther / (n * m), z=float(z), p_value=float(norm.cdf(z)))


def _checked_pair(samples: ArrayLike, reference: ArrayLike, k: int) -> tuple[FloatArray, FloatArray]:
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    return as_pair(samples, reference, least=k + 1)


def _radii(points: FloatArray, k: int) -> FloatArray:
    """The distance of each point to its k-th nearest neighbour, itself apart (it is at index 0, at distance 0)."""
    return np.concatenate([np.partition(block, k, axis=1)[:, k] for block in _distances(points, points)])


def _balls_around(points: FloatArray, centres: FloatArray, radii: FloatArray) -> NDArray[np.int64]:
    """How many closed balls hold each point."""
    return np.concatenate([np.sum(block <= radii, axis=1) for block in _distances(points, centres)])


def _nearest(points: FloatArray, others: FloatArray) -> FloatArray:
    return np.concatenate([block.min(axis=1) for block in _distances(points, others)])


def _distances(x: FloatArray, y: FloatArray) -> Iterator[FloatArray]:
    """|x_i - y_j| by rows of x, from differences: with an expanded square a point on a ball's edge could leave it."""
    from scipy.spatial.distance import cdist  # not at import time: every script's --help would wait for it

    for start in range(0, len(x), ROWS_AT_ONCE):
        yield cdist(x[start : start + ROWS_AT_ONCE], y)
