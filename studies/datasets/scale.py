"""Continuous data brought to unit scale by a stated rule, and likelihoods brought back to the units that they came in.

The process ends in N(0, I) and its first step adds noise of standard deviation about 0.01, so that it is made for data
near unit scale about 0. A rule's numbers come from the training set alone: one centre and one factor for each number of
the last axis, the columns of points and the channels of series and images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Columns = NDArray[np.float64]
NONE = "none"


@dataclass(frozen=True, eq=False)
class Scale:
    """x = (y - centre) / factor, with `centre` and `factor` (C,) by the last axis of the data y (N, ..., C).

    `factor` is positive, and 1 where the training set does not vary.
    """

    rule: str
    centre: Columns
    factor: Columns

    def scaled(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """`y` (N, ..., C) as a model sees it."""
        return (y - self.centre) / self.factor

    @property
    def bits_per_dim(self) -> float:
        """What likelihoods of x have more than those of y by: -log2 p(y) = -log2 p(x) + sum of log2 factor, per dim."""
        return float(np.mean(np.log2(self.factor)))


def standard(y: NDArray[np.float64]) -> tuple[Columns, Columns]:
    """Mean and standard deviation of each column of `y` (M, C)."""
    centre = np.mean(y, axis=0)
    return centre, np.sqrt(np.mean((y - centre) ** 2, axis=0))


def minmax(y: NDArray[np.float64]) -> tuple[Columns, Columns]:
    """Middle and half the range of each column of `y` (M, C), which brings it to [-1, 1]."""
    low, high = y.min(axis=0), y.max(axis=0)
    return (low + high) / 2, (high - low) / 2


RULES: dict[str, Callable[[NDArray[np.float64]], tuple[Columns, Columns]]] = {"standard": standard, "minmax": minmax}


def scale_of(what: str, train: NDArray[np.float64], rule: str) -> Scale:
    """The scale of a training set (N, ..., C), finite, by a name of a rule. ValueError where no float holds it."""
    columns = columns_of(train)
    varies = columns.min(axis=0) < columns.max(axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        centre, factor = RULES[rule](columns)
    centre, factor = np.where(varies, centre, columns[0]), np.where(varies, factor, 1.0)
    wrong = ~(np.isfinite(centre) & (factor > np.finfo(np.float64).tiny) & np.isfinite(factor))
    if np.any(wrong):
        raise ValueError(
            f"the {what} has numbers too large or too small to scale ({named(wrong)}); give it in other units"
        )
    return Scale(rule, centre, factor)


def columns_of(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, ..., C) as (M, C)."""
    return x.reshape(-1, x.shape[-1])


def named(chosen: NDArray[np.bool_]) -> str:
    """The chosen columns, counted from 1, the first few by number."""
    if len(chosen) == 1:
        return "its one column"
    numbers = [str(i + 1) for i in np.flatnonzero(chosen)]
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return f"column{'s' if len(numbers) > 1 else ''} {', '.join(numbers[:5])}{more} of {len(chosen)}"
