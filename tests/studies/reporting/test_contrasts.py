"""A contrast's interval, worked out by hand: of a fixed number of seeds, and of one that the first seeds have set."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from studies.reporting.contrasts import Contrast
from studies.reporting.tables import _about_seeds_apart, _difference

DIFFERENCES = pd.Series([0.1, 0.4, -0.2, 0.3, 0.5, 0.2], index=range(6))


def contrast(first_stage: int | None) -> Contrast:
    return Contrast("objective", "epsilon_mse", "posterior_kl", None, DIFFERENCES, (), first_stage)


def test_an_interval_is_of_all_seeds():
    expected = stats.t.ppf(0.975, 5) * np.std(DIFFERENCES, ddof=1) / math.sqrt(6)
    interval = contrast(None).interval()
    assert interval.estimate == pytest.approx(DIFFERENCES.mean(), rel=1e-12)
    assert interval.half_width == pytest.approx(expected, rel=1e-9)


def test_a_two_stage_interval_takes_its_spread_from_the_first_seeds():
    """Stein (1945): the mean of all seeds, with the standard deviation and the freedom of the first three."""
    expected = stats.t.ppf(0.975, 2) * np.std(DIFFERENCES[:3], ddof=1) / math.sqrt(6)
    interval = contrast(3).interval()
    assert interval.estimate == pytest.approx(DIFFERENCES.mean(), rel=1e-12)
    assert interval.half_width == pytest.approx(expected, rel=1e-9)


def test_a_seed_that_stands_apart_is_noted_in_the_table_and_told_of_below_it():
    noted = _difference(Contrast("backend", "a", "b", None, pd.Series([1.0, 1.1, 9.0], [0, 1, 7]), ()), "bound", 1)
    plain = _difference(Contrast("backend", "a", "b", None, pd.Series([1.0, 2.0, 3.0], [0, 1, 7]), ()), "bound", 1)
    assert noted["notes"] == ["seed 7 stands apart"]
    assert plain["notes"] == []
    assert "A seed stands apart where" in _about_seeds_apart([{"shown": [plain, noted]}])
    assert _about_seeds_apart([{"shown": [plain]}]) == ""
