"""The bound against closed forms: the prior term, and the whole bound of the exact denoiser of Gaussian data."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.bounds import Decomposition, bits_per_dim, decompose, prior_kl
from core.gaussian import normal_kl
from core.objectives import noised_batch, posterior_kl
from core.oracles import GaussianMixture, optimal_output
from core.reverse import reverse_process
from core.schedules import cosine, from_betas, from_log_snr, linear
from core.variances import VARIANCES
from tests.strategies import predictions, schedules

# Three-point Gauss-Hermite on each of x_0 and epsilon: exact for the quartics of them that a term contains.
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(3)
PAIRS = np.array(list(product(NODES, NODES)))
PAIR_WEIGHTS = np.outer(WEIGHTS, WEIGHTS).ravel() / (2 * math.pi)


def expected_bound(process, mean, std) -> Decomposition:
    """E[bound] of the exact denoiser on N(mean, std^2), by the code under test at nodes of (x_0, epsilon)."""
    oracle = GaussianMixture([1.0], [[mean]], [std**2])
    num_steps = process.num_steps
    t = np.repeat(np.arange(1, num_steps + 1), len(PAIRS))
    x_0 = np.tile(mean + std * PAIRS[:, :1], (num_steps, 1))
    epsilon = np.tile(PAIRS[:, 1:], (num_steps, 1))
    batch = noised_batch(process, x_0, epsilon, t)
    terms = posterior_kl(process, batch, optimal_output(process, oracle, batch.x_t, t))
    terms = terms.reshape(num_steps, len(PAIRS)) @ PAIR_WEIGHTS
    prior = prior_kl(process.schedule, x_0[: len(PAIRS)]) @ PAIR_WEIGHTS
    return decompose([prior], terms[None, :], dims=1)


def exact_bound(process, mean, std) -> float:
    """The same by propagating Gaussians: entropy + KL(q(x_T) || N(0, 1)) + sum of KL(q(x_{t-1}|x_t) || p(x_{t-1}|x_t)).

    For Gaussian data q(x_{t-1} | x_t) is Gaussian, and the exact denoiser has its mean: variances alone remain.
    """
    betas = process.schedule.beta
    variance, center = std**2, mean
    total = 0.5 * math.log(2 * math.pi * math.e * std**2)
    for t in range(1, process.num_steps + 1):
        kept = 1 - betas[t]
        after = kept * variance + betas[t]
        reverse = variance * betas[t] / after  # by Bayes' rule: the precisions of x_{t-1} and of its noisy image add
        if not process.learns_variance:
            total += float(normal_kl(0.0, math.log(reverse), 0.0, process.tables.log_variance_floor[t]))
        variance, center = after, math.sqrt(kept) * center
    return total + float(normal_kl(center, math.log(variance), 0.0, 0.0))


GENTLE = schedules(min_steps=2).filter(lambda s: s.beta.max() < 0.9999)  # 1 - beta is formed by the oracle


@given(GENTLE, predictions, st.sampled_from([*VARIANCES]), st.floats(-1, 1), st.floats(0.05, 2))
def test_bound_of_the_exact_denoiser_of_a_gaussian(schedule, prediction, variance, mean, std):
    """Entropy + KL(q(x_T) || p(x_T)) where the variance is optimal, plus the cost of the variance where it is fixed."""
    process = reverse_process(schedule, prediction, variance)
    got, expected = expected_bound(process, mean, std), exact_bound(process, mean, std)
    # Steps' terms are tables right to 1e-14 times errors formed without cancelling x_0's and x_t's share of at most
    # 1 / noise <= 1e3; a dozen of them of up to 1e3 nats.
    assert got.total == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("schedule", [linear(1000), cosine(1000), linear(1000).respaced(50)], ids=str)
def test_bound_of_the_exact_denoiser_over_a_thousand_steps(schedule, variance):
    """The same at full length, within the 1e-10 nats that nothing random should exceed."""
    process = reverse_process(schedule, variance=variance)
    assert expected_bound(process, 0.3, 0.5).total == pytest.approx(exact_bound(process, 0.3, 0.5), abs=1e-10)


def test_bound_tends_to_the_entropy():
    """With the optimal variance only the prior term stands between bound and entropy, at any number of steps."""
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    process = reverse_process(from_log_snr(np.linspace(8, -40, 30)), variance="learned_diagonal")
    assert expected_bound(process, 0.3, 0.5).total == pytest.approx(entropy, abs=1e-12)


@given(schedules(), st.lists(st.floats(-3, 3), min_size=1, max_size=4))
def test_prior_is_a_kl_of_normals(schedule, x_0):
    """KL(N(sqrt(alpha_bar) x_0, 1 - alpha_bar) || N(0, 1)), summed over dims."""
    x = np.array([x_0, np.zeros(len(x_0))])
    mean = np.sqrt(schedule.alpha_bar[-1]) * x
    expected = normal_kl(mean, schedule.log_one_minus_alpha_bar[-1], 0.0, 0.0).sum(axis=1)
    np.testing.assert_allclose(prior_kl(schedule, x), expected, rtol=1e-14)
    assert np.all(prior_kl(schedule, x) > 0)


def test_prior_keeps_what_float32_would_lose():
    """At x_0 = 0 the term is alpha_bar^2 / 4, 1e-18 here, and float32 data leaves it float32's accuracy."""
    schedule = from_betas(np.full(9, 0.9))
    got = prior_kl(schedule, np.zeros((1, 1), np.float32))
    assert got[0] == pytest.approx(0.25 * 1e-18, rel=1e-6)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 100), st.integers(0, 2**32 - 1))
def test_decomposition_adds_up(examples, num_steps, dims, seed):
    """total = prior + decoder + diffusion = the mean over examples of the sum of terms; bits are nats / (D ln 2)."""
    rng = np.random.default_rng(seed)
    prior, terms = rng.exponential(size=examples), rng.exponential(size=(examples, num_steps))
    d = decompose(prior, terms, dims)
    nats = np.mean(prior + terms.sum(axis=1))
    assert d.total == pytest.approx(nats, rel=1e-14)
    assert d.prior + d.decoder + d.diffusion == pytest.approx(d.total, rel=1e-15)
    assert d.decoder == pytest.approx(terms[:, 0].mean(), rel=1e-15)
    assert d.bits_per_dim == pytest.approx(nats / dims / math.log(2), rel=1e-14)
    assert d.steps.shape == (num_steps + 1,)
    assert d.steps[0] == 0
    np.testing.assert_array_equal(d.steps_bits_per_dim, bits_per_dim(d.steps, dims))
    assert d.steps_bits_per_dim.sum() + bits_per_dim(d.prior, dims) == pytest.approx(d.bits_per_dim, rel=1e-14)


@pytest.mark.parametrize(("prior", "terms"), [((2,), (3, 4)), ((), (3,)), ((3,), (3,)), ((3, 1), (3, 4))])
def test_bad_shapes(prior, terms):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        decompose(np.zeros(prior), np.zeros(terms), 1)
    expected = f"expected prior terms (N,) and step terms (N, T) of the same N examples, got {prior} and {terms}"
    assert str(caught.value) == expected
