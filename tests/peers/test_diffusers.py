"""Our tables, steps and chains beside those of diffusers, an independent peer whose tables are float32.

diffusers counts steps from 0: its t is our t - 1. It forms 1 - alpha_bar and beta by subtraction in float32, which
costs 2^-24 over what is left; every tolerance below says so. Arrays are (N, C): channels second there, last here.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from core.forward import posterior
from core.oracles import GaussianMixture, optimal_output
from core.reverse import reverse_process
from core.samplers import ancestral_step, ddim_step, dpm_solver_step
from core.schedules import cosine, linear, sigmoid

pytestmark = pytest.mark.torch

HALF_ULP = 2.0**-24
SCHEDULES = {"linear": linear, "squaredcos_cap_v2": cosine}
PREDICTIONS = {"epsilon": "epsilon", "sample": "x_0", "v_prediction": "v"}
STEPS = np.array([1, 2, 3, 10, 100, 500, 900, 998, 999])
"""Not T of the cosine, where 1 - fl(0.999) alone is 1e-5 off in float32: the last steps' tolerances would be void."""


def table_errors(schedule, t):
    """Relative errors (of 1 - alpha_bar, of beta and beta tilde, of alpha_bar) in tables held and formed in float32.

    A running product of t roundings makes alpha_bar t / 2 half ulps off at worst, about their root as a rule.
    """
    product = (4 + np.sqrt(t)) * HALF_ULP
    of_noise = product / schedule.one_minus_alpha_bar[t]
    before = np.where(t > 1, product / np.where(t > 1, schedule.one_minus_alpha_bar[t - 1], 1.0), 0.0)
    return of_noise, of_noise + before + 4 * HALF_ULP / schedule.beta[t], product


def arrays(seed, count, shape=(2, 3)):
    return np.random.default_rng(seed).normal(size=(count, *shape))


@pytest.mark.parametrize("name", SCHEDULES)
def test_tables(name):
    """alpha_bar, beta and add_noise of the named schedules, at every step."""
    schedule, peer = SCHEDULES[name](1000), DDPMScheduler(beta_schedule=name)
    t = np.arange(1, 1001)
    # 1 - fl(0.999), the clipped last beta of the cosine, is 6e-5 off in float32; before that roundings accumulate.
    tolerance = np.where(schedule.beta[1:] > 0.9, 1e-4, (4 + np.sqrt(t)) * HALF_ULP / schedule.alpha[1:])
    error = np.abs(peer.alphas_cumprod.numpy() / schedule.alpha_bar[1:] - 1)
    assert np.all(error < tolerance)
    np.testing.assert_allclose(peer.betas.numpy(), schedule.beta[1:], rtol=4 * HALF_ULP)
    process = reverse_process(schedule)
    x_0, epsilon = arrays(0, 2, (len(STEPS), 4))
    noised = peer.add_noise(torch.tensor(x_0), torch.tensor(epsilon), torch.tensor(STEPS - 1)).numpy()
    of_noise, _, product = table_errors(schedule, STEPS)
    expected = process.noised(x_0, epsilon, STEPS)
    bound = product[:, None] * np.abs(x_0) + of_noise[:, None] * process.tables.noise[STEPS, None] * np.abs(epsilon)
    assert np.all(np.abs(noised - expected) < bound + 1e-7)


def test_sigmoid_betas_are_another_schedule():
    """diffusers' "sigmoid" is a sigmoid in beta (GeoDiff's), ours one in alpha_bar: the name alone says nothing."""
    peer = DDPMScheduler(beta_schedule="sigmoid").betas.numpy()
    assert np.max(np.abs(peer - sigmoid(1000).beta[1:])) > 0.1


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large", "learned_range"])
@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_ancestral_step(name, prediction_type, variance_type):
    """x_0_hat and x_{t-1} of one step with the same noise, for every prediction and variance we share."""
    schedule = SCHEDULES[name](1000)
    variance = {"fixed_small": "beta_tilde", "fixed_large": "beta", "learned_range": "learned_range"}[variance_type]
    process = reverse_process(schedule, PREDICTIONS[prediction_type], variance)
    peer = DDPMScheduler(
        beta_schedule=name, prediction_type=prediction_type, variance_type=variance_type, clip_sample=False
    )
    for t in STEPS:
        x_t, prediction = arrays(int(t), 2)
        value = arrays(int(t) + 1, 1)[0] if process.learns_variance else None
        output = prediction if value is None else np.concatenate([prediction, value], axis=-1)
        noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        steps = np.full(len(x_t), t)
        expected, expected_hat = ancestral_step(process, x_t, output, steps, noise.numpy())
        peer_result = peer.step(
            torch.tensor(output),
            int(t) - 1,
            torch.tensor(x_t),
            generator=torch.Generator().manual_seed(7),
        )
        of_noise, of_beta, of_signal = (float(error[0]) for error in table_errors(schedule, steps))
        # x_0_hat: alpha_bar's error on all of it, that of 1 - alpha_bar on the share of the noise.
        on_output = abs(process.tables.x_0_on_output[t])
        made_of = np.abs(process.tables.x_0_on_x_t[t] * x_t) + on_output * np.abs(prediction)
        of_hat = of_signal * made_of + (of_noise * on_output * np.abs(prediction) if prediction_type != "sample" else 0)
        assert np.all(np.abs(peer_result.pred_original_sample.numpy() - expected_hat) < of_hat + 1e-12)
        q = posterior(schedule, t)
        std = np.exp(0.5 * np.asarray(process.log_variance(value, steps, x_t)))
        size = q.on_x_0 * np.abs(expected_hat) + q.on_x_t * np.abs(x_t) + std * np.abs(noise.numpy())
        # A learned variance leaves [beta tilde, beta] here, where the log's error is multiplied by |value|.
        of_step = 2 * of_beta * (1 if value is None else 1 + np.abs(value)) * size + q.on_x_0 * of_hat
        assert np.all(np.abs(peer_result.prev_sample.numpy() - expected) < of_step)


def gaussian_output(process, x, t):
    """The exact noise prediction on N(0.4, 0.6^2): a smooth network that both chains call."""
    data = GaussianMixture([1.0], np.full((1, x.shape[1]), 0.4), [0.36])
    return optimal_output(process, data, x, np.full(len(x), t))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", SCHEDULES)
def test_ddim_chain(name, eta):
    """Fifty steps from the same x_T with the same noise: x_0 agrees to what fifty float32 tables lose."""
    process = reverse_process(SCHEDULES[name](1000).respaced("ddim50"))
    peer = DDIMScheduler(beta_schedule=name, clip_sample=False)
    peer.set_timesteps(50)
    np.testing.assert_array_equal(peer.timesteps.numpy()[::-1] + 1, process.schedule.steps[1:])
    x, noises = arrays(1, 1)[0], arrays(2, 51)
    theirs = torch.tensor(x)
    for t in range(50, 0, -1):
        steps = np.full(len(x), t)
        noise = noises[t]
        output = torch.tensor(gaussian_output(process, theirs.numpy(), t))
        timestep = int(process.schedule.steps[t]) - 1
        theirs = peer.step(output, timestep, theirs, eta=eta, variance_noise=torch.tensor(noise)).prev_sample
        x, _ = ddim_step(process, x, gaussian_output(process, x, t), steps, noise, eta=eta)
    # The last step, from t = 1, divides float32's 6e-8 by 1 - alpha_bar_1, 1e-4 (linear) and 4e-5 (cosine), of a noise
    # of 1e-2; the forty-nine before lose 6e-8 / 1e-2 each of values near 1.
    np.testing.assert_allclose(theirs.numpy(), x, atol=5e-4)
    assert np.max(np.abs(x)) < 4


@pytest.mark.parametrize("num_steps", [10, 20, 50])
def test_dpm_solver_chain(num_steps):
    """DPM-Solver++(2M), midpoint, first order at both ends: the same chain in float32."""
    peer = DPMSolverMultistepScheduler(beta_schedule="linear", final_sigmas_type="zero")
    peer.set_timesteps(num_steps)
    process = reverse_process(linear(1000).respaced(peer.timesteps.numpy()[::-1] + 1))
    x = arrays(3, 1)[0]
    previous = np.zeros_like(x)
    theirs = torch.tensor(x, dtype=torch.float32)
    for t in range(num_steps, 0, -1):
        output = torch.tensor(gaussian_output(process, theirs.double().numpy(), t), dtype=torch.float32)
        theirs = peer.step(output, int(process.schedule.steps[t]) - 1, theirs).prev_sample
        steps = np.full(len(x), t)
        x, previous = dpm_solver_step(process, x, gaussian_output(process, x, t), steps, None, previous)
    # Roundings of 6e-8 in x and in the output, the first divided by signal = 6e-3 at t = T in x_0_hat, per step.
    np.testing.assert_allclose(theirs.numpy(), x, atol=5e-5)
