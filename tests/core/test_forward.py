"""Identities of the forward process, and the promises of schedules."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.forward import marginal, posterior, transition
from core.schedules import from_betas, linear
from tests.strategies import pairs, schedules


@given(schedules())
def test_marginal_is_composition_of_transitions(schedule):
    """q(x_t | x_0) = q(x_t | x_{t-1}) o ... o q(x_1 | x_0): means multiply, variances are carried along."""
    on_x_0, variance = 1.0, 0.0
    for t in range(1, schedule.num_steps + 1):
        step = transition(schedule, t)
        on_x_0 *= step.on_x_s
        variance = step.on_x_s**2 * variance + step.variance
        q = marginal(schedule, t)
        # A dozen steps, each a few roundings of 1e-16 relative; all terms positive.
        assert q.on_x_0 == pytest.approx(on_x_0, rel=1e-13)
        assert q.variance == pytest.approx(variance, rel=1e-13)
        assert step.variance == pytest.approx(schedule.beta[t], rel=1e-13)


@given(schedules(min_steps=2), st.data())
def test_transitions_compose(schedule, data):
    """q(x_t | x_r) = q(x_t | x_s) o q(x_s | x_r) for r < s < t, and from r = 0 it is the marginal."""
    s, t = data.draw(pairs(schedule).filter(lambda pair: pair[0] > 0))
    r = data.draw(st.integers(0, s - 1))
    first, second, both = transition(schedule, r, s), transition(schedule, s, t), transition(schedule, r, t)
    assert both.on_x_s == pytest.approx(first.on_x_s * second.on_x_s, rel=1e-14)
    assert both.variance == pytest.approx(second.on_x_s**2 * first.variance + second.variance, rel=1e-14)
    assert transition(schedule, 0, t).variance == pytest.approx(marginal(schedule, t).variance, rel=1e-14)


@given(schedules(min_steps=2), st.floats(-1, 1), st.floats(-4, 4), st.data())
def test_posterior_is_prior_times_likelihood(schedule, x_0, x_t, data):
    """q(x_s | x_t, x_0) is q(x_t | x_s) q(x_s | x_0), normalised."""
    s, t = data.draw(pairs(schedule).filter(lambda pair: pair[0] > 0))
    before, now = schedule.alpha_bar[s], schedule.alpha_bar[t]
    alpha = now / before
    # A product of Gaussians adds precisions, and precision-weighted means.
    prior, likelihood = 1 / (1 - before), alpha / (1 - alpha)
    mean = (prior * sqrt(before) * x_0 + likelihood * x_t / sqrt(alpha)) / (prior + likelihood)
    q = posterior(schedule, s, t)
    # 1 - before and 1 - alpha cancel here, not in the code: 1e-16 / 1e-6, the smallest beta, is 1e-10.
    assert q.variance == pytest.approx(1 / (prior + likelihood), rel=1e-9)
    assert q.on_x_0 * x_0 + q.on_x_t * x_t == pytest.approx(mean, rel=1e-9, abs=1e-9)
    assert q.log_variance == pytest.approx(np.log(q.variance), abs=1e-13)


@given(schedules(), st.data())
def test_posterior_averages_back_to_the_marginal(schedule, data):
    """Integrating q(x_s | x_t, x_0) over q(x_t | x_0) gives q(x_s | x_0)."""
    s, t = data.draw(pairs(schedule))
    q, now, before = posterior(schedule, s, t), marginal(schedule, t), marginal(schedule, s)
    # Sums of positive terms, each right to 1e-14.
    assert q.on_x_0 + q.on_x_t * now.on_x_0 == pytest.approx(before.on_x_0, rel=1e-13)
    assert q.variance + q.on_x_t**2 * now.variance == pytest.approx(before.variance, rel=1e-13)


@given(schedules())
def test_posterior_at_step_one_is_the_data(schedule):
    """x_0 given x_1 and x_0 is x_0, from any t and exactly."""
    q = posterior(schedule, 0, np.arange(1, schedule.num_steps + 1))
    assert np.all(q.on_x_0 == 1)
    assert np.all(q.on_x_t == 0)
    assert np.all(q.variance == 0)
    assert np.all(q.log_variance == -np.inf)


def test_marginal_at_step_zero_is_the_data():
    q = marginal(linear(10), 0)
    assert (q.on_x_0, q.variance, q.std, q.log_variance) == (1, 0, 0, -np.inf)


@pytest.mark.parametrize("of", [marginal, transition, posterior])
def test_results_are_float64_in_the_shape_of_t(of):
    t = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    for value in vars(of(linear(10), t)).values():
        assert value.shape == t.shape
        assert value.dtype == np.float64


def test_s_and_t_broadcast():
    """Steps of shapes (3, 1) and (2,) give coefficients (3, 2), equal to those taken one by one."""
    s, t = np.array([[0], [1], [2]]), np.array([5, 9])
    q = posterior(linear(10), s, t)
    for name, value in vars(q).items():
        one_by_one = [[getattr(posterior(linear(10), int(i), int(j)), name) for j in t] for i in s[:, 0]]
        np.testing.assert_array_equal(np.broadcast_to(value, (3, 2)), one_by_one)


@pytest.mark.parametrize("of", [transition, posterior])
@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        ((0,), ValueError, "steps run from 1 to 10, got 0; step 0 is the data"),
        ((11,), ValueError, "steps run from 1 to 10, got 11; step 0 is the data"),
        (([3, -1],), ValueError, "steps run from 1 to 10, got -1; step 0 is the data"),
        ((-1, 3), ValueError, "steps run from 0 to 10, got -1"),
        ((3, 3), ValueError, "s comes before t, got s = 3 and t = 3"),
        ((3.0,), ValueError, "steps are integers, got float64 values 3.0; round them first"),
        ((True,), ValueError, "steps are integers, got bool values True; round them first"),
        ((), TypeError, "give (schedule, t) or (schedule, s, t), got 0 steps"),
        ((1, 2, 3), TypeError, "give (schedule, t) or (schedule, s, t), got 3 steps"),
    ],
)
def test_bad_steps(of, steps, error, message):
    with pytest.raises(error) as caught:
        of(linear(10), *steps)
    assert str(caught.value) == message


def test_bad_marginal_step():
    with pytest.raises(ValueError, match=r"^steps run from 0 to 1, got 2$"):
        marginal(from_betas([0.5]), 2)
