"""Conditional samples against exact posteriors: one step, whole chains on Gaussian data, and where they differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.conditioning import Observation, multiplied, perturbed
from core.oracles import GaussianMixture, optimal_output
from core.reverse import reverse_process
from core.samplers import ancestral_step, reverse_kernel
from core.schedules import from_log_snr, linear
from core.variances import VARIANCES
from tests.strategies import predictions, schedules

MEAN, VARIANCE = np.array([0.4, -0.3]), np.array([0.36, 1.7])
DATA = GaussianMixture([1.0], [MEAN], [VARIANCE])
LONG = from_log_snr(np.linspace(6, -14, 60))  # x_T keeps 1e-3 of the signal


def affine(step, process, data, steps):
    """The chain of an affine step, from x_T ~ N(0, I): mean (D,) and covariance (D, D) of what it ends at, with the
    noise that the last step leaves out.
    """
    dims, t = data.dims, process.num_steps
    mean, covariance = np.zeros(dims), np.eye(dims)
    points = np.concatenate([np.zeros((1, dims)), np.eye(dims)])
    while t > steps:
        at = np.full(dims + 1, t)
        output = optimal_output(process, data, points, at)
        base = step(process, points, output, at, 0 * points)[0]
        moved = step(process, points, output, at, np.ones_like(points))[0]
        matrix, noise = (base[1:] - base[0]).T, moved[0] - base[0]
        mean = base[0] + matrix @ mean
        covariance = matrix @ covariance @ matrix.T + np.diag(noise**2)
        t -= 1
    return mean, covariance


def posterior_at(schedule, y, known, noise_variance, t):
    """Mean and variance of each coordinate of x_t given y = x_0 + noise, for DATA: a product of two normals."""
    marginal = DATA.marginal(schedule, t)
    signal, mean, variance = np.sqrt(schedule.alpha_bar[t]), marginal.means[0], marginal.variances[0]
    # x_t and y are jointly normal with covariance signal * VARIANCE.
    gain = known * signal * VARIANCE / (VARIANCE + noise_variance)
    return mean + gain * (y - MEAN), variance - gain * signal * VARIANCE


@given(schedules(), predictions, st.sampled_from([*VARIANCES]), st.floats(0, 4), st.integers(0, 2**32 - 1))
def test_one_step_is_the_product_of_two_normals(schedule, prediction, variance, noise_variance, seed):
    """Precisions add, and means weighted by them: the kernel times N(centre, variance) at every t."""
    process = reverse_process(schedule, prediction, variance)
    t = np.arange(1, schedule.num_steps + 1)
    rng = np.random.default_rng(seed)
    x_t, x_0, epsilon, noise, y = rng.normal(size=(5, schedule.num_steps, 2))
    output = process.target(x_0, epsilon, t)
    if process.learns_variance:
        output = np.concatenate([output, rng.normal(size=x_t.shape)], axis=1)
    known = np.array([True, False])
    observation = Observation(y, known, noise_variance, prior_mean=0.2, prior_variance=1.5)
    got, x_0_hat = multiplied(observation)(process, x_t, output, t, noise)
    ancestral, expected_hat = ancestral_step(process, x_t, output, t, noise)
    np.testing.assert_array_equal(x_0_hat, expected_hat)
    np.testing.assert_allclose(got[:, 1], ancestral[:, 1], rtol=1e-14)
    mean, std, _ = reverse_kernel(process, x_t, output, t)
    mean, std = (np.broadcast_to(a, x_t.shape)[:, 0] for a in (mean, std))
    signal, deviation = process.tables.signal[t - 1, None], process.tables.noise[t - 1, None]
    centre, spread = (array[:, 0] for array in observation.at(signal, deviation))
    precision = 1 / std**2 + 1 / np.maximum(spread, 1e-300)
    exact = (mean / std**2 + centre / np.maximum(spread, 1e-300)) / precision
    exact = exact + np.where(t > 1, noise[:, 0] / np.sqrt(precision), 0.0)
    size = 1 + np.abs(mean) + np.abs(centre) + std * np.abs(noise[:, 0])
    assert np.all(np.abs(got[:, 0] - exact) <= 1e-7 * size)  # sqrt(1 - gain) where gain is near 1


@pytest.mark.parametrize("noise_variance", [0.0, 0.5], ids=["inpainting", "denoising"])
@pytest.mark.parametrize("schedule", [LONG, from_log_snr([5.0, 2.0, -1.0, -5.0, -14.0])], ids=["60 steps", "5 steps"])
def test_a_chain_on_gaussian_data_ends_at_the_posterior(schedule, noise_variance):
    """With the data's own mean and variance it is exact for steps of any length, up to the signal left in x_T."""
    process = reverse_process(schedule, "epsilon", "learned_diagonal")
    known = np.array([True, False])
    y = np.array([1.1, np.nan])
    step = multiplied(Observation(y, known, noise_variance, prior_mean=MEAN, prior_variance=VARIANCE))
    for t in (schedule.num_steps - 1, schedule.num_steps // 2, 1):
        mean, covariance = affine(step, process, DATA, t)
        exact_mean, exact_variance = posterior_at(schedule, np.where(known, y, 0.0), known, noise_variance, t)
        np.testing.assert_allclose(mean, exact_mean, atol=2e-3)
        np.testing.assert_allclose(covariance, np.diag(exact_variance), atol=2e-3)
    mean, _ = affine(step, process, DATA, 0)
    exact_mean, _ = posterior_at(schedule, np.where(known, y, 0.0), known, noise_variance, 0)
    np.testing.assert_allclose(mean, exact_mean, atol=2e-3)


def test_what_the_paper_s_choice_costs():
    """r_t = r_0 at every t is not a posterior, however short the steps; the closed form is what it should have been.

    Denoising N(0, 1) from a noise of variance 0.5 at y = 1.5: the posterior is N(1, 1/3).
    """
    data = GaussianMixture([1.0], [[0.0]], [1.0])
    means, variances = [], []
    for num_steps in (200, 400):
        process = reverse_process(from_log_snr(np.linspace(8, -14, num_steps)), "epsilon", "learned_diagonal")
        observation = Observation(np.array([1.5]), True, 0.5)
        mean, covariance = affine(multiplied(observation, constant=True), process, data, 1)
        means.append(mean.item()), variances.append(covariance.item())
        right, spread = affine(multiplied(observation), process, data, 1)
        assert right.item() == pytest.approx(1.0, abs=2e-3)
        assert spread.item() == pytest.approx(1 / 3, abs=2e-3)
    assert abs(means[0] - means[1]) < 0.02  # it has converged with the steps ...
    assert abs(variances[0] - variances[1]) < 0.02
    assert abs(means[1] - 1.0) > 0.05 or abs(variances[1] - 1 / 3) > 0.05  # ... to something else


@pytest.mark.parametrize(("constant", "low", "high"), [(False, 0.40, 0.50), (True, 0.55, 0.65)])
def test_what_correlation_costs(constant, low, high):
    """Inpainting a Gaussian of correlation 0.8 at y = 1, whose other coordinate has mean 0.8 given y: the known one is
    exact, the other learns of it through the network alone, and is drawn too little; the paper's choice is closer.
    """
    values, rotation = np.linalg.eigh(np.array([[1, 0.8], [0.8, 1]]))
    along = GaussianMixture([1.0], [[0.0, 0.0]], [values])
    process = reverse_process(LONG, "epsilon", "learned_diagonal")
    step = multiplied(Observation(np.array([1.0, np.nan]), np.array([True, False])), constant=constant)
    mean = np.zeros(2)
    for t in range(LONG.num_steps, 0, -1):
        at, points = np.full(3, t), np.concatenate([np.zeros((1, 2)), np.eye(2)])
        epsilon = along.epsilon_hat(LONG, points @ rotation, at) @ rotation.T
        output = np.concatenate([epsilon, np.zeros_like(epsilon)], axis=1)
        base, _ = step(process, points, output, at, 0 * points)
        mean = base[0] + (base[1:] - base[0]).T @ mean
    assert mean[0] == pytest.approx(1.0, abs=1e-9)
    assert low < mean[1] < high


def test_a_perturbed_mean_is_the_product_to_first_order():
    """mean + Sigma grad log r against the product: at most (Sigma / variance of r)^2 of their distance, at every t."""
    num_steps = 50
    schedule = from_log_snr(np.linspace(6, -8, num_steps))
    process = reverse_process(schedule, "epsilon", "learned_diagonal")
    observation = Observation(np.array([1.1, -0.2]), True, 0.5, MEAN, VARIANCE)

    def gradient(x, signal, noise, xp):
        centre, variance = observation.at(signal, noise, xp)
        return (centre - x) / variance

    t = np.arange(2, num_steps + 1)
    x_t = np.random.default_rng(0).normal(size=(len(t), 2))
    output = optimal_output(process, DATA, x_t, t)
    observed = replace(observation, value=np.tile(observation.value, (len(t), 1)), known=True)
    product, _ = multiplied(observed)(process, x_t, output, t, 0 * x_t)
    moved, _ = perturbed(gradient)(process, x_t, output, t, 0 * x_t)
    mean, std, _ = reverse_kernel(process, x_t, output, t)
    centre, variance = observation.at(process.tables.signal[t - 1, None], process.tables.noise[t - 1, None])
    bound = std**4 / variance**2 * np.abs(centre - mean)
    assert np.all(np.abs(product - moved) <= 1.001 * bound + 1e-14)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: Observation([1.0], [1]), "known says true or false of every coordinate, got int64 values"),
        (
            lambda: Observation([np.nan]),
            "an observation is finite wherever it is known, got NaN or infinite values",
        ),
        (
            lambda: Observation([1.0], variance=-1.0),
            "the variance of an observation is at least 0 and finite, got -1.0",
        ),
        (
            lambda: Observation([1.0], prior_variance=0.0),
            "the variance of the data is positive, or inf for none, got 0.0",
        ),
    ],
)
def test_bad_observations(act, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        act()
    assert str(caught.value) == message


def test_no_prior_is_the_forward_process_s_own():
    """Prior variance inf: r_t is the density of x_t had x_0 been y, N(signal y, noise^2 + signal^2 variance)."""
    schedule = linear(20)
    signal, noise = np.sqrt(schedule.alpha_bar[3]), np.sqrt(schedule.one_minus_alpha_bar[3])
    centre, variance = Observation(np.array([0.7]), True, 0.2, prior_variance=np.inf).at(signal, noise)
    assert centre == pytest.approx(signal * 0.7, rel=1e-14)
    assert variance == pytest.approx(noise**2 + signal**2 * 0.2, rel=1e-14)
