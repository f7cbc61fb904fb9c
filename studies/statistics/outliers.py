"""A seed that stands apart: few differences, one of which lies much farther from the rest than normal values do.

Where a recipe fails now and then, differences are skewed, and Student's interval of a few of them covers too seldom (81
to 94 % for 95 %). Nothing in the values can mend that; what can be done is to notice.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr

from studies.statistics.intervals import finite_values


def outlying(differences: ArrayLike, false_alarm: float = 0.05) -> int | None:
    """Where the value stands that is farthest from the mean, if it is farther than chance allows; else None.

    Grubbs (1950): the largest |x_i - mean| / s of normal values is above a bound in at most `false_alarm` of all sets,
    at any n >= 3 (t_{n-2} at the level false_alarm / n, two-sided). Three values can only tell that two are alike: the
    third is noticed when it lies some 33 times as far from them as they lie apart. Values that are skewed and yet
    spread, or two outliers, go unnoticed. `differences` (n,); fewer than three say nothing.
    """
    values = finite_values(differences, "differences")
    n = len(values)
    deviation = np.abs(values - values.mean())
    square = float(np.sum(deviation**2))
    if n < 3 or square <= (64 * np.finfo(np.float64).eps * float(np.abs(values).max())) ** 2:
        return None
    farthest = int(np.argmax(deviation))
    rest = np.delete(values, farthest)
    # The studentised distance from the others' mean, which for the farthest value says the same as Grubbs's ratio.
    spread = math.sqrt(float(np.sum((rest - rest.mean()) ** 2)) / (n - 2) * n / (n - 1))
    if spread == 0:
        return farthest
    t = abs(float(values[farthest] - rest.mean())) / spread
    return farthest if 2 * n * float(stdtr(n - 2, -t)) < false_alarm else None
