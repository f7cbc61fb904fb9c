"""Sample sets as points: any signal (N, ...) becomes (N, D) float64, checked once, at the door of each metric."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


class NonConvergence(RuntimeError):
    """A solver that stopped before it had the answer."""


def as_points(name: str, values: ArrayLike, *, least: int = 2) -> FloatArray:
    """`values` (N, ...) flattened to (N, D) float64.

    Raises ValueError for fewer than `least` rows, for no values in a row, and for NaN or infinity.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[0] < least:
        raise ValueError(f"{name}: expected at least {least} rows (N, ...), got shape {array.shape}; pass more points")
    points = array.reshape(array.shape[0], -1) if array.size else array.reshape(array.shape[0], 0)
    if points.shape[1] == 0:
        raise ValueError(
            f"{name}: expected at least one value in each row, got shape {array.shape}; pass whole signals"
        )
    bad = points.size - int(np.count_nonzero(np.isfinite(points)))
    if bad:
        raise ValueError(
            f"{name}: expected finite numbers, got {bad} NaN or infinite of {points.size}; "
            "mend the sampler or drop the rows"
        )
    return points


def as_pair(samples: ArrayLike, reference: ArrayLike, *, least: int = 2) -> tuple[FloatArray, FloatArray]:
    """Samples (N, D) and reference (M, D), two point sets in the same space; ValueError when D differs."""
    points, others = as_points("samples", samples, least=least), as_points("reference", reference, least=least)
    same_space("samples", points, "reference", others)
    return points, others


def same_space(name: str, points: FloatArray, other_name: str, others: FloatArray) -> None:
    """ValueError unless both sets have the same number D of values in each row."""
    if points.shape[1] != others.shape[1]:
        raise ValueError(
            f"{name} and {other_name}: expected rows of one size, got {points.shape[1]} and {others.shape[1]} values; "
            "bring both to one resolution and channel count"
        )
