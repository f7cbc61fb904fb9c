"""The probability that one recipe beats another on the same, new seed.

Agarwal et al. (2021), arXiv 2108.13264, compare every run of one method with every run of another and
bootstrap; here runs are paired by seed and few, so the interval is exact instead.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import betaincinv, chdtri, nctdtr, ndtr, ndtri

from studies.statistics.intervals import Interval, check_confidence, finite_values, standard_error

MOST_T = 1e4  # scipy gives NaN far beyond; Phi is 1 to the last digit here at 95 % for 2 to 10^5 seeds


def probability_of_improvement(
    first: ArrayLike, second: ArrayLike, *, lower_is_better: bool = True, confidence: float = 0.95
) -> Interval:
    """P(first is better than second on a seed) + P(tie) / 2, with an interval that assumes no distribution.

    The estimate is the share of seeds won, a tie counting half. The interval is Clopper and Pearson's (1934,
    Biometrika 26) for a binomial proportion: its low end takes ties as lost, its high end as won, so it
    covers at least at `confidence` for any n and any distribution of the differences. The price is width: it
    cannot exclude 1/2 before 6 seeds at 95 % (3 wins of 3 give 0.29 to 1). Both have shape (n,), entry i from
    one seed.
    """
    wins = _gains(first, second, lower_is_better)
    check_confidence(confidence)
    n, tail = len(wins), (1 - confidence) / 2
    won, not_lost = int(np.sum(wins > 0)), int(np.sum(wins >= 0))
    low = float(betaincinv(won, n - won + 1, tail)) if won > 0 else 0.0
    high = float(betaincinv(not_lost + 1, n - not_lost, 1 - tail)) if not_lost < n else 1.0
    return Interval((won + not_lost) / (2 * n), low, high, confidence, n)


def normal_probability_of_improvement(
    first: ArrayLike, second: ArrayLike, *, lower_is_better: bool = True, confidence: float = 0.95
) -> Interval:
    """P(first is better than second on a seed) for normal differences: Phi(mean / sd) of the gains.

    The interval maps that of the noncentrality delta = sqrt(n) mean / sd, found by inverting the noncentral t
    distribution of the t statistic (Cumming and Finch 2001, Educ. Psychol. Meas. 61), through Phi(delta /
    sqrt(n)). It is exact at any n >= 2 and excludes 1/2 just where the paired t interval excludes 0; much
    narrower than `probability_of_improvement` and only as good as normality. One seed gives 0 to 1; gains
    that are all equal and not zero give exactly 0 or 1, and all zero gives 1/2 with 0 to 1. Arguments as
    there.
    """
    gains = _gains(first, second, lower_is_better)
    check_confidence(confidence)
    n, mean = len(gains), float(np.mean(gains))
    error = standard_error(gains) if n > 1 else math.inf
    if error == 0 and mean != 0:
        certain = float(mean > 0)
        return Interval(certain, certain, certain, confidence, n)
    if n == 1 or mean == error == 0:
        return Interval(0.5 if n > 1 else (1 + np.sign(mean)) / 2, 0.0, 1.0, confidence, n)
    statistic, tail = min(abs(mean) / error, MOST_T), (1 - confidence) / 2
    # Solved for |t| and mirrored, so that swapping the two recipes mirrors the interval exactly.
    low, high = (_noncentrality(n - 1, statistic, p) / math.sqrt(n) for p in (1 - tail, tail))
    centre = statistic / math.sqrt(n)
    if mean < 0:
        low, centre, high = -high, -centre, -low
    return Interval(float(ndtr(centre)), float(ndtr(low)), float(ndtr(high)), confidence, n)


def _noncentrality(degrees: int, statistic: float, probability: float) -> float:
    """The delta with P(T <= statistic) = probability, T noncentral t about delta; statistic >= 0.

    delta is a quantile of statistic * u - z, with u = chi / sqrt(degrees) and z standard normal; the ends
    take quantiles of u and z at half the tail each. scipy's own inverse is good to 1e-5 only and can fail to
    return.
    """
    half_tail = min(probability, 1 - probability) / 2
    z, u = -float(ndtri(half_tail)), math.sqrt(float(chdtri(degrees, half_tail)) / degrees)
    return float(
        brentq(
            lambda delta: nctdtr(degrees, delta, statistic) - probability,
            -z,
            z + u * statistic,
            xtol=1e-10,
        )
    )


def _gains(first: ArrayLike, second: ArrayLike, lower_is_better: bool) -> NDArray[np.float64]:
    """By how much `first` is better than `second`, for each seed."""
    first, second = finite_values(first, "first"), finite_values(second, "second")
    if len(first) != len(second):
        raise ValueError(
            f"paired values: expected one of each per seed, got {len(first)} and {len(second)};"
            " keep the seeds that have both"
        )
    return second - first if lower_is_better else first - second
