"""The bound's estimator: moments and error bars against brute force and simulation, controls that bias nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.estimators import (
    StratumMoments,
    draws_needed,
    error_parts,
    kl_scale,
    linear_denoiser_mse,
    noise_control,
    plan,
    smoothed_deviations,
    standard_errors,
    stratum_moments,
    with_pooled_variance,
    without_examples,
    without_noise,
)
from core.objectives import kl_weight
from core.reverse import reverse_process
from core.schedules import linear
from core.strata import Strata, geometric_strata

seeds = st.integers(0, 2**32 - 1)


def unit_strata(count):
    steps = np.arange(1, count + 1)
    return Strata(steps, steps)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 40), seeds)
def test_moments_by_brute_force(num_strata, num_examples, extra, seed):
    """Every moment from its definition, one stratum and one example at a time."""
    rng = np.random.default_rng(seed)
    stratum = rng.permutation(np.append(np.arange(num_strata), rng.integers(0, num_strata, extra)))
    example = rng.integers(0, num_examples, len(stratum))
    value = rng.standard_normal(len(stratum)) + 3 * example
    found = stratum_moments(stratum, example, value, num_strata, num_examples)
    for h in range(num_strata):
        here = value[stratum == h]
        by_example = [value[(stratum == h) & (example == i)] for i in range(num_examples)]
        seen = [group for group in by_example if len(group)]
        freedom = len(here) - len(seen)
        within = sum(((group - group.mean()) ** 2).sum() for group in seen) / max(freedom, 1)
        assert found.count[h] == len(here)
        assert found.mean[h] == pytest.approx(here.mean(), rel=1e-12, abs=1e-12)
        assert found.within_freedom[h] == freedom
        assert found.within[h] == pytest.approx(within, rel=1e-9, abs=1e-9)
        spread = sum((group.mean() - here.mean()) ** 2 for group in seen) / max(len(seen) - 1, 1)
        left = np.mean([1 - 1 / len(group) for group in seen])
        assert found.variance[h] == pytest.approx(spread + within * left, rel=1e-9, abs=1e-9)
        shares = sum((len(group) / len(here)) ** 2 for group in by_example)
        assert found.share_excess[h] == pytest.approx(shares - 1 / num_examples, abs=1e-12)


@given(st.integers(2, 8), st.integers(6, 12), seeds)
def test_equal_visits_leave_only_noise(num_examples, visits, seed):
    """Where every example was visited equally often, what they differ by is no part of the error, however large."""
    rng = np.random.default_rng(seed)
    example = np.repeat(np.arange(num_examples), visits)
    noise = rng.standard_normal(len(example))
    noise -= (np.bincount(example, noise) / visits)[example]  # so that the moments see the same noise in both
    stratum = np.zeros(len(example), np.int64)
    offset = 100.0 * rng.standard_normal(num_examples)
    found = stratum_moments(stratum, example, noise + offset[example], 1, num_examples)
    assert found.share_excess[0] == pytest.approx(0, abs=1e-12)
    within = (noise**2).sum() / (len(example) - num_examples)
    error = standard_errors(found, enough=1)[0]
    # share_excess is 0 to within rounding, times a between of order 1e4
    assert error == pytest.approx(np.sqrt(within / len(example)), rel=1e-6)


@pytest.mark.parametrize("count", [12, 20, 30, 75])
def test_standard_errors_are_the_scatter(count):
    """Examples drawn without replacement, one pair each for the first four: the mean square error bar is the scatter.

    20 examples and up to nearly four rounds of them. Of 4,000 repeats the scatter's square is known to 2.2 %; 5 sigma.
    """
    rng = np.random.default_rng(count)
    num_examples, repeats = 20, 4000
    offset = 2.0 * rng.exponential(size=num_examples)
    position = np.where(np.arange(count) < 8, np.arange(count) // 2, np.arange(count) - 4)
    means, squares = np.empty(repeats), np.empty(repeats)
    for k in range(repeats):
        order = np.concatenate([rng.permutation(num_examples) for _ in range(4)])
        example = order[position]
        value = offset[example] + 1.5 * rng.standard_normal(count)
        found = stratum_moments(np.zeros(count, np.int64), example, value, 1, num_examples)
        means[k], squares[k] = found.mean[0], standard_errors(found)[0] ** 2
    assert squares.mean() == pytest.approx(means.var(ddof=1), rel=0.11)
    assert means.mean() == pytest.approx(offset.mean(), abs=5 * means.std() / np.sqrt(repeats))


@given(st.integers(2, 12), st.integers(0, 2), seeds, st.floats(0, 1e6))
def test_deviations_come_from_neighbours(count, own, seed, other):
    """A stratum's own pilot has no part in how often it is visited; the first `own` have nothing else to go by."""
    variance = np.random.default_rng(seed).exponential(size=count)
    found = smoothed_deviations(variance, own)
    for h in range(count):
        changed = variance.copy()
        changed[h] = other
        again = smoothed_deviations(changed, own)[h]
        if h < own:
            assert found[h] == np.sqrt(variance[h])
            assert again == np.sqrt(other)
        elif count - own > 1:
            assert again == found[h]


@given(st.integers(3, 12), st.integers(0, 2), seeds)
def test_deviations_along_the_scale_are_kept(count, own, seed):
    """Deviations proportional to the scale come back as they are, however steep they are."""
    scale = 10 * np.random.default_rng(seed).exponential(size=count) + 1e-3
    np.testing.assert_allclose(smoothed_deviations((3 * scale) ** 2, own, scale), 3 * scale, rtol=1e-12)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.integers(0, 3000), st.data())
def test_plan_respects_what_is_spent_and_the_budget(deviations, budget, data):
    """Nothing drawn is lost, the budget is spent, and it is exceeded only by what was drawn before."""
    sizes = st.lists(st.integers(1, 20), min_size=len(deviations), max_size=len(deviations))
    spent = np.array(data.draw(sizes, label="spent"))
    strata = unit_strata(len(deviations))
    counts = plan(strata, np.array(deviations), spent, budget)
    least = max(budget, spent.sum())
    assert np.all(counts >= spent)
    assert least <= counts.sum() <= least + spent.sum()


def test_plan_is_neymans_where_there_is_room():
    strata = Strata(np.array([1, 2, 4]), np.array([1, 3, 4]))
    assert plan(strata, np.array([3.0, 1.0, 1.0]), np.array([2, 2, 2]), 60).tolist() == [30, 20, 10]


@given(st.integers(1, 300), st.floats(0.01, 10), seeds)
def test_draws_needed_inverts_the_variance(num_steps, target, seed):
    """So many draws, in Neyman's proportions, have that standard error; one fewer has more."""
    strata = geometric_strata(num_steps)
    deviation = np.random.default_rng(seed).exponential(size=len(strata))
    part = strata.size * deviation
    draws = draws_needed(strata, deviation, target)

    def error(n):
        return np.sqrt(np.sum(part**2 / (n * part / part.sum())))

    assert error(draws) <= target * (1 + 1e-9)
    if draws > 1:
        assert error(draws - 1) > target * (1 - 1e-9)


@pytest.mark.parametrize("prediction", ["epsilon", "x_0", "mean", "v"])
def test_kl_scale_is_the_weight_of_epsilon(prediction):
    """Whatever is predicted: nats per squared error of epsilon, with a finite value at t = 1."""
    schedule = linear(200)
    scale = kl_scale(reverse_process(schedule, prediction))
    t = np.arange(2, 201)
    np.testing.assert_allclose(scale[2:], kl_weight(schedule, t), rtol=1e-9)
    assert 0 < scale[1] < np.inf


@given(st.integers(1, 100), st.floats(-2, 2), st.floats(-1, 1), st.floats(0, 4), st.floats(-3, 3))
def test_noise_control_is_the_linear_denoisers_error(t, x_0, mean, variance, epsilon):
    """||epsilon - E[epsilon | x_t]||^2 for x_0 ~ N(mean, variance), less its mean over epsilon by quadrature."""
    schedule = linear(100)
    signal, noise = np.sqrt(schedule.alpha_bar[t]), np.sqrt(1 - schedule.alpha_bar[t])

    def error(eps):
        x_t = signal * x_0 + noise * eps
        x_0_hat = mean + signal * variance / (signal**2 * variance + noise**2) * (x_t - signal * mean)
        return (eps - (x_t - signal * x_0_hat) / noise) ** 2

    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    expected = error(epsilon) - np.sum(weights * error(nodes)) / weights.sum()
    found = noise_control(
        schedule,
        np.full((1, 2), x_0),
        np.array([[epsilon, epsilon]]),
        np.array([t]),
        np.full(2, mean),
        np.full(2, variance),
    )
    assert found[0] == pytest.approx(2 * expected, rel=1e-6, abs=1e-6)


def drawn(seed, num_strata=6, each=10):
    rng = np.random.default_rng(seed)
    stratum = np.repeat(np.arange(num_strata), each)
    half = np.tile([0, 1], num_strata * each // 2)
    return rng, stratum, half, rng.standard_normal(len(stratum)), rng.standard_normal(len(stratum))


@given(seeds, st.integers(0, 6), st.integers(0, 5), st.integers(0, 1))
def test_a_slope_does_not_follow_its_own_half(seed, own, h, which):
    """What is taken from a half of a stratum does not change with its values: the correction keeps mean 0."""
    rng, stratum, half, value, control = drawn(seed)
    here = (stratum == h) & (half == which)
    taken = value - without_noise(stratum, half, value, control, 6, own)
    changed = np.where(here, 5 * rng.standard_normal(len(value)), value)
    again = changed - without_noise(stratum, half, changed, control, 6, own)
    np.testing.assert_allclose(again[here], taken[here], rtol=1e-9, atol=1e-9)


@given(seeds, st.integers(0, 6), st.floats(-5, 5))
def test_all_that_the_control_explains_is_removed(seed, own, slope):
    """A value that differs from its stratum's mean by the noise alone is left with no scatter, where the half means
    of the control are 0.
    """
    _, stratum, half, level, control = drawn(seed)
    group = 2 * stratum + half
    control -= (np.bincount(group, control) / np.bincount(group))[group]
    # With n - 1 for the covariance, but the control's known mean for its square, the slope is n / (n - 1) of it.
    value = level[stratum] + slope * control
    left = without_noise(stratum, half, value, control, 6, own)
    np.testing.assert_allclose(left, level[stratum] - slope * control / 4, rtol=1e-9, atol=1e-9)


def test_without_noise_is_unbiased_and_calm():
    """Skewed noise that follows the control in part: the mean stays, the scatter falls; 4 sigma of 2,000 repeats."""
    rng = np.random.default_rng(1)
    stratum, half = np.repeat([0, 1, 2, 3], 20), np.tile([0, 1], 40)
    means = np.empty((2000, 2))
    for k in range(len(means)):
        epsilon = rng.standard_normal((len(stratum), 2))
        value, control = np.sum(epsilon**2, axis=1) + epsilon[:, 0] * epsilon[:, 1], epsilon[:, 0] ** 2 - 1
        means[k] = value.mean(), without_noise(stratum, half, value, control, 4, 1).mean()
    deviation = means.std(axis=0, ddof=1)
    assert np.all(np.abs(means.mean(axis=0) - 2) < 4 * deviation / np.sqrt(len(means)))
    assert deviation[1] < 0.9 * deviation[0]


def test_without_examples_is_unbiased_and_calm():
    """Examples that are hard in every stratum, on different scales: the mean stays, the scatter falls by half."""
    rng = np.random.default_rng(2)
    num_strata, num_examples, each = 20, 15, 8
    scale = 1.2 ** -np.arange(num_strata)
    offset = rng.exponential(size=num_examples)
    truth = scale.sum() * offset.mean()
    stratum = np.repeat(np.arange(num_strata), each)
    totals = np.empty((3000, 2))
    for k in range(len(totals)):
        example = np.concatenate([rng.permutation(num_examples)[:each] for _ in range(num_strata)])
        value = scale[stratum] * (offset[example] + 0.1 * rng.standard_normal(len(example)))
        controlled = without_examples(stratum, example, value, scale, num_examples)
        totals[k] = value.sum() / each, controlled.sum() / each
    deviation = totals.std(axis=0, ddof=1)
    assert np.all(np.abs(totals.mean(axis=0) - truth) < 4 * deviation / np.sqrt(len(totals)))
    assert deviation[1] < 0.5 * deviation[0]


@given(seeds)
def test_one_stratum_says_nothing_of_itself(seed):
    """With no other stratum to learn an example's difficulty from, values stay as they are."""
    rng = np.random.default_rng(seed)
    value = rng.standard_normal(12)
    found = without_examples(np.zeros(12, np.int64), rng.integers(0, 5, 12), value, [1.0], 5)
    np.testing.assert_array_equal(found, value)


def test_diverged_values_stay_as_they_are():
    """Infinite values are not turned into NaN by the controls, nor do they spoil strata far away."""
    _, stratum, half, value, control = drawn(0, num_strata=12)
    value[stratum == 0] = np.inf
    with np.errstate(invalid="ignore"):
        left = without_noise(stratum, half, value, control, 12, 0)
        left = without_examples(stratum, np.arange(len(stratum)) % 5, left, np.ones(12), 5)
    assert np.all(left[stratum == 0] == np.inf)
    assert np.all(np.isfinite(left[stratum > 0]))


def test_pooled_standard_errors_are_the_scatter():
    """Strata with two pairs each, too few to tell noise from examples alone: their summed squares are the scatter.

    Steep scales; of 4,000 repeats the scatter's square is known to 2.2 %; 5 sigma.
    """
    rng = np.random.default_rng(3)
    num_strata, num_examples, count, repeats = 12, 12, 10, 4000
    scale = 1.5 ** -np.arange(num_strata)
    offset = rng.standard_normal((num_strata, num_examples))
    position = np.where(np.arange(count) < 4, np.arange(count) // 2, np.arange(count) - 2)
    stratum = np.repeat(np.arange(num_strata), count)
    totals, squares = np.empty(repeats), np.empty(repeats)
    for k in range(repeats):
        example = np.concatenate([rng.permutation(num_examples)[position] for _ in range(num_strata)])
        value = scale[stratum] * (offset[stratum, example] + rng.standard_normal(len(stratum)))
        found = stratum_moments(stratum, example, value, num_strata, num_examples)
        totals[k], squares[k] = found.mean.sum(), np.sum(standard_errors(found, scale) ** 2)
    assert squares.mean() == pytest.approx(totals.var(ddof=1), rel=0.11)


@pytest.mark.parametrize(("freedom", "own"), [(29, False), (30, True)])
def test_a_stratum_of_thirty_repeats_tells_noise_from_examples_by_itself(freedom, own):
    """Its noise share is its own from 30 on; below, the ratio of its neighbours' sums: all noise here, none beside."""
    moments = StratumMoments(
        count=np.array([40, 40]),
        mean=np.zeros(2),
        variance=np.ones(2),
        within=np.array([1.0, 0.0]),
        within_freedom=np.array([freedom, 1000]),
        share_excess=np.zeros(2),
    )
    share = 1.0 if own else freedom / (freedom + 1000)
    assert error_parts(moments)[0][0] == pytest.approx(math.sqrt(share / 40), rel=1e-12)
    assert standard_errors(moments)[0] == pytest.approx(math.sqrt(share / 40), rel=1e-12)


def test_the_first_strata_take_what_their_repeats_do_not_tell_for_noise():
    """By hand: of 30 degrees of freedom wanted 12 say a quarter is noise, whatever the neighbour says."""
    moments = StratumMoments(
        count=np.array([40, 40]),
        mean=np.zeros(2),
        variance=np.ones(2),
        within=np.array([0.25, 0.0]),
        within_freedom=np.array([12, 1000]),
        share_excess=np.array([0.01, 0.0]),
    )
    noise, steps = error_parts(moments, own=1)
    share = 0.4 * 0.25 + 0.6
    np.testing.assert_allclose(noise, [math.sqrt(share / 40), 0], rtol=1e-12)
    np.testing.assert_allclose(steps, [math.sqrt((1 - share) * 0.01), 0], rtol=1e-12)


def test_a_noise_share_above_one_is_no_smaller_for_it():
    """A share of 1.2 by chance: the whole error is within / n - (within - variance) excess, linear in both."""
    moments = StratumMoments(
        count=np.array([50]),
        mean=np.zeros(1),
        variance=np.ones(1),
        within=np.array([1.2]),
        within_freedom=np.array([40]),
        share_excess=np.array([0.005]),
    )
    assert standard_errors(moments)[0] ** 2 == pytest.approx(1.2 / 50 - 0.2 * 0.005, rel=1e-12)


def test_variances_of_few_draws_are_pooled_along_the_scale():
    """By hand: of 3 strata alike in units of their scale, 4, 4 and 40 draws; the first of all stays by itself."""
    moments = StratumMoments(
        count=np.array([4, 4, 4, 40]),
        mean=np.zeros(4),
        variance=np.array([7.0, 1.0, 2.0 * 100, 3.0 * 10_000]),
        within=np.zeros(4),
        within_freedom=np.full(4, 2),
        share_excess=np.zeros(4),
    )
    scale = np.array([1.0, 1.0, 10.0, 100.0])
    pooled = (3 * 1.0 + 3 * 2.0 + 3 * 3.0) / 9  # 3 degrees of freedom each: the fourth's 39 count as many
    np.testing.assert_allclose(
        with_pooled_variance(moments, 1, scale).variance, [7.0, pooled, 100 * pooled, 30_000], rtol=1e-12
    )
    near = (3 * 1.0 + 3 * 2.0) / 6
    np.testing.assert_allclose(
        with_pooled_variance(moments, 1, scale, window=1).variance, [7.0, near, 100 * pooled, 30_000], rtol=1e-12
    )


def test_a_diverged_stratum_spoils_no_neighbours_variance():
    variance = np.array([1.0, np.inf, np.nan, 3.0])
    moments = StratumMoments(np.full(4, 4), np.zeros(4), variance, np.zeros(4), np.full(4, 2), np.zeros(4))
    found = with_pooled_variance(moments, 0, np.ones(4)).variance
    np.testing.assert_allclose(found, [2.0, np.inf, np.nan, 2.0], rtol=1e-12)


def test_error_of_the_linear_denoiser_is_the_posterior_variance_of_a_gaussian():
    """1 / (1 / variance + SNR), by adding precisions."""
    schedule = linear(100)
    expected = 1 / (1 / 0.3 + schedule.alpha_bar[1:] / schedule.one_minus_alpha_bar[1:])
    found = linear_denoiser_mse(schedule, 0.3)
    assert found[0] == 0
    np.testing.assert_allclose(found[1:], expected, rtol=1e-12)
