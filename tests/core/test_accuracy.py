"""Tables against 60-digit arithmetic on the formula itself, never on rounded betas."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest

from core.bounds import prior_kl
from core.forward import marginal, posterior, transition
from core.objectives import kl_weight
from core.predictions import prediction_tables
from core.reverse import reverse_process
from core.schedules import (
    SCHEDULES,
    Schedule,
    constant,
    cosine,
    from_log_snr,
    harmonic,
    linear,
    log_linear,
    quadratic,
    sigmoid,
)

DIGITS = 60
RELATIVE = 1e-14  # the promise of core.schedules; careful float64 gets to 5e-15


@dataclass(frozen=True)
class Truth:
    """What follows from alpha_bar_0..alpha_bar_T in mpmath."""

    alpha_bar: list

    def __post_init__(self):
        assert self.alpha_bar[0] == 1

    @property
    def num_steps(self):
        return len(self.alpha_bar) - 1

    def alpha(self, t):
        return self.alpha_bar[t] / self.alpha_bar[t - 1]

    def beta_tilde(self, t):
        return (1 - self.alpha(t)) * (1 - self.alpha_bar[t - 1]) / (1 - self.alpha_bar[t])

    def respaced(self, visited):
        return Truth([self.alpha_bar[t] for t in visited])


def from_exact_betas(betas):
    alpha_bar = [mp.mpf(1)]
    for beta in betas:
        alpha_bar.append(alpha_bar[-1] * (1 - beta))
    return Truth(alpha_bar)


def exact_linear(num_steps, scaled=False):
    scale = mp.mpf(1000) / num_steps if scaled else mp.mpf(1)
    start, end = mp.mpf("1e-4"), mp.mpf("0.02")
    return from_exact_betas(scale * (start + (end - start) * i / (num_steps - 1)) for i in range(num_steps))


def exact_quadratic(num_steps):
    start, end = mp.sqrt(mp.mpf("1e-4")), mp.sqrt(mp.mpf("0.02"))
    return from_exact_betas((start + (end - start) * i / (num_steps - 1)) ** 2 for i in range(num_steps))


def clipped_from_shares(shares):
    """alpha_bar as published, with beta clipped at 0.999."""
    return from_exact_betas(min(1 - b / a, mp.mpf("0.999")) for a, b in pairwise(shares))


def exact_cosine(num_steps):
    s = mp.mpf("0.008")
    angles = [(mp.mpf(t) / num_steps + s) / (1 + s) * mp.pi / 2 for t in range(num_steps + 1)]
    return clipped_from_shares([mp.cos(angle) ** 2 for angle in angles])


def exact_sigmoid(num_steps):
    def falling(t):
        return 1 / (1 + mp.exp(-mp.mpf(3))) - 1 / (1 + mp.exp(-(-3 + 6 * mp.mpf(t) / num_steps)))

    return clipped_from_shares([falling(t) for t in range(num_steps + 1)])


def exact_constant(num_steps):
    return from_exact_betas([mp.mpf("0.01")] * num_steps)


def exact_log_linear(num_steps):
    first, last = mp.mpf("13.3"), mp.mpf(-5)
    falling = [first + (last - first) * i / (num_steps - 1) for i in range(num_steps)]
    return Truth([mp.mpf(1), *(1 / (1 + mp.exp(-log_snr)) for log_snr in falling)])


def exact_harmonic(num_steps):
    return from_exact_betas(min(1 / mp.mpf(k), mp.mpf("0.999")) for k in range(num_steps, 0, -1))


def exact_from_log_snr(log_snr):
    return Truth([mp.mpf(1), *(1 / (1 + mp.exp(-mp.mpf(float(value)))) for value in log_snr)])


LOG_SNR = np.linspace(10, -12, 1000)
CASES = {
    "linear 100": (lambda: linear(100), lambda: exact_linear(100)),
    "linear 1000": (lambda: linear(1000), lambda: exact_linear(1000)),
    "linear 4000": (lambda: linear(4000), lambda: exact_linear(4000)),
    "linear-scaled 100": (lambda: linear(100, scaled=True), lambda: exact_linear(100, scaled=True)),
    "linear-scaled 4000": (lambda: linear(4000, scaled=True), lambda: exact_linear(4000, scaled=True)),
    "cosine 1000": (lambda: cosine(1000), lambda: exact_cosine(1000)),
    "cosine 4000": (lambda: cosine(4000), lambda: exact_cosine(4000)),
    "quadratic 1000": (lambda: quadratic(1000), lambda: exact_quadratic(1000)),
    "sigmoid 1000": (lambda: sigmoid(1000), lambda: exact_sigmoid(1000)),
    "harmonic 1000": (lambda: harmonic(1000), lambda: exact_harmonic(1000)),
    "constant 1000": (lambda: constant(1000), lambda: exact_constant(1000)),
    "constant 4000": (lambda: constant(4000), lambda: exact_constant(4000)),
    "log-linear 1000": (lambda: log_linear(1000), lambda: exact_log_linear(1000)),
    "log-linear 4000": (lambda: log_linear(4000), lambda: exact_log_linear(4000)),
    "from_log_snr": (lambda: from_log_snr(LOG_SNR), lambda: exact_from_log_snr(LOG_SNR)),
    "linear 1000 to 50": (
        lambda: linear(1000).respaced(50),
        lambda: exact_linear(1000).respaced(np.append(0, np.rint(np.linspace(1, 1000, 50)).astype(int))),
    ),
    "cosine 4000 to ddim100": (
        lambda: cosine(4000).respaced("ddim100"),
        lambda: exact_cosine(4000).respaced([0, *range(1, 4001, 40)]),
    ),
}


@cache
def case(name: str) -> tuple[Schedule, Truth]:
    with mp.workdps(DIGITS):
        make, exact = CASES[name]
        return make(), exact()


@pytest.fixture(params=list(CASES))
def both(request):
    schedule, truth = case(request.param)
    assert schedule.num_steps == truth.num_steps
    with mp.workdps(DIGITS):
        yield schedule, truth


def rounded(exact) -> np.ndarray:
    """mpmath values correctly rounded to float64: half an ulp, 1e-16, off."""
    return np.array([float(value) for value in exact])


def assert_relative(got, exact):
    expected = rounded(exact)
    assert np.max(np.abs(got - expected) / np.abs(expected)) < RELATIVE


def assert_absolute(got, exact):
    assert np.max(np.abs(got - rounded(exact))) < RELATIVE


def test_every_schedule_is_held_to_its_formula():
    assert {name.split()[0] for name in CASES} >= set(SCHEDULES)


def test_schedule_tables(both):
    """beta, alpha, alpha_bar, 1 - alpha_bar (relative) and log SNR (absolute), at every step."""
    schedule, truth = both
    steps = range(1, truth.num_steps + 1)
    alpha_bar = truth.alpha_bar[1:]
    assert_relative(schedule.beta[1:], (1 - truth.alpha(t) for t in steps))
    assert_relative(schedule.alpha[1:], (truth.alpha(t) for t in steps))
    assert_relative(schedule.alpha_bar[1:], alpha_bar)
    assert_relative(schedule.one_minus_alpha_bar[1:], (1 - a for a in alpha_bar))
    assert_absolute(schedule.log_snr[1:], (mp.log(a / (1 - a)) for a in alpha_bar))
    assert schedule.beta[0] == 0
    assert schedule.alpha[0] == 1
    assert schedule.alpha_bar[0] == 1
    assert schedule.one_minus_alpha_bar[0] == 0
    assert not np.signbit([schedule.beta[0], schedule.one_minus_alpha_bar[0]]).any()
    assert schedule.log_snr[0] == np.inf


def test_posterior_coefficients(both):
    """Every coefficient of q(x_{t-1} | x_t, x_0), t = 1 included."""
    schedule, truth = both
    steps = range(1, truth.num_steps + 1)
    q = posterior(schedule, np.arange(1, truth.num_steps + 1))
    a = truth.alpha_bar
    assert_relative(q.on_x_0, (mp.sqrt(a[t - 1]) * (1 - truth.alpha(t)) / (1 - a[t]) for t in steps))
    assert (q.on_x_0[0], q.on_x_t[0], q.variance[0], q.log_variance[0]) == (1, 0, 0, -np.inf)
    later = steps[1:]
    assert_relative(q.on_x_t[1:], (mp.sqrt(truth.alpha(t)) * (1 - a[t - 1]) / (1 - a[t]) for t in later))
    assert_relative(q.variance[1:], (truth.beta_tilde(t) for t in later))
    assert_absolute(q.log_variance[1:], (mp.log(truth.beta_tilde(t)) for t in later))


def test_posterior_and_transition_over_many_steps(both):
    """q(x_s | x_t, x_0) and q(x_t | x_s) for s = t // 2."""
    schedule, truth = both
    steps = range(2, truth.num_steps + 1)
    t = np.arange(2, truth.num_steps + 1)
    a = truth.alpha_bar
    step, q = transition(schedule, t // 2, t), posterior(schedule, t // 2, t)
    assert_relative(step.on_x_s, (mp.sqrt(a[t] / a[t // 2]) for t in steps))
    assert_relative(step.variance, (1 - a[t] / a[t // 2] for t in steps))
    assert_relative(q.on_x_0, (mp.sqrt(a[t // 2]) * (1 - a[t] / a[t // 2]) / (1 - a[t]) for t in steps))
    assert_relative(q.on_x_t, (mp.sqrt(a[t] / a[t // 2]) * (1 - a[t // 2]) / (1 - a[t]) for t in steps))
    assert_relative(q.variance, ((1 - a[t] / a[t // 2]) * (1 - a[t // 2]) / (1 - a[t]) for t in steps))


def test_marginal(both):
    """sqrt(alpha_bar), the variance, its root and (absolute) its log."""
    schedule, truth = both
    q = marginal(schedule, np.arange(1, truth.num_steps + 1))
    alpha_bar = truth.alpha_bar[1:]
    assert_relative(q.on_x_0, (mp.sqrt(a) for a in alpha_bar))
    assert_relative(q.std, (mp.sqrt(1 - a) for a in alpha_bar))
    assert_absolute(q.log_variance, (mp.log(1 - a) for a in alpha_bar))


def test_kl_weights(both):
    """Nats per squared error of epsilon, for both fixed variances; beta tilde's is infinite at t = 1."""
    schedule, truth = both
    steps = range(1, truth.num_steps + 1)
    a = truth.alpha_bar
    t = np.arange(1, truth.num_steps + 1)
    of_beta = kl_weight(schedule, t, "beta")
    assert_relative(of_beta, ((1 - truth.alpha(t)) / (2 * truth.alpha(t) * (1 - a[t])) for t in steps))
    of_tilde = kl_weight(schedule, t)
    assert of_tilde[0] == np.inf
    later = steps[1:]
    assert_relative(of_tilde[1:], ((1 - truth.alpha(t)) / (2 * truth.alpha(t) * (1 - a[t - 1])) for t in later))


def test_kl_of_the_wrong_variance(both):
    """1/2 (r - 1 - log r), r = beta tilde / beta: what sigma^2 = beta costs at t >= 2, though it falls to 1e-18."""
    schedule, truth = both
    got = reverse_process(schedule, variance="beta").tables.kl_of_variances
    exact = []
    for t in range(2, truth.num_steps + 1):
        ratio = (1 - truth.alpha_bar[t - 1]) / (1 - truth.alpha_bar[t])
        exact.append((ratio - 1 - mp.log(ratio)) / 2)
    assert_relative(got[2:], exact)
    assert got[1] == 0


def test_prior_kl(both):
    """L_T at x_0 = 0, where it is near alpha_bar_T^2 / 4, at 1 and at -1."""
    schedule, truth = both
    share = truth.alpha_bar[-1]
    variance = 1 - share
    exact = [(variance - 1 - mp.log(variance) + share * x**2) / 2 for x in (0, 1, -1)]
    assert_relative(prior_kl(schedule, np.array([[0.0], [1.0], [-1.0]])), exact)


@pytest.mark.parametrize("prediction", ["epsilon", "x_0", "mean", "v", "offset"])
def test_prediction_tables(both, prediction):
    """x_0_hat and epsilon_hat coefficients of every prediction."""
    schedule, truth = both
    steps = range(1, truth.num_steps + 1)
    p = prediction_tables(schedule, prediction)
    signal = [None, *(mp.sqrt(truth.alpha_bar[t]) for t in steps)]
    noise = [None, *(mp.sqrt(1 - truth.alpha_bar[t]) for t in steps)]

    def on_output(t):
        if prediction == "mean":  # x_0 = (mean - on_x_t x_t) / on_x_0
            return (1 - truth.alpha_bar[t]) / mp.sqrt(truth.alpha_bar[t - 1]) / (1 - truth.alpha(t))
        if prediction == "offset":  # x_0 = signal x_t + noise / scale offset
            return (1 - truth.alpha_bar[t]) / mp.sqrt((1 - truth.alpha(t)) * truth.alpha_bar[t - 1])
        return {"epsilon": -noise[t] / signal[t], "x_0": mp.mpf(1), "v": -noise[t]}[prediction]

    assert_relative(p.x_0_on_output[1:], (on_output(t) for t in steps))
    assert_relative(p.epsilon_on_output[1:], (-signal[t] / noise[t] * on_output(t) for t in steps))
