"""Strata hold every step once, and evaluations are allocated to them as Neyman's rule says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.strata import allocate, geometric_strata

positive_lists = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30)


@given(st.integers(1, 4000), st.floats(0, 1))
def test_strata_hold_each_step_once(num_steps, growth):
    strata = geometric_strata(num_steps, growth)
    steps = np.concatenate([np.arange(a, b + 1) for a, b in zip(strata.first, strata.last, strict=True)])
    np.testing.assert_array_equal(steps, np.arange(1, num_steps + 1))
    assert len(strata) == len(strata.size)
    assert np.all(strata.size <= 1 + growth * strata.first)


def test_strata_grow_by_a_tenth_of_t():
    """Steps of their own up to 9; from t on 1 + t // 10 together; the last run ends with the chain."""
    first = [*range(1, 11), 12, 14, 16, 18, 20, 23, 26, 29, 32, 36, 40, 45, 50, 56, 62, 69, 76, 84, 93]
    strata = geometric_strata(100)
    assert strata.first.tolist() == first
    assert strata.last.tolist() == [*(t - 1 for t in first[1:]), 100]


def test_a_run_ends_where_the_scale_leaves_its_range():
    """By hand: of 93..100, alike but for a rise over the last, each step from the first that doubles the least."""
    scale = np.ones(101)
    scale[97:] = 1.9, 2.1, 4.0, 1000.0
    plain, cut = geometric_strata(100), geometric_strata(100, scale=scale)
    assert cut.first.tolist() == [*plain.first, 98, 100]
    assert cut.last.tolist() == [*plain.last[:-1], 97, 99, 100]
    assert geometric_strata(100, scale=5 * np.ones(101)).last.tolist() == plain.last.tolist()


def test_allocation_keeps_a_minimum_of_each_stratum_and_the_budget():
    """By hand: the first stratum keeps its 8, and 12 go by halves to what is as large."""
    assert allocate([0.1, 1.0, 1.0], 20, np.array([8, 2, 2])).tolist() == [8, 6, 6]
    with pytest.raises(ValueError, match="a budget of 12, got 11"):
        allocate([0.1, 1.0, 1.0], 11, np.array([8, 2, 2]))


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=30), st.integers(0, 4), st.integers(0, 500))
def test_allocation_spends_the_budget(scale, minimum, extra):
    """Counts add up to the budget, and none is below the minimum."""
    budget = minimum * len(scale) + extra
    counts = allocate(scale, budget, minimum)
    assert counts.dtype == np.int64
    assert counts.sum() == budget
    assert counts.min() >= minimum


@given(positive_lists.filter(lambda sizes: len(sizes) > 1), st.integers(0, 200), st.data())
def test_allocation_is_neymans(scale, extra, data):
    """No move of one evaluation between strata lowers sum(scale^2 / n) by more than rounding to whole numbers can."""
    budget = 2 * len(scale) + extra
    counts = allocate(scale, budget)
    scale = np.array(scale)
    variance = np.sum(scale**2 / counts)
    # The continuous optimum under n >= 2 by bisection on its multiplier: n = max(2, scale / multiplier).
    low, high = scale.sum() / budget / 1e3, scale.max()
    for _ in range(200):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if np.maximum(2, scale / middle).sum() > budget else (low, middle)
    best = np.maximum(2, scale / high)
    assert best.sum() == pytest.approx(budget, rel=1e-9)
    # Fractions go to the largest remainders.
    up = counts > best
    assert np.all(np.abs(counts - best) < 1 + 1e-6)
    assert np.max((best % 1)[~up & (best > 2)], initial=0) <= np.min((best % 1)[up], initial=1) + 1e-6
    assert variance >= np.sum(scale**2 / best) * (1 - 1e-9)


def test_allocation_follows_the_scale():
    assert allocate([3.0, 1.0], 8).tolist() == [6, 2]
    assert allocate([1.0, 1.0, 0.0], 12).tolist() == [5, 5, 2]
    assert allocate([0.0, 0.0], 5).tolist() == [3, 2]


@pytest.mark.parametrize(
    ("scale", "budget", "message"),
    [
        ([1.0, 1.0], 3, "2 strata with at least 2 evaluations each need a budget of 4, got 3"),
        ([1.0, np.nan], 9, "the scale of a stratum is finite and at least 0, got nan"),
        ([1.0, -1.0], 9, "the scale of a stratum is finite and at least 0, got -1.0"),
        ([np.inf, 1.0], 9, "the scale of a stratum is finite and at least 0, got inf"),
    ],
)
def test_bad_allocations(scale, budget, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        allocate(scale, budget)
    assert str(caught.value) == message
