"""The probability flow against closed forms: affine flows of Gaussian data, mixtures, DDIM's limit, exact decoders."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from core.oracles import GaussianMixture
from core.probability_flow import (
    ProbabilityFlow,
    basis_probes,
    decoder_end,
    density_end,
    flow_log_density,
    flow_terms,
    matched_step,
    refined,
    uniform_end,
    with_exact_divergence,
    with_probes,
)
from core.reverse import reverse_process
from core.samplers import ddim_step
from core.schedules import cosine, from_log_snr, linear
from tests.oracle_probability_flow import MIXTURES, drawn, oracle_field
from tests.strategies import predictions, schedules

LONG = from_log_snr(np.linspace(9, -30, 200))  # the noise at T is normal to 1e-7


def solve(field, schedule, x, steps, num_steps=128):
    return flow_log_density(field, x, schedule.log_snr[steps], schedule.log_snr[-1], num_steps)[0]


@pytest.mark.parametrize("oracle", MIXTURES, ids=["1-D", "2-D"])
@pytest.mark.parametrize("schedule", [cosine(1000), LONG], ids=str)
def test_log_likelihood_of_a_mixture(oracle, schedule):
    """Within 1e-3 nats per dim of the true density of x_1, at every point."""
    end = density_end(schedule, drawn(oracle, 300))
    truth = oracle.marginal(schedule, 1).log_density(end.x)
    np.testing.assert_allclose(solve(oracle_field(oracle), schedule, end.x, 1), truth, atol=1e-3 * oracle.dims)


@pytest.mark.parametrize("oracle", MIXTURES, ids=["1-D", "2-D"])
def test_log_likelihood_of_a_mixture_on_the_linear_schedule(oracle):
    """Its last step keeps 4e-5 of the signal, worth up to 1e-2 nats at a point; on average 1e-3 nats per dim holds."""
    schedule = linear(1000)
    end = density_end(schedule, drawn(oracle, 300))
    off = solve(oracle_field(oracle), schedule, end.x, 1) - oracle.marginal(schedule, 1).log_density(end.x)
    assert np.abs(off).max() < 1e-2 * oracle.dims
    assert abs(off.mean()) < 1e-3 * oracle.dims


@pytest.mark.parametrize("schedule", [linear(1000), linear(50), cosine(100)], ids=str)
def test_flow_of_gaussian_data_is_affine(schedule):
    """x_T = m_T + (x_1 - m_1) s_T / s_1, so log p_1(x_1) = log N(x_T; 0, 1) + log(s_T / s_1): exact for any T."""
    mean, std = 0.3, 0.5
    oracle = GaussianMixture([1.0], [[mean]], [std**2])
    first, last = oracle.marginal(schedule, 1), oracle.marginal(schedule, schedule.num_steps)
    ratio = math.sqrt(last.variances[0, 0] / first.variances[0, 0])
    x = np.linspace(-2, 2, 21)[:, None]
    x_end = last.means[0] + (x - first.means[0]) * ratio
    truth = -0.5 * (x_end[:, 0] ** 2 + math.log(2 * math.pi)) + math.log(ratio)
    errors = [np.abs(solve(oracle_field(oracle), schedule, x, 1, n) - truth).max() for n in (64, 128)]
    assert errors[1] < 1e-6
    assert errors[0] / errors[1] > 12  # of fourth order: 16, or a little more while steps are still long


@given(schedules(min_steps=2), predictions, st.integers(0, 2**32 - 1))
def test_right_hand_side_at_whole_steps(schedule, prediction, seed):
    """Whatever is predicted, (sigma^2 x - sigma epsilon_hat) / 2 at the steps of the table, told those steps."""
    process, flow = reverse_process(schedule, prediction), ProbabilityFlow(reverse_process(schedule, prediction))
    rng = np.random.default_rng(seed)
    x_0, epsilon = rng.standard_normal((2, 1, 3))
    for t in range(1, schedule.num_steps + 1):
        at, steps = flow.coefficients(schedule.log_snr[t]), np.array([t])
        x_t = process.noised(x_0, epsilon, steps)
        noise_variance = schedule.one_minus_alpha_bar[t]
        expected = 0.5 * (noise_variance * x_t - math.sqrt(noise_variance) * epsilon)
        dx, _ = flow_terms(at, x_t, process.target(x_0, epsilon, steps), np.ones((1, 1, 3)), np.ones((1, 1)))
        # A predicted mean is divided by its share of x_0, which is what the scale says of rounding.
        scale = 1 + abs(at.on_output)
        np.testing.assert_allclose(dx, expected, atol=1e-12 * scale)
        assert at.network_t == pytest.approx(schedule.steps[t], abs=1e-9 * schedule.steps[-1])


@given(predictions, st.floats(-15, 9), st.integers(0, 2**32 - 1))
def test_flow_is_the_limit_of_ddim(prediction, log_snr, seed):
    """A deterministic DDIM step over a small fall h in log SNR moves x by h times the right-hand side, to h^2."""
    h = 1e-5
    schedule = from_log_snr([log_snr, log_snr - h])
    process, t = reverse_process(schedule), np.array([2])
    x, epsilon_hat = np.random.default_rng(seed).standard_normal((2, 1, 4))
    after, x_0_hat = ddim_step(process, x, epsilon_hat, t, 0 * x)
    output = {"epsilon": epsilon_hat, "x_0": x_0_hat}.get(prediction)
    if output is None:
        output = process_target(schedule, prediction, x_0_hat, epsilon_hat)
    at = ProbabilityFlow(reverse_process(schedule, prediction)).coefficients(schedule.log_snr[2])
    dx, _ = flow_terms(at, x, output, np.zeros((0, 1, 4)), np.zeros((0, 1)))
    scale = 1 + np.abs(x_0_hat).max()
    np.testing.assert_allclose((after - x) / h, dx, atol=1e-4 * scale)


def process_target(schedule, prediction, x_0, epsilon):
    return reverse_process(schedule, prediction).target(x_0, epsilon, np.array([2]))


@given(schedules(min_steps=2), st.floats(0, 1), st.floats(0, 1))
def test_the_step_told_rises_as_the_log_snr_falls(schedule, a, b):
    """Monotone, and within the steps of the network's own chain."""
    high, low = schedule.log_snr[1], schedule.log_snr[-1]
    flow = ProbabilityFlow(reverse_process(schedule))
    first, second = (
        flow.coefficients(low + (high - low) * u if u < 1 else high).network_t for u in (max(a, b), min(a, b))
    )
    assert schedule.steps[1] <= first + 1e-9
    assert first <= second + 1e-9
    assert second <= schedule.steps[-1] + 1e-9


def test_the_flow_stays_within_the_noise_that_was_trained():
    schedule = linear(100)
    flow = ProbabilityFlow(reverse_process(schedule))
    with pytest.raises(ValueError, match="the flow runs between log SNRs"):
        flow.coefficients(schedule.log_snr[1] + 1e-6)
    with pytest.raises(ValueError, match="two steps or more, got a schedule of 1"):
        ProbabilityFlow(reverse_process(linear(1)))


def test_all_rademacher_probes_together_give_the_divergence():
    """The mean over all 2^D sign vectors is the trace: E[v v^T] = I, exactly."""
    jacobian = np.random.default_rng(0).standard_normal((2, 5, 5))

    def field(x, log_snr, probes):
        return x, np.einsum("pnd,nde,pne->pn", probes, jacobian, probes)

    signs = np.array(list(product([-1.0, 1.0], repeat=5)))
    probes = np.broadcast_to(signs[:, None], (32, 2, 5))
    x, trace = np.zeros((2, 5)), np.trace(jacobian, axis1=1, axis2=2)
    np.testing.assert_allclose(with_probes(field, probes)(x, 0.0)[1].mean(axis=0), trace, atol=1e-14)
    np.testing.assert_allclose(with_exact_divergence(field)(x, 0.0)[1], trace[None], atol=1e-14)
    assert basis_probes((2, 2, 1)).shape == (2, 2, 2, 1)


def test_each_example_is_refined_by_itself():
    """An error of 2^-k nats by example k, falling 16 times a doubling: steps differ, neighbours do not matter."""
    scale = 16.0 ** -np.arange(4)

    def run(rows, num_steps):
        return np.stack([7 + scale[rows] * num_steps**-4.0] * 2)

    solution = refined(run, 4, 1e-6, 4, 64)
    assert list(solution.steps) == [64, 32, 16, 8]
    np.testing.assert_allclose(solution.log_density, 7, atol=1e-6)
    assert np.all(solution.change <= 1e-6)
    assert solution.evaluations == 4 * (4 * 4 + 4 * 8 + 3 * 16 + 2 * 32 + 64)
    alone = refined(lambda rows, n: run(rows + 2, n), 1, 1e-6, 4, 64)
    assert alone.log_density[0, 0] == solution.log_density[0, 2]


def test_what_does_not_settle_is_said():
    solution = refined(lambda rows, n: np.array([[n, 0.0]])[:, rows], 2, 1e-3, 2, 16)
    assert list(solution.change) == [8, 0]
    diverged = refined(lambda rows, n: np.full((1, 1), np.nan), 1, 1e-3, 2, 8)
    assert np.isnan(diverged.change[0])
    assert diverged.steps[0] == 8
    with pytest.raises(ValueError, match="max_steps is at least twice first_steps >= 1, got 8 and 8"):
        refined(lambda rows, n: np.zeros((1, 1)), 1, 1e-3, 8, 8)


@pytest.mark.parametrize("levels", [2, 5, 17])
def test_dequantised_masses_are_those_of_the_bins(levels):
    """exp(-nats) averaged over u is the mass of the bin, whatever K: the offset is log of its width.

    The density is that of the flow's end divided by sqrt(alpha_bar_1): the mixture, blurred.
    """
    schedule, width = LONG, 2 / (levels - 1)
    oracle = GaussianMixture([0.4, 0.6], [[-0.6], [0.5]], [0.3, 0.1])
    nodes, weights = np.polynomial.legendre.leggauss(12)
    x_0 = np.repeat(np.linspace(-1, 1, levels), 12)[:, None]
    end = uniform_end(schedule, x_0, np.tile(nodes / 2 + 0.5, levels)[:, None], levels)
    nats = end.nats - solve(oracle_field(oracle), schedule, end.x, 1, 64)
    mass = np.exp(-nats).reshape(levels, 12) @ weights / 2
    edges = -1 + width * (np.arange(levels + 1) - 0.5)
    blur = np.exp(-schedule.log_snr[1])
    stds = np.sqrt(oracle.variances[:, 0] + blur)
    cdf = sum(w * norm.cdf(edges, m[0], s) for w, m, s in zip(oracle.weights, oracle.means, stds, strict=True))
    np.testing.assert_allclose(mass, np.diff(cdf), rtol=1e-4)


def test_bits_of_dequantised_levels_are_at_least_their_entropy():
    """Four levels with unequal chances, as a mixture of four spikes: E[nats] >= entropy, at any step of the end.

    Before `matched_step` the spikes are far narrower than the bins, and the bound is loose by nats.
    """
    chances = np.array([0.5, 0.25, 0.15, 0.1])
    entropy = -float(chances @ np.log(chances))
    schedule, level_values = LONG, np.linspace(-1, 1, 4)[:, None]
    oracle = GaussianMixture(chances, level_values, np.full(4, 1e-4))
    u = (np.arange(40) + 0.5) / 40
    excess = []
    for step in (20, matched_step(schedule, 4)):
        end = uniform_end(schedule, np.repeat(level_values, 40, axis=0), np.tile(u, 4)[:, None], 4, step)
        nats = end.nats - solve(oracle_field(oracle), schedule, end.x, step)
        excess.append(float(chances @ nats.reshape(4, 40).mean(axis=1)) - entropy)
    early, matched = excess
    assert early > 1
    assert 0 < matched < 0.1


def test_matched_step_is_the_first_as_wide_as_a_bin():
    schedule = linear(1000)
    for levels in (2, 17, 256):
        step = matched_step(schedule, levels)
        spread = (2 / (levels - 1)) ** 2 / 12
        blur = np.exp(-schedule.log_snr)
        assert blur[step] >= spread
        assert step == 1 or blur[step - 1] < spread
    with pytest.raises(ValueError, match="never grows as wide as a bin of 2 levels"):
        matched_step(linear(10, 1e-6, 1e-5), 2)


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.3), (-1.0, 2.0)])
def test_an_exact_decoder_gives_the_likelihood_for_every_draw(mean, std):
    """log p(x_0 | x_1) + log p(x_1) - log q(x_1 | x_0) = log p(x_0) by Bayes' rule, with no average over epsilon."""
    schedule = LONG
    oracle = GaussianMixture([1.0], [[mean]], [std**2])
    x_0, epsilon = (part.reshape(-1, 1) for part in np.meshgrid(mean + std * np.linspace(-3, 3, 7), [-3.0, 0.0, 0.5]))
    share, noise = schedule.alpha_bar[1], schedule.one_minus_alpha_bar[1]
    x_1 = math.sqrt(share) * x_0 + math.sqrt(noise) * epsilon
    precision = 1 / std**2 + share / noise
    center = (mean / std**2 + math.sqrt(share) * x_1 / noise) / precision
    decoder = 0.5 * (math.log(2 * math.pi / precision) + precision * (x_0 - center) ** 2)
    end = decoder_end(schedule, x_0, epsilon, decoder[:, 0])
    nats = end.nats - solve(oracle_field(oracle), schedule, end.x, 1)
    np.testing.assert_allclose(nats, -oracle.log_density(x_0), atol=1e-4)
