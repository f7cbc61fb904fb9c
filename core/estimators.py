"""Estimating sum over t of E[L_t] on a fixed test set from far fewer evaluations than one per example and step.

Each stratum (a run of neighbouring steps) gets its own number of draws; a draw is an example, a step of the
stratum and fresh noise. Within a stratum the values scatter for two reasons, and the error bar keeps them
apart:

value = stratum mean + (example and step) + noise,   variances `between` and `within`.

Examples are visited in shuffled order, each as often as any other (to within one), so what they differ by
cancels as the visits even out: the variance of a stratum's mean is within / n + between (sum of squared
shares - 1 / N), where an example's share is its visits / n (sampling without replacement; Cochran 1977, ch.
2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.schedules import Table
from core.timesteps import Strata, allocate


@dataclass(frozen=True, eq=False)
class StratumMoments:
    """What was seen in each stratum, (H,) each: `count`, `mean`, and the two variances with their degrees of freedom.

    `share_excess` is sum of squared example shares - 1/N: 0 where all examples were visited equally often.
    """

    count: NDArray[np.int64]
    mean: Table
    variance: Table
    within: Table
    within_freedom: NDArray[np.int64]
    share_excess: Table


def stratum_moments(
    stratum: NDArray[np.int64], example: NDArray[np.int64], value: ArrayLike, num_strata: int, num_examples: int
) -> StratumMoments:
    """Moments of draws (M,) by stratum, given each draw's stratum, example and value; every stratum has draws."""
    y = np.asarray(value, np.float64)
    cell = stratum * num_examples + example
    cells, cell_of, visits = np.unique(cell, return_inverse=True, return_counts=True)
    cell_mean = np.bincount(cell_of, y) / visits
    home = cells // num_examples
    count = np.bincount(stratum, minlength=num_strata)
    mean = np.bincount(stratum, y, num_strata) / count
    within_squares = np.bincount(stratum, (y - cell_mean[cell_of]) ** 2, num_strata)
    examples_seen = np.bincount(home, minlength=num_strata)
    freedom = count - examples_seen
    within = within_squares / np.maximum(freedom, 1)
    # The variance of a single draw: that of the cell means, with the noise they have averaged away put back.
    spread = np.bincount(home, (cell_mean - mean[home]) ** 2, num_strata) / np.maximum(examples_seen - 1, 1)
    averaged = np.bincount(home, 1 / visits, num_strata) / examples_seen
    variance = np.maximum(spread + within * (1 - averaged), 0.0)
    shares = np.bincount(home, (visits / count[home]) ** 2, num_strata)
    return StratumMoments(count, mean, variance, within, freedom, np.maximum(shares - 1 / num_examples, 0.0))


def standard_errors(moments: StratumMoments, window: int = 3, enough: int = 30) -> Table:
    """The standard error of each stratum's mean given the test set, (H,).

    Where a stratum has fewer than `enough` repeats to tell noise from differences between examples, the
    noise's share of the variance is pooled over `window` neighbours on each side.
    """
    noise_share = _pooled_noise_share(moments, window, enough)
    within = noise_share * moments.variance
    between = moments.variance - within
    return np.sqrt(within / moments.count + between * moments.share_excess)


def _pooled_noise_share(moments: StratumMoments, window: int, enough: int) -> Table:
    share = np.empty(len(moments.count))
    for h in range(len(share)):
        near = slice(h, h + 1) if moments.within_freedom[h] >= enough else slice(max(0, h - window), h + window + 1)
        freedom = moments.within_freedom[near]
        # Each stratum has its own scale: pool ratios, weighted by their degrees of freedom.
        ratio = moments.within[near] / np.maximum(moments.variance[near], np.finfo(float).tiny)
        share[h] = np.sum(freedom * np.minimum(ratio, 2.0)) / max(1, freedom.sum())
    return np.clip(share, 0.0, 1.0)


def smoothed_deviations(variance: ArrayLike, own: int, window: int = 3) -> Table:
    """Standard deviations for the allocation, (H,), from a pilot's variances.

    A stratum's is taken from its neighbours alone, so that how often a stratum is visited does not depend on
    the values its own mean will contain, and the estimate stays unbiased. The first `own` strata, unlike any
    neighbour, use their own; their pilot draws must then not be used again.
    """
    variance = np.asarray(variance, np.float64)
    result = np.sqrt(variance)
    for h in range(own, len(variance)):
        neighbours = np.r_[max(own, h - window) : h, h + 1 : min(len(variance), h + window + 1)]
        if neighbours.size:
            result[h] = np.sqrt(np.mean(variance[neighbours]))
    return result


def plan(strata: Strata, deviations: Table, spent: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """How many draws each stratum should have in all, (H,): at least those `spent`, together about `budget`."""
    scale = strata.size * deviations
    wanted = allocate(scale, max(budget, int(spent.sum())), minimum=int(spent.min()))
    return np.maximum(wanted, spent)


def draws_needed(strata: Strata, deviations: Table, standard_error: float) -> int:
    """Draws for a sum over t with this standard error at best: (sum of size * deviation)^2 / standard_error^2."""
    return int(np.ceil(np.sum(strata.size * deviations) ** 2 / standard_error**2))
