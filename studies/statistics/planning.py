"""How many seeds the next study needs, judged from the paired differences of this one.

Both answers lean on the spread of a few seeds, which is itself known poorly: from 3 seeds the standard
deviation may be off by a factor of 2 either way. They plan a study; `stopping` runs one to a stated width.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, nctdtr

from studies.statistics.intervals import finite_values, standard_error, t_quantile

MOST_SEEDS = 1_000_000
MOST_SHIFT = 1e5


def seeds_needed(differences: ArrayLike, half_width: float, confidence: float = 0.95) -> float:
    """The fewest seeds whose t interval has an expected half width of at most `half_width`.

    The expected half width of n seeds is t_{n-1} c4(n) sigma / sqrt(n), with E[s] = c4(n) sigma and c4(n) =
    sqrt(2 / (n-1)) Gamma(n/2) / Gamma((n-1)/2); sigma is estimated without bias by s / c4 of the n seeds
    given. `differences` has shape (n,), n >= 2, in the unit of `half_width`. A whole number, at least 2, or
    inf beyond a million. ValueError for one seed or a half width that is not positive.
    """
    differences = _several(differences)
    check_half_width(half_width)
    n = len(differences)
    sigma = standard_error(differences) * math.sqrt(n) / _c4(n)
    return _fewest(lambda m: t_quantile(m - 1, confidence) * _c4(m) * sigma / math.sqrt(m) <= half_width)


def unpaired_seeds_needed(first: ArrayLike, second: ArrayLike, half_width: float, confidence: float = 0.95) -> float:
    """The same for two groups of seeds that share nothing: the fewest n in each whose two-sample interval does.

    Its expected half width is t_{2n-2} c4(2n-1) sigma sqrt(2 / n), sigma of either group, estimated without bias from
    the pooled variance of the groups given, (n_1,) and (n_2,), both at least 2. Otherwise as `seeds_needed`.
    """
    groups = [_several(group) for group in (first, second)]
    check_half_width(half_width)
    freedom = sum(len(group) - 1 for group in groups)
    pooled = sum((len(group) - 1) * float(np.var(group, ddof=1)) for group in groups) / freedom
    sigma = math.sqrt(pooled) / _c4(freedom + 1)
    return _fewest(
        lambda m: t_quantile(2 * m - 2, confidence) * _c4(2 * m - 1) * sigma * math.sqrt(2 / m) <= half_width
    )


def seeds_to_resolve(differences: ArrayLike, power: float = 0.8, confidence: float = 0.95) -> float:
    """The fewest seeds with which a paired t test finds a difference like the one seen with this power.

    With d = mean / s of the differences and T noncentral t with n - 1 degrees and noncentrality sqrt(n) |d|,
    power(n) = P(T > t_{n-1}), the two-sided test at level 1 - confidence with the right sign (Cohen 1988,
    Statistical Power Analysis, ch. 2). `differences` has shape (n,), n >= 2. A whole number, at least 2, or
    inf for a mean of exactly 0 or more than a million seeds. A difference noticed because it was large is
    overestimated, so this is then too few. ValueError for one seed, or a power outside (0, 1).
    """
    differences = _several(differences)
    if not 0 < power < 1:
        raise ValueError(f"power lies between 0 and 1, got {power}; write 80 % as 0.8")
    mean = abs(float(np.mean(differences)))
    if mean == 0:
        return math.inf
    spread = standard_error(differences) * math.sqrt(len(differences))
    if spread == 0:
        return 2
    return _fewest(lambda n: _power(n, mean / spread, confidence) >= power)


def check_half_width(half_width: float) -> None:
    """ValueError unless the half width is positive and finite."""
    if not 0 < half_width < math.inf:
        raise ValueError(f"half_width: expected a positive width in the metric's unit, got {half_width}")


def _power(n: int, effect: float, confidence: float) -> float:
    """P(T > t_{n-1}) for the paired t test of n seeds when the mean is `effect` > 0 standard deviations."""
    # scipy gives NaN for a shift in the millions; the power is 1 long before, as t_1 is 12.7 at 95 %.
    shift = min(math.sqrt(n) * effect, MOST_SHIFT)
    return 1 - float(nctdtr(n - 1, shift, t_quantile(n - 1, confidence)))


def _c4(n: int) -> float:
    """E[s] / sigma for n normal values; 0.886 at n = 3, towards 1."""
    return math.sqrt(2 / (n - 1)) * math.exp(float(gammaln(n / 2) - gammaln((n - 1) / 2)))


def _fewest(suffices: Callable[[int], bool]) -> float:
    """The smallest n >= 2 that suffices, for a condition that once true stays true; inf beyond MOST_SEEDS."""
    high = 2
    while not suffices(high):
        if high >= MOST_SEEDS:
            return math.inf
        high = min(2 * high, MOST_SEEDS)
    low = max(2, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle + 1, high)
    return low


def _several(differences: ArrayLike) -> NDArray[np.float64]:
    """At least two finite differences."""
    array = finite_values(differences, "differences")
    if len(array) < 2:
        raise ValueError("differences: expected at least 2 seeds to see their spread, got 1; run another seed")
    return array
