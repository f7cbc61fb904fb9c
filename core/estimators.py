"""Estimating sum over t of E[L_t] on a fixed test set from far fewer evaluations than one per example and step.

Each stratum (a run of neighbouring steps) gets its own number of draws; a draw is an example, a step of the
stratum and fresh noise. Within a stratum the values scatter for two reasons, and the error bar keeps them
apart:

value = stratum mean + (example and step) + noise,   variances `between` and `within`.

Examples are visited in shuffled order, each as often as any other (to within one), so what they differ by
cancels as the visits even out: the variance of a stratum's mean is within / n + between (sum of squared
shares - 1 / N), where an example's share is its visits / n (sampling without replacement; Cochran 1977, ch.
2).

Both parts are made smaller by control variates (Owen 2013, ch. 8.9), which cost no evaluation: `noise_control`
knows part of what a draw's noise did to its value, `without_examples` what its example did to other strata.
Neither's slope comes from the draws that it corrects, so the estimate stays unbiased.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.reverse import ReverseProcess
from core.schedules import Schedule, Table
from core.strata import Strata, allocate, geometric_strata


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


def error_parts(
    moments: StratumMoments, scale: ArrayLike = 1.0, own: int = 0, window: int = 3, enough: int = 30
) -> tuple[Table, Table]:
    """The standard errors of each stratum's mean given the test set, (H,) each: from noise, and from steps.

    The second is what is left of the differences between examples because each meets only some of the steps, and at
    some strata more often than others do. Where a stratum has fewer than `enough` repeats to tell noise from
    differences between examples, the noise's share of the variance is pooled over `window` neighbours on each side, in
    units of `scale` (H,). The first `own` strata have no neighbours: what their repeats do not tell counts as noise,
    which visiting examples evenly does not even out.
    """
    noise_share = _noise_share(moments, np.asarray(scale, np.float64), own, window, enough)
    within = noise_share * moments.variance
    between = moments.variance - within
    # By chance the share may come out above 1; cut off there, it would be too small in the mean.
    noise = within / moments.count + np.minimum(between, 0) * moments.share_excess
    return np.sqrt(np.maximum(noise, 0)), np.sqrt(np.maximum(between, 0) * moments.share_excess)


def standard_errors(
    moments: StratumMoments, scale: ArrayLike = 1.0, own: int = 0, window: int = 3, enough: int = 30
) -> Table:
    """The standard error of each stratum's mean given the test set, (H,): both of `error_parts` together."""
    return np.hypot(*error_parts(moments, scale, own, window, enough))


def _noise_share(moments: StratumMoments, scale: Table, own: int, window: int, enough: int) -> Table:
    unit = np.where((scale > 0) & np.isfinite(scale), scale, np.inf) ** 2
    # A ratio of sums: a mean of ratios would be too small, because what is large in one is large in both its parts.
    within, total = (moments.within_freedom * part / unit for part in (moments.within, moments.variance))
    share = np.empty(len(moments.count))
    for h in range(len(share)):
        alone = h < own or moments.within_freedom[h] >= enough
        near = slice(h, h + 1) if alone else slice(max(own, h - window), h + window + 1)
        share[h] = within[near].sum() / max(total[near].sum(), np.finfo(float).tiny)
    known = np.minimum(moments.within_freedom[:own] / enough, 1)
    share[:own] = known * share[:own] + 1 - known
    return share


def with_pooled_variance(
    moments: StratumMoments, own: int, scale: ArrayLike, window: int = 3, enough: int = 30
) -> StratumMoments:
    """The moments with the variance of every stratum of fewer than `enough` draws pooled with its neighbours'.

    A variance from a few draws is now and then far too small. `window` strata on each side, the first `own` left out
    and alone, are compared in units of `scale` (H,). None counts for more than the stratum itself: a neighbour with
    many draws and little scatter would speak for all. A diverged stratum keeps its variance to itself.
    """
    unit = np.asarray(scale, np.float64)
    finite = np.isfinite(moments.variance)
    freedom = np.where(finite, moments.count - 1, 0)
    relative = (np.sqrt(np.where(finite, moments.variance, 0.0)) / np.where(finite, unit, 1.0)) ** 2
    variance = moments.variance.copy()
    for h in np.flatnonzero((np.arange(len(unit)) >= own) & (moments.count < enough) & finite):
        near = slice(max(own, h - window), h + window + 1)
        weight = np.minimum(freedom[near], freedom[h])
        variance[h] = unit[h] ** 2 * np.sum(weight * relative[near]) / max(np.sum(weight), 1)
    return replace(moments, variance=variance)


def linear_denoiser_mse(schedule: Schedule, variance: float) -> Table:
    """Squared error per dim of x_0_hat by the best linear denoiser of data of that variance, (T + 1,); 0 at t = 0."""
    noise = schedule.one_minus_alpha_bar
    error: Table = variance * noise / (schedule.alpha_bar * variance + noise)
    return error


def kl_scale(process: ReverseProcess) -> Table:
    """Nats of L_{t-1} per squared error of epsilon at the least variance the process has, (T + 1,); entry 0 is NaN."""
    tables = process.tables
    return np.asarray(tables.kl_on_squared_error / tables.epsilon_on_output**2, np.float64)


def strata_of(process: ReverseProcess) -> Strata:
    """The strata of the bound of `process`: runs of steps at which an error of epsilon costs about as much.

    A cosine's last step costs thousands of times what one a few steps before it does, and draws that seldom meet it
    would seldom see what it adds.
    """
    return geometric_strata(process.num_steps, scale=kl_scale(process))


def noise_control(
    schedule: Schedule, x_0: NDArray[np.float64], epsilon: NDArray[np.float64], t: NDArray[np.int64],
    mean: NDArray[np.float64], variance: NDArray[np.float64],
) -> Table:  # fmt: skip
    """||epsilon - epsilon_hat||^2 less its mean over epsilon given x_0, (N,), for the best linear denoiser.

    Of data (N, ...) with independent numbers of the given `mean` and `variance` (...), that is; any values of
    these leave the control with mean 0, good ones make it follow a network's loss.
    """
    axes = (-1,) + (1,) * mean.ndim
    alpha_bar = schedule.alpha_bar[t].reshape(axes)
    noise = schedule.one_minus_alpha_bar[t].reshape(axes)
    total = alpha_bar * variance + noise
    of_noise = alpha_bar * variance / total
    of_data = np.sqrt(alpha_bar * noise) / total * (x_0 - mean)
    per_number = of_noise**2 * (epsilon**2 - 1) - 2 * of_noise * of_data * epsilon
    control: Table = np.sum(per_number.reshape(len(per_number), -1), axis=1)
    return control


def without_noise(
    stratum: NDArray[np.int64], part: NDArray[np.int64], value: ArrayLike, control: ArrayLike, num_strata: int,
    own: int, window: int = 3,
) -> Table:  # fmt: skip
    """value - slope * control, (M,), for a control whose mean over a draw's noise is 0.

    The slope of a draw is fitted to the other parts of its stratum and to `window` strata on either side, never to
    its own part, whose noise it would follow. `part` (M,) counts from 0. The first `own` strata have no neighbours.
    """
    y, z = np.asarray(value, np.float64), np.asarray(control, np.float64)
    parts = int(part.max()) + 1
    group, groups = parts * stratum + part, parts * num_strata
    count = np.bincount(group, minlength=groups)
    mean = np.bincount(group, y, groups) / np.maximum(count, 1)
    product = np.bincount(group, z * (y - mean[group]), groups) * count / np.maximum(count - 1, 1)
    product, square = product.reshape(-1, parts), np.bincount(group, z * z, groups).reshape(-1, parts)
    slope = np.zeros((num_strata, parts))
    for h in range(num_strata):
        near = slice(h, h + 1) if h < own else slice(max(own, h - window), h + window + 1)
        left = square[near].sum() - square[h]
        slope[h] = (product[near].sum() - product[h]) / np.where(left > 0, left, np.inf)
    slope[~np.isfinite(slope)] = 0  # near a diverged step there is nothing to be learned
    residual: Table = y - slope.ravel()[group] * z
    return residual


def without_examples(
    stratum: NDArray[np.int64], example: NDArray[np.int64], value: ArrayLike, scale: ArrayLike, num_examples: int
) -> Table:
    """value less what the *other* strata say about its example, (M,): a hard example is hard at most steps.

    An example's difficulty is its mean deviation in the other strata, in units of their `scale` (H,), shrunk where
    it was visited seldom, less the mean over all examples: which of them a stratum drew has then no effect on
    its mean, as long as its scale was not found from its own draws.
    """
    y, scale = np.asarray(value, np.float64), np.asarray(scale, np.float64)
    scale = np.where((scale > 0) & np.isfinite(scale), scale, np.inf)
    mean = np.bincount(stratum, y, len(scale)) / np.bincount(stratum, minlength=len(scale))
    deviation = y - mean[stratum]
    unitless = np.where(np.isfinite(deviation), deviation, 0) / scale[stratum]
    cell, shape = stratum * num_examples + example, (len(scale), num_examples)
    total = np.bincount(cell, unitless, shape[0] * shape[1]).reshape(shape)
    visits = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    difficulty = (total.sum(axis=0) - total) / (visits.sum(axis=0) - visits + 1)
    difficulty -= difficulty.mean(axis=1, keepdims=True)
    control = difficulty[stratum, example]
    product = np.bincount(stratum, unitless * control, len(scale))
    square = np.bincount(stratum, control**2, len(scale))
    left = square.sum() - square
    slope = np.clip((product.sum() - product) / np.where(left > 0, left, np.inf), 0, 1)
    residual: Table = y - np.where(np.isfinite(scale), slope * scale, 0)[stratum] * control
    return residual


def smoothed_deviations(variance: ArrayLike, own: int, scale: ArrayLike = 1.0, window: int = 3) -> Table:
    """Standard deviations for the allocation, (H,), from a pilot's variances.

    A stratum's is taken from its neighbours alone, so that how often a stratum is visited does not depend on
    the values its own mean will contain, and the estimate stays unbiased; neighbours are compared in units of
    `scale` (H,), how deviations change along t. The first `own` strata, unlike any neighbour, use their own;
    their pilot draws must then not be used again.
    """
    variance = np.asarray(variance, np.float64)
    scale = np.broadcast_to(np.asarray(scale, np.float64), variance.shape)
    deviations: Table = np.sqrt(variance)
    for h in range(own, len(variance)):
        neighbours = np.r_[max(own, h - window) : h, h + 1 : min(len(variance), h + window + 1)]
        if neighbours.size:
            deviations[h] = scale[h] * np.sqrt(np.mean(variance[neighbours] / scale[neighbours] ** 2))
    return deviations


def plan(strata: Strata, deviations: Table, spent: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """How many draws each stratum should have in all, (H,): at least those `spent`, together `budget` or those."""
    return allocate(strata.size * deviations, max(budget, int(spent.sum())), spent)


def draws_needed(strata: Strata, deviations: Table, standard_error: float) -> int:
    """Draws for a sum over t with this standard error at best: (sum of size * deviation)^2 / standard_error^2."""
    return int(np.ceil(np.sum(strata.size * deviations) ** 2 / standard_error**2))
