"""What the statistics do at their ends: the words, the counts and the limits that a whole study seldom reaches."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from studies.statistics import (
    Interval,
    cell_table,
    seeds_to_resolve,
    sequential_interval,
    unpaired_seeds_needed,
)


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(999_000.0, 998_000.0, 1_000_000.0, 0.95, 3), "999000 ± 1000"),
        (Interval(1.2e6, 1.0e6, 1.4e6, 0.95, 3), "(1.20 ± 0.20)e+06"),
        (Interval(2e-5, 1e-5, 3e-5, 0.95, 3), "0.000020 ± 0.000010"),
        (Interval(2e-6, 1e-6, 3e-6, 0.95, 3), "(2.0 ± 1.0)e-06"),
        (Interval(0.5, 0.4, 0.6 + 1e-8, 0.95, 3), "0.50 ± 0.10"),  # sides that differ by rounding alone
    ],
)
def test_where_an_interval_changes_its_form(interval, text):
    """Powers of ten from a million up and below 1e-5; one half width for two sides within a millionth."""
    assert str(interval) == text


def test_unpaired_seeds_of_unequal_groups():
    """The fewest n with t_{2n-2} E[s_pooled] sqrt(2 / n) at most the half width, E[s] by the mean of scipy's chi."""
    first, second = [0.0, 1.0, 4.0], [2.0, 2.5, 3.0, 7.0, 7.5]

    def mean_spread(freedom):
        return stats.chi.mean(freedom) / math.sqrt(freedom)

    pooled = (2 * np.var(first, ddof=1) + 4 * np.var(second, ddof=1)) / 6
    sigma = math.sqrt(pooled) / mean_spread(6)

    def width(n):
        return stats.t.ppf(0.975, 2 * n - 2) * mean_spread(2 * n - 2) * sigma * math.sqrt(2 / n)

    for needed in (*range(2, 40), 127, 128, 129, 999_999):  # the target: a hair above the width of `needed` seeds
        assert unpaired_seeds_needed(first, second, width(needed) * (1 + 1e-9)) == needed
        assert unpaired_seeds_needed(first, second, width(needed) * (1 - 1e-9)) == needed + 1
    assert unpaired_seeds_needed(first, second, width(1_000_000) * (1 - 1e-9)) == math.inf


def test_seeds_to_resolve_one_by_one():
    """The fewest n whose power, by scipy's noncentral t, reaches the one asked for: a hair below and above it."""
    differences = [0.1, 0.4, 0.5, 0.9]
    effect = np.mean(differences) / np.std(differences, ddof=1)

    def power(n, confidence=0.95):
        return stats.nct.sf(stats.t.ppf((1 + confidence) / 2, n - 1), n - 1, math.sqrt(n) * effect)

    for needed in range(2, 12):
        assert seeds_to_resolve(differences, power(needed) - 1e-7) == needed
        assert seeds_to_resolve(differences, power(needed) + 1e-7) == needed + 1
    assert seeds_to_resolve(differences, power(6, 0.8) - 1e-7, confidence=0.8) == 6


def test_a_blank_level_is_a_level():
    """A column that holds one level and blanks varies: rows that differ in it alone are told apart by its name."""
    rows = [("kl", "torch", 0, "m", 1.0, "v"), ("kl", "torch", 0, "m", 2.0, None)]
    frame = pd.DataFrame(rows, columns=["objective", "backend", "seed", "metric", "value", "prediction"])
    with pytest.raises(ValueError, match="choose one level of prediction"):
        cell_table(frame, "m")


def test_a_value_that_is_not_finite_is_named_by_its_argument():
    """The message begins with the argument that holds it."""
    with pytest.raises(ValueError, match=r"^differences: expected finite values, got nan at index 1"):
        sequential_interval([0.0, math.nan], first=2)
