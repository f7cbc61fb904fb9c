"""The first moments of a table of numbers, column by column, and how far those of samples are from those of real data.

Not a score: what to look at when a score is bad. A mean is held against the standard deviation of the reference, a
standard deviation is a factor, a skewness has no unit, and correlations are those of every pair of columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.metrics.points import FloatArray, as_pair

STILL = 1e-9  # of the largest value: a column that varies by less is constant to rounding


@dataclass(frozen=True, eq=False)
class Moments:
    """Of N points: `mean`, `deviation`, `skewness` (D,) and `correlation` (D, D), NaN where a column is constant.

    `deviation` is the standard deviation, 0 for a constant column, with N in the denominator, as in the skewness
    (Fisher-Pearson, not corrected for N): the mean of the cube of what is standardised.
    """

    mean: FloatArray
    deviation: FloatArray
    skewness: FloatArray
    correlation: FloatArray

    @property
    def varies(self) -> NDArray[np.bool_]:
        """(D,): the columns that are not constant."""
        return self.deviation > 0


def moments(points: FloatArray) -> Moments:
    """The moments of (N, D) finite points."""
    mean = points.mean(axis=0)
    centred = points - mean
    deviation = np.sqrt(np.mean(centred**2, axis=0))
    deviation = np.where(deviation > STILL * np.abs(points).max(axis=0), deviation, 0.0)
    standard = centred / np.where(deviation > 0, deviation, np.nan)
    correlation = np.clip(standard.T @ standard / len(points), -1, 1)
    return Moments(mean, deviation, np.mean(standard**3, axis=0), correlation)


@dataclass(frozen=True, eq=False)
class MomentErrors:
    """Samples less reference, of the columns that vary in the reference; `correlation` (P,) of pairs i < j of those.

    `mean` (D,) in standard deviations of the reference; `deviation` (D,) the factor samples / reference, 0 where
    samples are constant; `skewness` (D,). NaN: undefined, as of a constant column.
    """

    mean: FloatArray
    deviation: FloatArray
    skewness: FloatArray
    correlation: FloatArray


def moment_errors(samples: ArrayLike, reference: ArrayLike) -> MomentErrors:
    """How far the moments of samples (N, ...) are from those of a reference (M, ...); ValueError as of `as_pair`."""
    of_samples, of_reference = (moments(points) for points in as_pair(samples, reference))
    return errors_between(of_samples, of_reference)


def errors_between(of_samples: Moments, of_reference: Moments) -> MomentErrors:
    """The same, of moments that are known."""
    scale = np.where(of_reference.varies, of_reference.deviation, np.nan)
    pairs = np.triu_indices(len(scale), 1)
    return MomentErrors(
        (of_samples.mean - of_reference.mean) / scale,
        of_samples.deviation / scale,
        of_samples.skewness - of_reference.skewness,
        (of_samples.correlation - of_reference.correlation)[pairs],
    )
