"""An outlying seed is noticed as Grubbs's tables say, and seldom where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from studies.statistics.outliers import outlying


@pytest.mark.parametrize(("n", "bound"), [(3, 1.1543), (5, 1.7150), (10, 2.2900)])
def test_bounds_are_those_of_grubbs_tables(n, bound):
    """Two-sided 5 % of G = max |x - mean| / s: by bisection on one value beside an even spread of the others."""
    rest = np.linspace(-1, 1, n - 1)

    def ratio(far):
        values = np.append(rest, far)
        return np.abs(values - values.mean()).max() / values.std(ddof=1)

    low, high = 1.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if outlying(np.append(rest, middle)) == n - 1 else (middle, high)
    assert ratio(high) == pytest.approx(bound, abs=2e-4)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_normal_differences_raise_an_alarm_in_one_of_twenty(n):
    """Of 2,000 sets 61 to 139 where the chance is 5 %: 4 standard errors, which one such test in 16,000 is beyond."""
    rng = np.random.default_rng(n)
    alarms = sum(outlying(rng.standard_normal(n)) is not None for _ in range(2000))
    assert 61 <= alarms <= 139


def test_what_cannot_be_told():
    assert outlying([1.0, 5.0]) is None
    assert outlying([0.1, 0.1, 0.1]) is None
    assert outlying([1.0, 2.0, 9.0]) is None  # three values: not far enough
    assert outlying([1.0, 1.1, 9.0]) == 2
