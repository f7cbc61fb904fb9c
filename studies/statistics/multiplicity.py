"""Many comparisons at once: adjusted p values, and intervals that hold together."""

from collections.abc import Hashable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.statistics.intervals import Interval, check_confidence, mean_interval

# "Family-wise" bounds the chance of any false alarm, "false discovery" the share of alarms that are false.
ADJUSTMENTS = {
    "holm": "holm",  # family-wise, any dependence; Holm (1979), Scand. J. Statist. 6
    "bonferroni": "bonferroni",  # family-wise, any dependence, never more powerful than Holm
    "benjamini-hochberg": "fdr_bh",  # false discovery, independent or positively dependent; (1995), JRSS B 57
    "benjamini-yekutieli": "fdr_by",  # false discovery, any dependence; (2001), Ann. Statist. 29
}


def adjust(p_values: ArrayLike, method: str = "holm") -> NDArray[np.float64]:
    """P values adjusted for being this many, in the order given: reject where adjusted <= the level wanted.

    `p_values` has shape (m,), each in [0, 1]; `method` is a key of `ADJUSTMENTS`. Computed by statsmodels.
    ValueError for an unknown method or a value outside [0, 1]; ImportError naming the extra without
    statsmodels.
    """
    if method not in ADJUSTMENTS:
        raise ValueError(f"method: expected one of {', '.join(ADJUSTMENTS)}, got {method!r}")
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or p.size == 0 or not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"p_values: expected one axis of values in [0, 1], got {np.array2string(p, threshold=8)}")
    try:  # here, since it takes a second that a study without comparisons need not wait
        from statsmodels.stats.multitest import multipletests
    except ImportError as error:
        raise ImportError("adjust needs statsmodels; install the extra 'studies'") from error
    return np.asarray(multipletests(p, method=ADJUSTMENTS[method])[1])


def simultaneous_intervals(
    differences: Mapping[Hashable, ArrayLike], confidence: float = 0.95
) -> dict[Hashable, Interval]:
    """t intervals of several means that hold all at once with at least `confidence` (Bonferroni).

    Each of the m entries holds its own per-seed differences, shape (n,), however dependent on the others'.
    Each interval is a t interval at 1 - (1 - confidence) / m and says so in its `confidence`.
    """
    check_confidence(confidence)
    each = 1 - (1 - confidence) / max(1, len(differences))
    return {name: mean_interval(values, each) for name, values in differences.items()}
