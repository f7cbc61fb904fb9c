"""Sampler steps against closed forms on Gaussian data, where the exact denoiser is affine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.oracles import GaussianMixture, optimal_output
from core.predictions import PREDICTIONS
from core.reverse import reverse_process
from core.samplers import (
    SAMPLERS,
    adds_noise,
    ancestral_step,
    ddim_reverse_step,
    ddim_step,
    dpm_solver_step,
    make_sampler,
)
from core.schedules import cosine, from_log_snr, linear
from core.variances import FIRST_VARIANCES, VARIANCES
from tests.oracle_samplers import step_by_hand
from tests.strategies import predictions, schedules

EPS = 2.0**-52
MEAN, STD = 0.4, 0.6
DATA = GaussianMixture([1.0], [[MEAN]], [STD**2])


def exact_output(process, x_t, t):
    return optimal_output(process, DATA, x_t, t)


def marginal_of(schedule, t):
    """Mean and variance of x_t for the Gaussian data."""
    return np.sqrt(schedule.alpha_bar[t]) * MEAN, schedule.alpha_bar[t] * STD**2 + schedule.one_minus_alpha_bar[t]


@given(schedules(), predictions, st.sampled_from([*VARIANCES]), st.sampled_from(sorted(SAMPLERS)), st.data())
def test_a_step_reads_its_window_of_the_tables_alone(schedule, prediction, variance, sampler, data):
    """From three columns of the tables a step is what it is from all, to the last bit."""
    process = reverse_process(schedule, prediction, variance)
    tables, places = process.windows()
    t = data.draw(st.integers(1, schedule.num_steps))
    x_t, noise, previous = np.random.default_rng(t).normal(size=(3, 4, 2))
    output = np.random.default_rng(t + 1).normal(size=(4, 4 if process.learns_variance else 2))
    step = make_sampler(sampler, eta=0.5 if sampler == "ddim" else 0.0)
    whole = step(process, x_t, output, np.full(4, t), noise, previous)
    alone = step(process.window(tables[t - 1]), x_t, output, np.full(4, places[t - 1]), noise, previous)
    np.testing.assert_array_equal(whole, alone)
    assert tables.shape[::2] == (schedule.num_steps, 3)


@given(schedules(min_steps=2), st.sampled_from(sorted(SAMPLERS)), st.sampled_from([0.0, 0.5]), st.data())
def test_a_sampler_without_noise_does_not_read_it(schedule, name, eta, data):
    """adds_noise is false just where the noise makes no difference at any step but the last."""
    if name != "ddim":
        eta = 0.0
    process, step = reverse_process(schedule), make_sampler(name, eta=eta)
    t = np.full(4, data.draw(st.integers(2, schedule.num_steps)))
    x_t, output, one, other = np.random.default_rng(0).normal(size=(4, 4, 2))
    results = [step(process, x_t, output, t, noise, np.zeros_like(x_t))[0] for noise in (one, other)]
    assert np.array_equal(*results) == (not adds_noise(name, eta=eta))


KINDS = [
    ("ancestral", {}),
    ("ancestral", {"clip": 1.0}),
    ("ddim", {}),
    ("ddim", {"eta": 0.5}),
    ("ddim", {"eta": 1.0, "clip": 1.0}),
    ("dpm_solver", {}),
    ("dpm_solver", {"clip": 1.0}),
]


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("sampler", "options"), KINDS, ids=str)
def test_every_step_is_the_papers(sampler, options, prediction, variance):
    """x_{t-1} and x_0_hat at every t of a whole and of a respaced chain, for every prediction and variance.

    Only ancestral sampling reads the variance, so that DDIM and DPM-Solver take the same path whichever it is.
    """
    for schedule in (linear(12, 1e-3, 0.3), cosine(40).respaced(8)):
        for first_variance in FIRST_VARIANCES:
            process = reverse_process(schedule, prediction, variance, first_variance=first_variance)
            rng = np.random.default_rng(schedule.num_steps)
            x_t, noise, previous = rng.normal(size=(3, schedule.num_steps, 2, 3))
            output = rng.normal(size=(schedule.num_steps, 2, 6 if process.learns_variance else 3))
            t = np.arange(1, schedule.num_steps + 1)
            found = make_sampler(sampler, **options)(process, x_t, output, t, noise, previous)
            for i in range(schedule.num_steps):
                expected = step_by_hand(
                    schedule.beta[1:], sampler, prediction, variance, i + 1,
                    x_t[i], output[i], noise[i], previous[i], **options,
                )  # fmt: skip
                for ours, theirs in zip(found, expected, strict=True):
                    # 1 - alpha_bar, 1e-3 at the least, is taken by subtraction there, and 1 - ratio of them again.
                    np.testing.assert_allclose(ours[i], theirs, rtol=1e-10, atol=1e-10 * np.abs(theirs).max())


def test_the_same_options_give_the_same_step():
    assert make_sampler("ddim", clip=1.0) is make_sampler("ddim", clip=1.0)
    assert make_sampler("ddim", clip=1.0) is not make_sampler("ddim")


@given(schedules(min_steps=2), predictions, st.integers(0, 2**32 - 1))
def test_ddim_with_eta_one_is_ancestral(schedule, prediction, seed):
    """DDIM(eta = 1) draws from N(posterior mean, beta tilde), as ancestral does; at t = 1 both return x_0_hat."""
    process = reverse_process(schedule, prediction)
    t = np.arange(1, schedule.num_steps + 1)
    rng = np.random.default_rng(seed)
    x_t, noise, x_0, epsilon = rng.normal(size=(4, schedule.num_steps, 3))
    # An output that stands for some x_0 and epsilon of ordinary size.
    output = process.target(x_0, epsilon, t)
    one, one_hat = ancestral_step(process, x_t, output, t, noise)
    two, two_hat = ddim_step(process, x_t, output, t, noise, eta=1.0)
    np.testing.assert_array_equal(one_hat, two_hat)
    # epsilon_hat = (x_t - signal x_0_hat) / noise: its rounding, and that of noise^2 - sigma^2 under a root, where the
    # two nearly agree when beta tilde is nearly all of the variance (kept is then small).
    signal, deviation = schedule.alpha_bar[t, None] ** 0.5, schedule.one_minus_alpha_bar[t, None] ** 0.5
    size = 1 + np.abs(x_t) + np.abs(one_hat) + np.abs(noise)
    size = size + (np.abs(x_t) + signal * np.abs(one_hat)) / deviation
    kept = np.append(
        1.0, np.exp(schedule.log_alpha[2:]) * schedule.one_minus_alpha_bar[1:-1] / schedule.one_minus_alpha_bar[2:]
    )
    # direction^2 = (1 - alpha_bar_{t-1}) kept', with an absolute error of EPS (1 - alpha_bar_{t-1}).
    assert np.all(np.abs(one - two) <= 32 * EPS * size / np.sqrt(kept)[:, None])
    np.testing.assert_array_equal(two[0], two_hat[0])
    assert np.all(np.abs(one[0] - one_hat[0]) <= 4 * EPS * np.abs(one_hat[0]))


@given(schedules(), predictions, st.sampled_from(list(SAMPLERS)), st.sampled_from([*VARIANCES]))
def test_last_step_returns_x_0_hat(schedule, prediction, sampler, variance):
    """At t = 1 every sampler returns its x_0_hat, whatever the noise and the step before."""
    process = reverse_process(schedule, prediction, variance)
    x_t, t = np.array([[0.3], [-1.0]]), np.array([1, 1])
    x, x_0_hat = SAMPLERS[sampler](
        process, x_t, exact_output(process, x_t, t), t, 9 * np.ones((2, 1)), 7 * np.ones((2, 1))
    )
    np.testing.assert_allclose(x, x_0_hat, rtol=1e-15)
    np.testing.assert_allclose(x_0_hat, DATA.x_0_hat(schedule, x_t, t), rtol=1e-9)  # through 1 / on_x_0 and back


@given(schedules(min_steps=2), predictions)
def test_ancestral_preserves_the_marginals(schedule, prediction):
    """Exact mean and optimal variance take x_t ~ q(x_t) to x_{t-1} ~ q(x_{t-1}), for Gaussian data and t >= 2."""
    process = reverse_process(schedule, prediction, "learned_diagonal")
    for t in range(2, schedule.num_steps + 1):
        steps = np.full(3, t)
        x_t, noise = np.array([[0.0], [1.0], [0.0]]), np.array([[0.0], [0.0], [1.0]])
        (at_0, at_1, noisy), _ = ancestral_step(process, x_t, exact_output(process, x_t, steps), steps, noise)
        # The step is affine in x_t and noise, so three evaluations give its moments.
        mean, variance = marginal_of(schedule, t)
        before_mean, before_variance = marginal_of(schedule, t - 1)
        slope, sigma = at_1 - at_0, noisy - at_0
        # mean on_x_0 x_0_hat with x_0_hat = x_t / signal - ... for a small signal: it cancels to 1e-16 / signal.
        tolerance = 1e-13 / np.sqrt(schedule.alpha_bar[t]) + 1e-13
        assert at_0 + slope * mean == pytest.approx(before_mean, abs=tolerance)
        assert slope**2 * variance + sigma**2 == pytest.approx(before_variance, abs=tolerance)


@given(schedules(min_steps=2), predictions, st.sampled_from([*VARIANCES]), st.integers(0, 2**32 - 1))
def test_a_step_backwards_keeps_the_x_0_and_the_epsilon_that_are_predicted(schedule, prediction, variance, seed):
    """x_{t+1} = sqrt(alpha_bar_{t+1}) x_0_hat + sqrt(1 - alpha_bar_{t+1}) epsilon_hat, and `ddim_step` goes back.

    With the x_0 and epsilon of x_t itself as the output of both steps; a learned variance's half is not read.
    """
    process = reverse_process(schedule, prediction, variance)
    t = np.arange(1, schedule.num_steps)
    x_0, epsilon, value = np.random.default_rng(seed).normal(size=(3, len(t), 3))
    x_t = process.noised(x_0, epsilon, t)

    def output(at):
        target = process.target(x_0, epsilon, at)
        return np.concatenate([target, value], axis=-1) if process.learns_variance else target

    after, x_0_hat = ddim_reverse_step(process, x_t, output(t), t)
    alpha_bar = np.cumprod(schedule.alpha)[:, None]
    expected = np.sqrt(alpha_bar[t + 1]) * x_0 + np.sqrt(1 - alpha_bar[t + 1]) * epsilon
    # x_0_hat and then epsilon_hat are differences over a small signal or noise, of 1e-15 of what they are made of.
    on_output = np.abs(process.tables.x_0_on_output[t])[:, None]
    size = (1 + np.abs(x_0) + np.abs(epsilon) + np.abs(x_t)) * (1 + on_output) / process.tables.noise[t][:, None]
    size = size / np.sqrt(alpha_bar[t])
    assert np.all(np.abs(x_0_hat - x_0) <= 1e-13 * size)
    assert np.all(np.abs(after - expected) <= 1e-12 * size)
    back, _ = ddim_step(process, after, output(t + 1), t + 1, 0 * after)
    assert np.all(np.abs(back - x_t) <= 1e-11 * size / np.sqrt(alpha_bar[t + 1]))


def test_clipping_a_step_backwards_is_that_of_x_0_hat():
    process, x_t, t = reverse_process(linear(20), "x_0"), np.array([[0.2], [0.2]]), np.array([3, 7])
    after, x_0_hat = ddim_reverse_step(process, x_t, np.array([[5.0], [0.5]]), t, clip=1.0)
    assert x_0_hat.ravel().tolist() == [1.0, 0.5]
    expected, _ = ddim_reverse_step(process, x_t, np.array([[1.0], [0.5]]), t)
    np.testing.assert_array_equal(after, expected)


def there_and_back(num_steps):
    """x_T of an x_1, and the x_1 that it leads back to, over log SNRs from 4 to -4, by the exact denoiser."""
    process = reverse_process(from_log_snr(np.linspace(4, -4, num_steps)))
    x = np.array([[1.7], [-0.9]])

    def output(t):
        return exact_output(process, x, np.full(2, t))

    for t in range(1, num_steps):
        x, _ = ddim_reverse_step(process, x, output(t), np.full(2, t))
    x_T = x
    for t in range(num_steps, 1, -1):
        x, _ = ddim_step(process, x, output(t), np.full(2, t), 0 * x)
    return process.schedule, x_T, x


def test_encoding_and_decoding_are_inverse_as_steps_grow():
    """DDIM backwards takes each quantile of q(x_1) to that of q(x_T), and DDIM takes it back: to order 1 in 1 / T.

    Of Gaussian data every marginal is a Gaussian, and the flow moves the number of deviations from its mean nowhere.
    """
    encoded, decoded = [], []
    for num_steps in (100, 200, 400):
        schedule, x_T, x_1 = there_and_back(num_steps)
        (mean_1, variance_1), (mean_T, variance_T) = marginal_of(schedule, 1), marginal_of(schedule, num_steps)
        start = np.array([[1.7], [-0.9]])
        exact = mean_T + np.sqrt(variance_T / variance_1) * (start - mean_1)
        encoded.append(np.abs(x_T - exact).max())
        decoded.append(np.abs(x_1 - start).max())
    np.testing.assert_allclose(np.log2(np.divide(encoded[:-1], encoded[1:])), 1, atol=0.15)
    assert encoded[-1] < 0.02
    assert decoded[0] > 1.9 * decoded[1] > 1.9 * 1.9 * decoded[2]
    assert decoded[-1] < 0.02


@given(schedules(min_steps=2), predictions, st.integers(0, 2**32 - 1))
def test_first_step_of_dpm_solver_is_ddim(schedule, prediction, seed):
    """At t = T there is no step before, and the multistep solver takes DDIM's step."""
    process = reverse_process(schedule, prediction)
    x_t, x_0, epsilon, noise = np.random.default_rng(seed).normal(size=(4, 2, 3))
    t = np.full(2, schedule.num_steps)
    output = process.target(x_0, epsilon, t)
    one, hat = dpm_solver_step(process, x_t, output, t, None, np.full((2, 3), 5.0))
    two, _ = ddim_step(process, x_t, output, t, noise)
    deviation = np.sqrt(schedule.one_minus_alpha_bar[-1])
    assert np.all(np.abs(one - two) <= 32 * EPS * (np.abs(x_t) + np.abs(hat)) / deviation)


@given(schedules(min_steps=3), st.floats(-1, 1), st.floats(-1, 1))
def test_dpm_solver_extrapolates_to_the_middle_of_the_step(schedule, level, slope):
    """An x_0_hat linear in log SNR is used at its value halfway through the step, for 2 <= t < T."""
    process = reverse_process(schedule, "x_0")
    t = np.arange(2, schedule.num_steps)
    snr = np.append(0.0, schedule.log_snr[1:])[:, None]  # step 0, at infinity, is not used
    line = level + slope * snr
    x_t = np.ones((len(t), 1))
    got, _ = dpm_solver_step(process, x_t, line[t], t, None, line[t + 1])
    noise, signal = process.tables.noise[:, None], process.tables.signal[:, None]
    ratio = noise[t - 1] / noise[t]
    on_data = signal[t - 1] - ratio * signal[t]
    middle = level + slope * (snr[t] + snr[t - 1]) / 2
    # Log SNRs, 1e-14 off, are subtracted and their quotient taken: relative to the step before.
    before, now = snr[t] - snr[t + 1], snr[t - 1] - snr[t]
    tolerance = 1e-13 * (1 + np.abs(snr[t - 1]) + np.abs(snr[t + 1])) * (1 + now / before)
    assert np.all(np.abs(got - (ratio * x_t + on_data * middle)) <= tolerance)


def chain_error(step, num_steps, grid):
    """Distance from the closed-form flow at x_1, starting from one x_T, over log SNRs from -4 to 4 spread by `grid`."""
    schedule = from_log_snr(4 - 8 * grid(np.linspace(0, 1, num_steps + 1)))
    process = reverse_process(schedule)
    x = np.array([[1.7]])
    previous, last = np.zeros_like(x), schedule.num_steps
    for t in range(last, 1, -1):
        steps = np.array([t])
        x, previous = step(process, x, exact_output(process, x, steps), steps, np.zeros_like(x), previous)
    # The probability flow of Gaussian data moves every quantile with its marginal.
    (mean_T, variance_T), (mean_1, variance_1) = marginal_of(schedule, last), marginal_of(schedule, 1)
    exact = mean_1 + np.sqrt(variance_1 / variance_T) * (1.7 - mean_T)
    return abs(x.item() - exact)


def alternating(u):
    """Steps of 1, 3, 1, 3, ... in turn: neighbours that stay unequal however fine the grid."""
    sizes = np.where(np.arange(len(u) - 1) % 2, 3.0, 1.0)
    return np.append(0, np.cumsum(sizes)) / sizes.sum()


@pytest.mark.parametrize("grid", [lambda u: u, alternating], ids=["even", "alternating"])
@pytest.mark.parametrize(("step", "order"), [(ddim_step, 1), (dpm_solver_step, 2)])
def test_order_of_convergence(step, order, grid):
    """DDIM(0) is of first order and DPM-Solver++(2M) of second: n steps to 2n divide the error by 2 or 4."""
    errors = np.array([chain_error(step, n, grid) for n in (100, 200, 400)])
    measured = np.log2(errors[:-1] / errors[1:])
    np.testing.assert_allclose(measured, order, atol=0.15)  # the next order's share, of size 1 / n times its constant
    assert errors[-1] < (2e-2 if order == 1 else 1e-4)


def test_second_order_is_worth_it():
    """At 20 steps DPM-Solver++(2M) is at least five times closer than DDIM."""
    assert 5 * chain_error(dpm_solver_step, 20, lambda u: u) < chain_error(ddim_step, 20, lambda u: u)


@pytest.mark.parametrize("name", list(SAMPLERS))
@pytest.mark.parametrize("variance", VARIANCES)
def test_clip_bounds_x_0_hat_and_nothing_else(name, variance):
    """A clipped step is the step of an output that stands for the clipped x_0_hat."""
    process = reverse_process(linear(20), "epsilon", variance)
    rng = np.random.default_rng(1)
    t = np.arange(1, 21)
    x_t, noise, previous = rng.normal(size=(3, 20, 2))
    output = 3 * rng.normal(size=(20, 4 if process.learns_variance else 2))
    got, x_0_hat = make_sampler(name, clip=1.0)(process, x_t, output, t, noise, previous)
    unclipped = process.x_0_hat(x_t, output[:, :2], t)
    assert np.any(np.abs(unclipped) > 1)
    np.testing.assert_array_equal(x_0_hat, np.clip(unclipped, -1, 1))
    consistent = output.copy()
    consistent[:, :2] = process.epsilon_of(x_t, x_0_hat, t)
    expected, _ = make_sampler(name)(process, x_t, consistent, t, noise, previous)
    # epsilon_of divides by noise >= 1e-2 what x_0_on_output multiplies by it again.
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_samplers_by_name(name):
    """make_sampler binds the options and nothing else; a step keeps shape and runs on mixed t."""
    process = reverse_process(linear(5))
    x_t = np.ones((2, 3, 3, 1))
    t = np.array([5, 1])
    x, x_0_hat = make_sampler(name, eta=0.5)(process, x_t, 0 * x_t, t, x_t, 0 * x_t)
    assert x.shape == x_0_hat.shape == x_t.shape


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: make_sampler("euler"), "unknown sampler 'euler'; known: ancestral, ddim, dpm_solver"),
        (
            lambda: make_sampler("ddim", clip=0.0),
            "clip bounds x_0_hat to [-clip, clip] and is positive, got 0.0; None turns it off",
        ),
        (
            lambda: make_sampler("ddim", clip=np.nan),
            "clip bounds x_0_hat to [-clip, clip] and is positive, got nan; None turns it off",
        ),
        (lambda: make_sampler("ddim", eta=-0.1), "eta runs from 0 (deterministic) to 1 (ancestral), got -0.1"),
        (lambda: make_sampler("ddim", eta=1.1), "eta runs from 0 (deterministic) to 1 (ancestral), got 1.1"),
    ],
)
def test_bad_options(act, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        act()
    assert str(caught.value) == message
