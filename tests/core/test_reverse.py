"""Predictions and reverse variances: round trips, and the two ends of a learned range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.forward import marginal, posterior
from core.predictions import PREDICTIONS, prediction_tables
from core.reverse import reverse_process
from core.schedules import from_betas, linear
from core.variances import VARIANCES, as_variance, log_beta, log_beta_tilde
from tests.strategies import predictions, schedules

EPS = 2.0**-52
seeds = st.integers(0, 2**32 - 1)


def batch_at_every_step(schedule, seed, shape=(3,)):
    """x_0, epsilon and steps, one example for every t = 1..T."""
    rng = np.random.default_rng(seed)
    size = (schedule.num_steps, *shape)
    return rng.uniform(-1, 1, size), rng.normal(size=size), np.arange(1, schedule.num_steps + 1)


@given(schedules(), predictions, seeds)
def test_predictions_round_trip(schedule, prediction, seed):
    """From (x_0, epsilon) to the target, and with x_t back to x_0 and to epsilon."""
    x_0, epsilon, t = batch_at_every_step(schedule, seed)
    process = reverse_process(schedule, prediction)
    x_t, target = process.noised(x_0, epsilon, t), process.target(x_0, epsilon, t)
    p = prediction_tables(schedule, prediction)
    rows = t[:, None]
    # Rounding of x_t and of the target, carried by the coefficients of the way back.
    of_x_0 = np.abs(p.x_0_on_x_t[rows] * x_t) + np.abs(p.x_0_on_output[rows] * target)
    of_epsilon = np.abs(p.epsilon_on_x_t[rows] * x_t) + np.abs(p.epsilon_on_output[rows] * target)
    noise_share = np.abs(p.x_0_on_x_t[rows]) + np.abs(p.x_0_on_output[rows])
    assert np.all(np.abs(process.x_0_hat(x_t, target, t) - x_0) <= 64 * EPS * (of_x_0 + 8 * noise_share))
    noise_share = np.abs(p.epsilon_on_x_t[rows]) + np.abs(p.epsilon_on_output[rows])
    assert np.all(np.abs(process.epsilon_hat(x_t, target, t) - epsilon) <= 64 * EPS * (of_epsilon + 8 * noise_share))


@given(schedules(), predictions, predictions, seeds)
def test_any_prediction_says_the_same(schedule, one, other, seed):
    """An output of one kind, turned into (x_0, epsilon) and then into another kind, stands for the same x_0."""
    rng = np.random.default_rng(seed)
    x_t, output = rng.normal(size=(2, schedule.num_steps, 3))
    t = np.arange(1, schedule.num_steps + 1)
    a, b = reverse_process(schedule, one), reverse_process(schedule, other)
    x_0_hat, epsilon_hat = a.x_0_hat(x_t, output, t), a.epsilon_hat(x_t, output, t)
    # (x_0_hat, epsilon_hat) make up x_t again ...
    size = (
        np.abs(a.tables.signal[t][:, None] * x_0_hat) + np.abs(a.tables.noise[t][:, None] * epsilon_hat) + np.abs(x_t)
    )
    inner = np.abs(a.tables.signal[t] * a.tables.x_0_on_x_t[t]) + np.abs(a.tables.noise[t] * a.tables.epsilon_on_x_t[t])
    size = size + inner[:, None] * np.abs(x_t)
    assert np.all(np.abs(a.noised(x_0_hat, epsilon_hat, t) - x_t) <= 32 * EPS * size)
    # ... and the other prediction of them gives the same x_0.
    translated = b.target(x_0_hat, epsilon_hat, t)
    # Both were rounded in proportion to the terms they are made of, which may be far larger than they are.
    rows = t[:, None]
    of_x_0 = np.abs(a.tables.x_0_on_x_t[rows] * x_t) + np.abs(a.tables.x_0_on_output[rows] * output)
    of_epsilon = np.abs(a.tables.epsilon_on_x_t[rows] * x_t) + np.abs(a.tables.epsilon_on_output[rows] * output)
    size = np.abs(b.tables.x_0_on_x_t[rows] * x_t) + np.abs(b.tables.x_0_on_output[rows]) * (
        np.abs(b.tables.target_on_x_0[rows]) * of_x_0 + np.abs(b.tables.target_on_epsilon[rows]) * of_epsilon
    )
    size = size + of_x_0 + 8 / a.tables.signal[rows] * np.abs(x_t)
    assert np.all(np.abs(b.x_0_hat(x_t, translated, t) - x_0_hat) <= 64 * EPS * size)


@given(schedules(), predictions, seeds)
def test_errors_convert_by_one_factor(schedule, prediction, seed):
    """target - output, times the table, is the error of x_0, of epsilon, and of the posterior mean."""
    x_0, epsilon, t = batch_at_every_step(schedule, seed)
    process = reverse_process(schedule, prediction)
    tables, rows = process.tables, t[:, None]
    # From the definition of the prediction: with x_t fixed, d x_0 = -noise/signal d epsilon.
    q, m = posterior(schedule, t), marginal(schedule, t)
    per_x_0 = {
        "epsilon": -m.on_x_0 / m.std,
        "x_0": np.ones(len(t)),
        "mean": q.on_x_0,
        "v": -(m.std + m.on_x_0**2 / m.std),
        "offset": q.on_x_0 / np.sqrt(schedule.beta[t]),
    }[prediction]
    np.testing.assert_allclose(tables.x_0_on_output[t], 1 / per_x_0, rtol=1e-14)
    np.testing.assert_allclose(tables.epsilon_on_output[t], -m.on_x_0 / m.std / per_x_0, rtol=1e-14)
    np.testing.assert_allclose(tables.mean_error_on_output_error[t], q.on_x_0 / per_x_0, rtol=1e-14)
    if prediction == "mean":
        x_t = process.noised(x_0, epsilon, t)
        mean = q.on_x_0[:, None] * x_0 + q.on_x_t[:, None] * x_t
        assert np.all(np.abs(process.target(x_0, epsilon, t) - mean) < 16 * EPS * (1 + np.abs(x_t) + np.abs(x_0)))
        np.testing.assert_array_equal(tables.target_on_x_0[1], 1)
    assert rows.shape == (schedule.num_steps, 1)


@given(schedules(), predictions, seeds)
def test_model_mean_of_the_truth_is_the_posterior_mean(schedule, prediction, seed):
    """mean(x_t, x_0) is that of q(x_{t-1} | x_t, x_0), and epsilon_of inverts noised."""
    x_0, epsilon, t = batch_at_every_step(schedule, seed)
    process = reverse_process(schedule, prediction)
    x_t, q = process.noised(x_0, epsilon, t), posterior(schedule, t)
    np.testing.assert_array_equal(process.mean(x_t, x_0, t), q.on_x_0[:, None] * x_0 + q.on_x_t[:, None] * x_t)
    noise = process.tables.noise[t][:, None]
    assert np.all(np.abs(process.epsilon_of(x_t, x_0, t) - epsilon) <= 8 * EPS * (np.abs(x_t) + 1) / noise)


@given(schedules(), st.sampled_from(["next", "beta"]), predictions)
def test_learned_range_ends_at_the_fixed_variances(schedule, first_variance, prediction):
    """value = -1 is beta tilde (at t = 1 the chosen first variance), value = 1 is beta."""
    t = np.arange(1, schedule.num_steps + 1)
    ones = np.ones((schedule.num_steps, 2))
    learned = reverse_process(schedule, prediction, "learned_range", first_variance=first_variance)
    tilde = reverse_process(schedule, prediction, "beta_tilde", first_variance=first_variance)
    beta = reverse_process(schedule, prediction, "beta", first_variance="beta")
    np.testing.assert_array_equal(learned.log_variance(-ones, t, ones)[:, :1], tilde.log_variance(None, t, ones))
    # floor + (ceiling - floor), both up to 14 in size
    np.testing.assert_allclose(learned.log_variance(ones, t, ones)[:, :1], beta.log_variance(None, t, ones), atol=1e-14)
    half = learned.log_variance(0 * ones, t, ones)[:, :1]
    middle = 0.5 * (tilde.log_variance(None, t, ones) + beta.log_variance(None, t, ones))
    np.testing.assert_allclose(half, middle, atol=1e-14)


@given(schedules(), st.floats(-3, 3))
def test_learned_diagonal_adds_to_beta_tilde(schedule, value):
    t = np.arange(1, schedule.num_steps + 1)
    values = np.full((schedule.num_steps, 2), value)
    learned = reverse_process(schedule, variance="learned_diagonal")
    fixed = reverse_process(schedule, variance="beta_tilde").log_variance(None, t, values)
    np.testing.assert_array_equal(learned.log_variance(values, t, values), fixed + values)


@given(schedules(min_steps=2))
def test_variance_tables(schedule):
    """beta tilde <= beta at every step; at t = 1 it is the next step's, or beta_1."""
    tilde, beta = log_beta_tilde(schedule), log_beta(schedule)
    np.testing.assert_allclose(np.exp(beta[1:]), schedule.beta[1:], rtol=1e-14)
    np.testing.assert_allclose(
        np.exp(tilde[2:]), posterior(schedule, np.arange(2, schedule.num_steps + 1)).variance, rtol=4e-15
    )
    assert np.all(tilde[2:] <= beta[2:] + 1e-15)
    assert tilde[1] == tilde[2]
    assert log_beta_tilde(schedule, "beta")[1] == beta[1]


@pytest.mark.parametrize("first_variance", ["next", "beta"])
@pytest.mark.parametrize("variance", ["beta_tilde", "beta"])
def test_every_fixed_variance_takes_the_first_one_that_is_chosen(variance, first_variance):
    """By hand, in fractions: with "next" the fixed large of Ho et al. (2020) is beta tilde_2, beta_2, beta_3."""
    beta_1, beta_2, beta_3 = 0.1, 0.2, 0.5
    tilde_2, tilde_3 = 0.2 * 0.1 / (1 - 0.9 * 0.8), 0.5 * (1 - 0.9 * 0.8) / (1 - 0.9 * 0.8 * 0.5)
    later = {"beta_tilde": [tilde_2, tilde_3], "beta": [beta_2, beta_3]}[variance]
    process = reverse_process(from_betas([beta_1, beta_2, beta_3]), variance=variance, first_variance=first_variance)
    expected = [{"next": tilde_2, "beta": beta_1}[first_variance], *later]
    np.testing.assert_allclose(np.exp(process.tables.log_variance_floor[1:]), expected, rtol=1e-14)
    assert np.all(process.tables.log_variance_span[1:] == 0)


def test_a_chain_of_one_step_takes_beta():
    schedule = linear(1)
    assert log_beta_tilde(schedule)[1] == np.log(schedule.beta[1])


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_tables_have_nan_at_step_zero_and_are_finite_after(prediction, variance):
    """Step 0 is the data: a gather that goes there shows. `signal` and `noise` alone are defined there, as 1 and 0."""
    tables = vars(reverse_process(linear(7), prediction, variance, levels=5).tables)
    for name, table in tables.items():
        assert table.shape == (8,)
        assert np.all(np.isfinite(table[1:])), name
        if name not in ("signal", "noise", "multistep_blend", "log_variance_span"):
            assert np.isnan(table[0]), name
    assert (tables["signal"][0], tables["noise"][0]) == (1, 0)


@pytest.mark.parametrize("variance", VARIANCES)
def test_split(variance):
    process = reverse_process(linear(4), variance=variance)
    output = np.arange(24.0).reshape(2, 3, 4)
    prediction, value = process.split(output)
    assert process.learns_variance == (variance in ("learned_range", "learned_diagonal"))
    if process.learns_variance:
        np.testing.assert_array_equal(np.concatenate([prediction, value], axis=-1), output)
        assert prediction.shape == (2, 3, 2)
    else:
        assert value is None
        assert prediction is output


def test_cast_keeps_everything_but_the_dtype():
    process = reverse_process(linear(4), "v", "beta", levels=9)
    cast = process.cast(lambda table: table.astype(np.float32))
    assert {table.dtype for table in vars(cast.tables).values()} == {np.dtype(np.float32)}
    assert (cast.prediction.name, cast.variance.name, cast.levels, cast.num_steps) == ("v", "beta", 9, 4)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: reverse_process(linear(3), "eps"), "unknown prediction 'eps'; known: epsilon, x_0, mean, v, offset"),
        (
            lambda: reverse_process(linear(3), variance="small"),
            "unknown variance 'small'; known: beta_tilde, beta, learned_range, learned_diagonal",
        ),
        (
            lambda: reverse_process(linear(3), first_variance="clip"),
            "unknown first_variance 'clip'; known: next, beta",
        ),
        (
            lambda: reverse_process(linear(3), variance="beta", first_variance="clip"),
            "unknown first_variance 'clip'; known: next, beta",
        ),
        (
            lambda: reverse_process(linear(3), levels=1),
            "discrete data has at least 2 levels, got 1; continuous data has none (None)",
        ),
        (
            lambda: as_variance(""),
            "unknown variance ''; known: beta_tilde, beta, learned_range, learned_diagonal",
        ),
    ],
)
def test_unknown_names(act, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        act()
    assert str(caught.value) == message


@given(schedules(), seeds)
def test_an_offset_is_the_mean_less_the_scaled_x_t(schedule, seed):
    """mean of q(x_{t-1} | x_t, x_0) = sqrt(1 - beta) x_t + sqrt(beta) offset (Sohl-Dickstein et al. 2015)."""
    process = reverse_process(schedule, "offset")
    t = np.arange(1, schedule.num_steps + 1)
    x_0, epsilon = np.random.default_rng(seed).normal(size=(2, schedule.num_steps, 2))
    x_t = process.noised(x_0, epsilon, t)
    alpha, beta = schedule.alpha[t, None], schedule.beta[t, None]
    expected = process.mean(x_t, x_0, t)
    got = np.sqrt(alpha) * x_t + np.sqrt(beta) * process.target(x_0, epsilon, t)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13 * np.abs(x_t).max())
