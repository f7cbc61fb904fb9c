"""Which steps t to evaluate the bound at: runs of neighbouring steps, and how many evaluations each of them gets.

The bound is a *sum* over t, most of whose variance sits at a few small t. `Strata` cuts 1..T into runs, and `allocate`
spreads a budget over them in proportion to their standard deviation (Neyman 1934), the best any stratified estimate can
do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Strata:
    """Runs of neighbouring steps: stratum h holds first[h]..last[h], both included; together they hold 1..T once."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @property
    def size(self) -> NDArray[np.int64]:
        return self.last - self.first + 1

    def __len__(self) -> int:
        return len(self.first)


def geometric_strata(
    num_steps: int, growth: float = 0.1, scale: ArrayLike | None = None, range_of: float = 2
) -> Strata:
    """Single steps first, then runs that grow in proportion to t: losses change over t on a logarithmic scale.

    Where the losses' `scale` (T + 1,) is known, a run ends before the step that brings its largest above `range_of`
    times its least.
    """
    first, last, t = [], [], 1
    while t <= num_steps:
        end = min(num_steps, t + max(0, int(growth * t)))
        if scale is not None:
            run = np.asarray(scale, np.float64)[t : end + 1]
            uneven = np.maximum.accumulate(run) > range_of * np.minimum.accumulate(run)
            end = t + int(np.argmax(uneven)) - 1 if uneven.any() else end
        first.append(t)
        last.append(end)
        t = end + 1
    return Strata(np.array(first), np.array(last))


def allocate(scale: ArrayLike, budget: int, minimum: int | NDArray[np.int64] = 2) -> NDArray[np.int64]:
    """How many of `budget` evaluations each stratum gets: in proportion to `scale` (H,), at least `minimum` each.

    `scale` is a stratum's size times its standard deviation. Fractions are rounded so that the sum is the budget.
    """
    scale = np.asarray(scale, np.float64)
    least = np.broadcast_to(minimum, scale.shape)
    wrong = scale[~((scale >= 0) & np.isfinite(scale))]
    if wrong.size:
        raise ValueError(f"the scale of a stratum is finite and at least 0, got {wrong[0]}")
    if budget < least.sum():
        raise ValueError(
            f"{scale.size} strata with at least {minimum} evaluations each need a budget of {least.sum()}, got {budget}"
        )
    counts = least.astype(np.float64)
    free = np.ones(scale.size, bool)
    while True:
        share = scale * free
        total = share.sum()
        wanted = np.where(
            free,
            (budget - least[~free].sum()) * (share / total if total > 0 else free / max(free.sum(), 1)),
            least,
        )
        low = free & (wanted < least)
        if not low.any():
            counts = wanted
            break
        free &= ~low
    whole: NDArray[np.int64] = np.floor(counts).astype(np.int64)
    most_cut = np.argsort(whole - counts, kind="stable")[: budget - whole.sum()]
    whole[most_cut] += 1
    return whole
