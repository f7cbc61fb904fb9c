"""Oracles against quadrature, finite differences, brute force, and the losses they are floors of."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from core import oracles
from core.bounds import prior_kl
from core.forward import marginal, posterior
from core.objectives import epsilon_mse, noised_batch, posterior_kl
from core.oracles import (
    EmpiricalDistribution,
    GaussianMixture,
    epsilon_mse_floor,
    optimal_output,
    posterior_kl_floor,
    reverse_variance,
)
from core.reverse import reverse_process
from core.schedules import from_betas, linear
from core.variances import VARIANCES
from tests.strategies import FIXED_VARIANCES, LEARNED_VARIANCES, predictions, schedules

seeds = st.integers(0, 2**32 - 1)
PAIR = GaussianMixture([0.3, 0.7], [[-0.8], [0.5]], [0.04, 0.09])


def random_mixture(rng, components, dims):
    weights = rng.uniform(0.2, 1, components)
    return GaussianMixture(
        weights / weights.sum(), rng.normal(size=(components, dims)), rng.uniform(0.02, 1, (components, dims))
    )


@st.composite
def mixtures(draw, max_dims=3):
    return random_mixture(np.random.default_rng(draw(seeds)), draw(st.integers(1, 4)), draw(st.integers(1, max_dims)))


@given(mixtures(), seeds)
def test_log_density_is_the_log_of_the_sum(mixture, seed):
    """Against scipy.stats, component by component."""
    x = 2 * np.random.default_rng(seed).normal(size=(5, mixture.dims))
    density = sum(
        w * stats.norm.pdf(x, m, np.sqrt(v)).prod(axis=1)
        for w, m, v in zip(mixture.weights, mixture.means, mixture.variances, strict=True)
    )
    keep = density > 1e-290
    # A log density of up to 700 nats is a sum of rounded squares.
    np.testing.assert_allclose(mixture.log_density(x)[keep], np.log(density[keep]), rtol=1e-12, atol=1e-12)


@given(mixtures(), schedules(), seeds, st.data())
def test_log_density_at_is_that_of_the_marginal(mixture, schedule, seed, data):
    """q(x_t) is a mixture too: same density from `marginal` and from `log_density_at`, t = 0 included."""
    t = data.draw(st.integers(0, schedule.num_steps))
    x = np.random.default_rng(seed).normal(size=(4, mixture.dims))
    x_t = mixture.marginal(schedule, t)
    np.testing.assert_allclose(mixture.log_density_at(schedule, x, t), x_t.log_density(x), rtol=1e-13, atol=1e-13)
    q = marginal(schedule, t)
    np.testing.assert_allclose(x_t.mean, q.on_x_0 * mixture.mean, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(x_t.variance, q.on_x_0**2 * mixture.variance + q.variance, rtol=1e-13)


@given(mixtures(), schedules(max_steps=6), seeds)
def test_tweedie(mixture, schedule, seed):
    """x_t = sqrt(alpha_bar) x_0_hat + noise epsilon_hat, epsilon_hat = -noise * score, and the score by differences.

    The gradient of the log density by central differences of width h is off by h^2 third derivatives + 1e-16 / h.
    """
    t = np.arange(1, schedule.num_steps + 1)
    x_t = np.random.default_rng(seed).normal(size=(schedule.num_steps, mixture.dims))
    x_0_hat, epsilon_hat = mixture.x_0_hat(schedule, x_t, t), mixture.epsilon_hat(schedule, x_t, t)
    q = marginal(schedule, t)
    np.testing.assert_allclose(q.on_x_0[:, None] * x_0_hat + q.std[:, None] * epsilon_hat, x_t, rtol=1e-13, atol=1e-13)
    score = mixture.score(schedule, x_t, t)
    np.testing.assert_allclose(epsilon_hat, -q.std[:, None] * score, rtol=1e-13, atol=1e-13)
    h = 1e-5
    for axis in range(mixture.dims):
        step = h * np.eye(mixture.dims)[axis]
        up, down = (mixture.log_density_at(schedule, x_t + sign * step, t) for sign in (1, -1))
        # Components of variance >= 0.02 / 12 reach third derivatives of 1e5 and log densities of 1e4.
        np.testing.assert_allclose((up - down) / (2 * h), score[:, axis], atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("t", [1, 5, 40, 100])
@pytest.mark.parametrize("x", [-1.5, -0.1, 0.2, 3.0])
def test_moments_of_x_0_by_quadrature(t, x):
    """E[x_0 | x_t] and Var[x_0 | x_t] from p(x_0) q(x_t | x_0), integrated numerically."""
    schedule = linear(100)
    q = marginal(schedule, t)

    def joint(x_0, power):
        return x_0**power * np.exp(PAIR.log_density([[x_0]])[0]) * stats.norm.pdf(x, q.on_x_0 * x_0, q.std)

    at = PAIR.x_0_hat(schedule, [[x]], t).item()
    reach = 12 * math.sqrt(PAIR.x_0_variance(schedule, [[x]], t).item())
    mass, first, second = (
        integrate.quad(joint, at - reach, at + reach, args=(k,), epsabs=0, epsrel=1e-11, limit=200)[0] for k in range(3)
    )
    assert at == pytest.approx(first / mass, rel=1e-8, abs=1e-8)
    variance = second / mass - (first / mass) ** 2  # cancels by mean^2 / variance, 1e4 at t = 1
    assert PAIR.x_0_variance(schedule, [[x]], t).item() == pytest.approx(variance, rel=1e-6)
    assert PAIR.log_density_at(schedule, [[x]], t).item() == pytest.approx(math.log(mass), rel=1e-8, abs=1e-8)


def test_moments_stay_right_at_tiny_noise():
    """At noise 1e-6 the data is all but known: x_0_hat is x_t, and its variance the noise's."""
    schedule = from_betas([1e-12])
    x = np.array([[-0.8], [0.1], [40.0]])
    np.testing.assert_allclose(PAIR.x_0_hat(schedule, x, 1), x, rtol=1e-8)
    np.testing.assert_allclose(PAIR.x_0_variance(schedule, x, 1), 1e-12, rtol=1e-10)
    # 40 is 130 and 200 sigma out: no component's density is a number, their log ratio is.
    assert np.all(np.isfinite(PAIR.epsilon_hat(schedule, x, 1)))


@pytest.mark.parametrize("distribution", [PAIR, EmpiricalDistribution(np.array([[[3.0], [-4.0]], [[1.0], [2.0]]]))])
def test_a_distribution_says_how_it_is_drawn_from_and_how_large_it_is(distribution):
    """The mean square of 100,000 draws is within 5 standard errors of what is said: false alarms below 1e-5."""
    rng = np.random.default_rng(0)
    x = distribution.sample(rng.random(100_000), rng.standard_normal((100_000, distribution.normals_per_draw)))
    error = (x**2).std(axis=0) / np.sqrt(len(x))
    assert x.shape[1:] == distribution.root_mean_square.shape
    assert np.all(np.abs((x**2).mean(axis=0) - distribution.root_mean_square**2) < 5 * error)


def test_sampling():
    """u chooses the component by its weight, and `normal` the place within it."""
    k = PAIR.sample([0.0, 0.2999, 0.3001, np.nextafter(1, 0)], [[0.0], [1.0], [0.0], [-1.0]])
    np.testing.assert_allclose(k[:, 0], [-0.8, -0.6, 0.5, 0.2], rtol=1e-15)
    rng = np.random.default_rng(0)
    x = PAIR.sample(rng.random(100_000), rng.normal(size=(100_000, 1)))
    # Five standard errors: a false alarm in two million seeds.
    assert x.mean() == pytest.approx(PAIR.mean.item(), abs=5 * math.sqrt(PAIR.variance.item() / 1e5))


def test_entropy_of_one_component():
    """1/2 log(2 pi e)^D det, in any dimension."""
    mixture = GaussianMixture([1.0], np.zeros((1, 5)), [[0.1, 0.2, 0.3, 0.4, 5.0]])
    assert mixture.entropy() == pytest.approx(stats.multivariate_normal(cov=np.diag(mixture.variances[0])).entropy())


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("std", [1e-3, 0.1])
def test_entropy_of_distant_components(dims, std):
    """Far apart, entropies add: sum w (H_k - log w), to exp(-distance^2 / 8 var)."""
    weights = np.array([0.2, 0.5, 0.3])
    means = 10 * np.eye(3)[:, :dims] if dims == 2 else np.array([[-9.0], [0.0], [9.0]])
    mixture = GaussianMixture(weights, means, std**2 * np.array([1.0, 4.0, 0.25]))
    parts = 0.5 * dims * np.log(2 * math.pi * math.e * mixture.variances[:, 0])
    assert mixture.entropy() == pytest.approx(weights @ (parts - np.log(weights)), abs=1e-10)


def test_entropy_of_overlapping_components():
    """A narrow component on a broad one: adaptive quadrature in 1-D, and twice that for an independent copy in 2-D."""
    narrow = GaussianMixture([0.3, 0.7], [[0.0], [0.5]], [1.0, 1e-4])

    def surprise(x):
        log_p = narrow.log_density([[x]])[0]
        return -math.exp(log_p) * log_p

    edges = [-10, *(0.5 + 0.01 * np.arange(-12, 13)), 10]
    parts = [integrate.quad(surprise, a, b, epsabs=1e-13, limit=200)[0] for a, b in pairwise(edges)]
    assert narrow.entropy() == pytest.approx(sum(parts), abs=1e-10)

    wide = GaussianMixture([0.3, 0.7], [[0.0], [1.5]], [1.0, 0.2])
    product = GaussianMixture(
        np.outer(wide.weights, wide.weights).ravel(),
        [[a, b] for a in wide.means[:, 0] for b in wide.means[:, 0]],
        [[a, b] for a in wide.variances[:, 0] for b in wide.variances[:, 0]],
    )
    assert product.entropy() == pytest.approx(2 * wide.entropy(), abs=1e-10)


def test_entropy_estimate():
    """Within five of its own standard errors of the quadrature (a false alarm in two million seeds)."""
    rng = np.random.default_rng(3)
    estimate, error = PAIR.entropy_estimate(PAIR.sample(rng.random(20_000), rng.normal(size=(20_000, 1))))
    assert error < 0.01
    assert abs(estimate - PAIR.entropy()) < 5 * error


@given(schedules(max_steps=5), st.integers(1, 6), st.sampled_from([(2,), (3, 2), (2, 2, 1)]), seeds)
def test_training_set_by_brute_force(schedule, count, shape, seed):
    """Bayes' rule over the points one by one."""
    rng = np.random.default_rng(seed)
    data = EmpiricalDistribution(rng.uniform(-1, 1, (count, *shape)))
    t = np.arange(1, schedule.num_steps + 1)
    x_0 = data.sample(rng.random(schedule.num_steps))
    q = marginal(schedule, t)
    rows = (-1,) + (1,) * len(shape)
    x_t = q.on_x_0.reshape(rows) * x_0 + q.std.reshape(rows) * rng.normal(size=x_0.shape)
    axes = tuple(range(1, len(shape) + 1))
    for i in range(schedule.num_steps):
        log_p = stats.norm.logpdf(x_t[i], q.on_x_0[i] * data.points, q.std[i]).sum(axis=axes) - math.log(count)
        p = np.exp(log_p - log_p.max())
        p = p / p.sum()
        mean = np.tensordot(p, data.points, axes=1)
        variance = np.tensordot(p, (data.points - mean) ** 2, axes=1)
        # Log odds are inner products over the noise's variance, as small as 1e-6 here.
        tolerance = 1e-14 / q.variance[i] + 1e-14
        one = x_t[i : i + 1]
        np.testing.assert_allclose(data.x_0_hat(schedule, one, t[i])[0], mean, atol=tolerance)
        np.testing.assert_allclose(data.x_0_variance(schedule, one, t[i])[0], variance, atol=tolerance)
        assert data.log_density_at(schedule, one, t[i])[0] == pytest.approx(
            log_p.max() + math.log(np.exp(log_p - log_p.max()).sum()), abs=40 * tolerance
        )
    epsilon_hat = data.epsilon_hat(schedule, x_t, t)
    x_0_hat = data.x_0_hat(schedule, x_t, t)
    np.testing.assert_allclose(
        q.on_x_0.reshape(rows) * x_0_hat + q.std.reshape(rows) * epsilon_hat, x_t, rtol=1e-13, atol=1e-13
    )
    np.testing.assert_allclose(data.score(schedule, x_t, t), -epsilon_hat / q.std.reshape(rows), rtol=1e-14)


def test_training_set_is_the_limit_of_a_narrow_mixture():
    """Components of variance 1e-14 at the points give the same denoiser, density and variance."""
    rng = np.random.default_rng(5)
    points = rng.uniform(-1, 1, (6, 2))
    data, narrow = EmpiricalDistribution(points), GaussianMixture(np.full(6, 1 / 6), points, np.full(6, 1e-14))
    schedule, t = linear(100), np.arange(1, 101)
    x_t = rng.normal(size=(100, 2))
    for name in ("x_0_hat", "epsilon_hat", "x_0_variance", "log_density_at", "score"):
        one, other = (getattr(d, name)(schedule, x_t, t) for d in (data, narrow))
        # The variance moves q(x_t) by 1e-14 of its least noise variance, 1e-4, times distances of up to 300 sigma.
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-8, err_msg=name)


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(6)
    data, schedule = EmpiricalDistribution(rng.uniform(-1, 1, (7, 3))), linear(20)
    x_t, t = rng.normal(size=(20, 3)), np.arange(1, 21)
    whole = [f(schedule, x_t, t) for f in (data.x_0_hat, data.x_0_variance, data.log_density_at)]
    entropy = PAIR.entropy()
    monkeypatch.setattr(oracles, "_CHUNK", 15)
    parts = [f(schedule, x_t, t) for f in (data.x_0_hat, data.x_0_variance, data.log_density_at)]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    assert PAIR.entropy() == pytest.approx(entropy, rel=1e-13)


def test_training_loss_of_the_training_sets_denoiser_is_its_floor():
    """E[epsilon MSE] and E[KL] of `optimal_output` are the mean floors; other outputs cost more."""
    rng = np.random.default_rng(7)
    data, schedule = EmpiricalDistribution(rng.uniform(-1, 1, (20, 2))), linear(30)
    examples = 40_000
    t = rng.integers(2, 31, examples)
    for variance in VARIANCES:
        process = reverse_process(schedule, "v", variance)
        batch = noised_batch(process, data.sample(rng.random(examples)), rng.normal(size=(examples, 2)), t)
        output = optimal_output(process, data, batch.x_t, t)
        x_0_variance = data.x_0_variance(schedule, batch.x_t, t)
        pairs = [
            (epsilon_mse(process, batch, output), epsilon_mse_floor(schedule, x_0_variance, t)),
            (posterior_kl(process, batch, output), posterior_kl_floor(process, x_0_variance, t)),
        ]
        for loss, floor in pairs:
            difference = loss - floor
            # Five standard errors of the paired difference: a false alarm in 200,000 seeds for all eight.
            assert abs(difference.mean()) < 5 * difference.std() / math.sqrt(examples)
        for change in (-0.3, 0.3):
            worse = posterior_kl(process, batch, output + change) - pairs[1][0]
            assert worse.mean() > 5 * worse.std() / math.sqrt(examples)


@given(mixtures(), schedules(min_steps=2), predictions, st.sampled_from([*VARIANCES]), seeds)
def test_floors_are_minima_over_outputs(mixture, schedule, prediction, variance, seed):
    """The mean loss of the best output over x_0 = x_0_hat +- std is the floor.

    Given x_t the losses are quadratic in x_0, and these two points have the mean and variances of p(x_0 | x_t).
    """
    process = reverse_process(schedule, prediction, variance, first_variance="next")
    t = np.arange(1, schedule.num_steps + 1)
    x_t = np.random.default_rng(seed).normal(size=(schedule.num_steps, mixture.dims))
    x_0_hat, x_0_variance = mixture.x_0_hat(schedule, x_t, t), mixture.x_0_variance(schedule, x_t, t)
    output = optimal_output(process, mixture, x_t, t)
    assert output.shape == (schedule.num_steps, mixture.dims * (2 if process.learns_variance else 1))
    losses = []
    for sign in (1, -1):
        x_0 = x_0_hat + sign * np.sqrt(x_0_variance)
        batch = noised_batch(process, x_0, process.epsilon_of(x_t, x_0, t), t)
        losses.append([epsilon_mse(process, batch, output), posterior_kl(process, batch, output)])
    simple, kl = np.mean(losses, axis=0)
    # epsilon_of rounds by 1e-16 |x_t| / noise, an error of the order of 1e-13 of std / noise; log variances by 1e-15.
    np.testing.assert_allclose(simple, epsilon_mse_floor(schedule, x_0_variance, t), rtol=1e-8)
    np.testing.assert_allclose(kl, posterior_kl_floor(process, x_0_variance, t), rtol=1e-8, atol=1e-10)


@given(schedules(min_steps=2), st.floats(0.05, 2), st.data())
def test_reverse_variance_of_a_gaussian(schedule, std, data):
    """For N(0, std^2) data it is the variance of q(x_{t-1} | x_t), by Bayes' rule."""
    t = data.draw(st.integers(1, schedule.num_steps))
    mixture = GaussianMixture([1.0], [[0.0]], [std**2])
    got = reverse_variance(schedule, mixture.x_0_variance(schedule, [[0.3]], t), t).item()
    before = mixture.marginal(schedule, t - 1).variance.item()
    precision = 1 / before + schedule.alpha[t] / schedule.beta[t]
    assert got == pytest.approx(1 / precision, rel=1e-12)


@pytest.mark.parametrize("variance", FIXED_VARIANCES)
def test_isotropic_variance_of_analytic_dpm(variance):
    """Among variances shared over x_t, the mean of `reverse_variance` has the least KL (Bao et al. 2022, theorem 1)."""
    schedule, t = linear(50), 20
    rng = np.random.default_rng(8)
    x_t = PAIR.marginal(schedule, t).sample(rng.random(2000), rng.normal(size=(2000, 1)))
    reverse = reverse_variance(schedule, PAIR.x_0_variance(schedule, x_t, t), t)
    best = reverse.mean()
    tilde = posterior(schedule, t).variance

    def mean_kl(shared):  # E KL(N(mean +- , tilde) || N(mean, shared)), the spread of means being reverse - tilde
        return np.mean(0.5 * (reverse / shared - 1 - np.log(tilde / shared)))

    for factor in (0.99, 1.01):
        assert mean_kl(best) < mean_kl(factor * best)
    process = reverse_process(schedule, variance=variance)
    steps = np.full(2000, t)
    floor = posterior_kl_floor(process, PAIR.x_0_variance(schedule, x_t, t), steps).mean()
    assert mean_kl(best) < floor
    assert floor == pytest.approx(mean_kl(np.exp(process.tables.log_variance_floor[t])), rel=1e-9)


@pytest.mark.parametrize("variance", LEARNED_VARIANCES)
def test_bound_of_a_mixture_approaches_its_entropy_from_above(variance):
    """The gap of the exact denoiser with the best Gaussian steps is positive, and falls with their number."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    gaps = []
    for num_steps in (10, 40, 160):
        process = reverse_process(linear(num_steps * 25).respaced(num_steps), variance=variance)
        schedule = process.schedule
        prior = prior_kl(schedule, np.array([[1.0], [0.0]]))
        second_moment = (PAIR.variance + PAIR.mean**2).item()
        bound = prior[1] + (prior[0] - prior[1]) * second_moment  # the prior term is linear in x_0^2
        for t in range(1, num_steps + 1):
            x_t = 8 * nodes[:, None]  # density below exp(-30) beyond
            measure = 8 * weights * np.exp(PAIR.log_density_at(schedule, x_t, t))
            assert measure.sum() == pytest.approx(1, abs=1e-10)  # the quadrature holds q(x_t)
            bound += measure @ posterior_kl_floor(process, PAIR.x_0_variance(schedule, x_t, t), t)
        gaps.append(bound - PAIR.entropy())
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[-1] < 0.05


def test_a_range_of_no_width_leaves_no_choice():
    """learned_range with first_variance beta fixes the variance at t = 1: output 0 there, and the fixed floor."""
    schedule = linear(5)
    learned = reverse_process(schedule, variance="learned_range", first_variance="beta")
    fixed = reverse_process(schedule, variance="beta", first_variance="beta")
    x_t, t = np.array([[0.2]]), np.array([1])
    assert optimal_output(learned, PAIR, x_t, t)[0, 1] == 0
    x_0_variance = PAIR.x_0_variance(schedule, x_t, t)
    assert posterior_kl_floor(learned, x_0_variance, t) == posterior_kl_floor(fixed, x_0_variance, t)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda: GaussianMixture([1.0], [0.0], [1.0]),
            "a mixture has weights (K,), means (K, D) and variances (K,) or (K, D), got (1,), (1,) and (1,)",
        ),
        (
            lambda: GaussianMixture([0.5, 0.5], [[0.0], [1.0]], [[1.0]]),
            "a mixture has weights (K,), means (K, D) and variances (K,) or (K, D), got (2,), (2, 1) and (1, 1)",
        ),
        (
            lambda: GaussianMixture([0.5, 0.4], [[0.0], [1.0]], [1.0, 1.0]),
            "the weights of a mixture are positive and sum to 1, got [0.5 0.4]",
        ),
        (
            lambda: GaussianMixture([1.0, 0.0], [[0.0], [1.0]], [1.0, 1.0]),
            "the weights of a mixture are positive and sum to 1, got [1. 0.]",
        ),
        (
            lambda: GaussianMixture([1.0], [[0.0]], [0.0]),
            "the means of a mixture are finite and its variances finite and positive",
        ),
        (
            lambda: GaussianMixture([1.0], [[np.nan]], [1.0]),
            "the means of a mixture are finite and its variances finite and positive",
        ),
        (lambda: PAIR.log_density([0.0]), "points of this mixture have shape (N, 1), got (1,)"),
        (lambda: PAIR.x_0_hat(linear(3), [[0.0, 1.0]], 1), "points of this mixture have shape (N, 1), got (1, 2)"),
        (lambda: PAIR.x_0_hat(linear(3), [[0.0]], 0), "steps run from 1 to 3, got 0; step 0 is the data"),
        (lambda: PAIR.score(linear(3), [[0.0]], 4), "steps run from 0 to 3, got 4"),
        (lambda: PAIR.entropy_estimate([[0.0]]), "an error bar needs at least 2 points, got 1"),
        (
            lambda: GaussianMixture([0.5, 0.5], np.zeros((2, 3)), [1.0, 2.0]).entropy(),
            "quadrature is for 1 or 2 dimensions, this mixture has 3; use entropy_estimate",
        ),
        (
            lambda: EmpiricalDistribution(np.zeros(3)),
            "the points of a training set are finite, of shape (M, ...) with M >= 1, got (3,)",
        ),
        (
            lambda: EmpiricalDistribution([[np.nan]]),
            "the points of a training set are finite, of shape (M, ...) with M >= 1, got (1, 1)",
        ),
        (
            lambda: EmpiricalDistribution(np.zeros((2, 3))).x_0_hat(linear(3), np.zeros((2, 4)), 1),
            "x_t is (N, ...) with the shape (3,) of a training point, got (2, 4)",
        ),
        (
            lambda: EmpiricalDistribution(np.zeros((2, 3))).log_density_at(linear(3), np.zeros((2, 3)), 0),
            "steps run from 1 to 3, got 0; step 0 is the data",
        ),
        (
            lambda: posterior_kl_floor(reverse_process(linear(3), levels=9), np.ones((2, 1)), [1, 2]),
            "the floor at t = 1 is known for continuous data only; ask for t >= 2, or levels=None",
        ),
    ],
)
def test_bad_input_is_one_clear_line(act, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        act()
    assert str(caught.value) == message


def test_a_grid_too_large_is_refused():
    means = np.random.default_rng(9).normal(size=(200, 2))
    with pytest.raises(ValueError, match=r"^a grid of \d+ points is needed, too many; use entropy_estimate$"):
        GaussianMixture(np.full(200, 1 / 200), means, np.full(200, 1e-8)).entropy()
