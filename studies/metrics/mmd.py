"""Maximum mean discrepancy: the squared distance of the two mean embeddings under a Gaussian kernel, without bias.

MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y), with k(x, y) = exp(-|x - y|^2 / (2 h^2)) (Gretton et al. 2012,
eq. 3 for the estimator). A kernel sees differences at the scale of its bandwidth h, so several are used:
multiples of the median distance *of the reference*, which no model can move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from studies.metrics.points import FloatArray, as_pair, as_points

MULTIPLES = (0.25, 0.5, 1.0, 2.0)
ROWS_AT_ONCE = 1024
ROUNDING = 1e-11
"""Of the least squared bandwidth, what a squared distance may be off by."""


def unbiased_mmd2(samples: ArrayLike, reference: ArrayLike, *, multiples: Sequence[float] = MULTIPLES) -> FloatArray:
    """MMD^2 at bandwidths `multiples` times `median_distance(reference)`, one each; dimensionless; lower is better.

    The mean over sets drawn from one distribution is 0, so values fall on both sides of 0 there; never clip
    them before averaging.
    """
    points, others = as_pair(samples, reference)
    if not multiples or not all(multiple > 0 for multiple in multiples):
        raise ValueError(f"multiples: expected positive numbers, got {tuple(multiples)}")
    bandwidths = np.asarray(multiples, dtype=np.float64) * median_distance(others)
    # MMD is blind to a common shift, and the expanded square below rounds least near the origin.
    centre = others.mean(axis=0)
    points, others = points - centre, others - centre
    n, m = len(points), len(others)
    within_samples = (_kernel_sums(points, points, bandwidths) - n) / (n * (n - 1))  # k(x, x) = 1 is left out
    within_reference = (_kernel_sums(others, others, bandwidths) - m) / (m * (m - 1))
    return within_samples + within_reference - 2 * _kernel_sums(points, others, bandwidths) / (n * m)


def median_distance(reference: ArrayLike) -> float:
    """The median of |y_i - y_j| over i < j of reference (M, ...), in data units; ValueError when it is 0."""
    from scipy.spatial.distance import pdist

    median = float(np.median(pdist(as_points("reference", reference))))
    if median == 0:
        raise ValueError("reference: expected points that differ, got a median distance of 0; remove duplicates")
    return median


def _kernel_sums(x: FloatArray, y: FloatArray, bandwidths: FloatArray) -> FloatArray:
    """The sum over all pairs of k(x_i, y_j), one for each bandwidth; memory for `ROWS_AT_ONCE` rows only."""
    squares = _squared_distances(x, y, ROUNDING * float(bandwidths.min()) ** 2)
    blocks = ([np.exp(block / (-2 * h**2)).sum() for h in bandwidths] for block in squares)
    sums: FloatArray = np.sum(list(blocks), axis=0)
    return sums


def _squared_distances(x: FloatArray, y: FloatArray, tolerance: float) -> Iterator[FloatArray]:
    """|x_i - y_j|^2 by rows of x: as one product, which rounds by 1e-16 |x|^2, or by differences where that is much.

    It is nothing to a kernel as wide as the data, but one point far off makes it more than the others' distances.
    """
    from scipy.spatial.distance import cdist

    x_norms, y_norms = np.sum(x**2, axis=1), np.sum(y**2, axis=1)
    far = np.finfo(np.float64).eps * max(x_norms.max(), y_norms.max()) > tolerance
    for start in range(0, len(x), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        if far:
            yield cdist(x[part], y, "sqeuclidean")
        else:
            yield np.maximum(x_norms[part, None] + y_norms - 2 * x[part] @ y.T, 0)
