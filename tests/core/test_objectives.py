"""The two objectives and what lies between them, against normal_kl of the distributions they compare."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.arrays import NUMPY, NumpyNamespace
from core.forward import posterior
from core.gaussian import discretized_log_likelihood, normal_kl, normal_log_density
from core.objectives import (
    OBJECTIVES,
    check_objective,
    epsilon_mse,
    hybrid,
    kl_weight,
    noised_batch,
    posterior_kl,
    target_mse,
    training_loss,
    unit_scale,
)
from core.reverse import reverse_process
from core.schedules import linear
from core.variances import VARIANCES
from tests.strategies import FIXED_VARIANCES, LEARNED_VARIANCES, predictions, schedules

EPS = 2.0**-52
DIMS = 3
seeds = st.integers(0, 2**32 - 1)
variances = st.sampled_from([*VARIANCES])


def every_step(schedule, process, seed):
    """A noised batch with one example of DIMS numbers for each t = 1..T, and a network's output for it."""
    rng = np.random.default_rng(seed)
    x_0 = rng.uniform(-1, 1, (schedule.num_steps, DIMS))
    if process.levels is not None:
        x_0 = np.rint((x_0 + 1) / 2 * (process.levels - 1)) / (process.levels - 1) * 2 - 1
    t = np.arange(1, schedule.num_steps + 1)
    batch = noised_batch(process, x_0, rng.normal(size=x_0.shape), t)
    error = rng.normal(size=x_0.shape) * 10 ** rng.uniform(-3, 0)
    output = process.target(batch.x_0, batch.epsilon, t) + error
    if process.learns_variance:
        output = np.concatenate([output, rng.uniform(-1.5, 1.5, x_0.shape)], axis=-1)
    return batch, output


@given(schedules(min_steps=2), predictions, variances, st.sampled_from(["next", "beta"]), seeds)
def test_posterior_kl_is_the_kl_of_posterior_and_model(schedule, prediction, variance, first_variance, seed):
    """L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p_theta(x_{t-1} | x_t)) from the two means and variances, t >= 2."""
    process = reverse_process(schedule, prediction, variance, first_variance=first_variance)
    batch, output = every_step(schedule, process, seed)
    predicted, value = process.split(output)
    t = batch.t
    q = posterior(schedule, t)
    on_x_0, on_x_t = q.on_x_0[:, None], q.on_x_t[:, None]
    x_0_hat = process.x_0_hat(batch.x_t, predicted, t)
    mean_p, mean_q = process.mean(batch.x_t, x_0_hat, t), on_x_0 * batch.x_0 + on_x_t * batch.x_t
    log_var_p = np.broadcast_to(process.log_variance(value, t, batch.x_t), mean_p.shape)
    with np.errstate(invalid="ignore"):
        kl = normal_kl(mean_q, q.log_variance[:, None], mean_p, log_var_p)
    # Here the two means are subtracted, so their rounding counts, divided by the variance.
    made_of = np.abs(process.tables.x_0_on_x_t[t][:, None] * batch.x_t) + np.abs(
        process.tables.x_0_on_output[t][:, None] * predicted
    )
    rounding = 16 * EPS * (on_x_0 * (made_of + np.abs(batch.x_0)) + on_x_t * np.abs(batch.x_t))
    slack = (np.abs(mean_q - mean_p) * rounding + rounding**2) * np.exp(-log_var_p)
    # The difference of log variances, up to 14 in size, enters with a slope of exp(d) - 1.
    slack = slack + 64 * EPS * np.abs(np.expm1(q.log_variance[:, None] - log_var_p)) + 1e-13 * np.abs(kl) + 1e-29
    got = posterior_kl(process, batch, output)
    assert got.shape == t.shape
    assert np.all(np.abs(got - kl.sum(axis=1))[1:] <= slack.sum(axis=1)[1:])
    assert np.all(got[1:] >= 0)


@given(schedules(), predictions, variances, st.sampled_from(["next", "beta"]), st.none() | st.integers(2, 256), seeds)
def test_first_term_is_the_decoder(schedule, prediction, variance, first_variance, levels, seed):
    """At t = 1 the term is -log p_theta(x_0 | x_1): a density, or the mass of a level."""
    process = reverse_process(schedule, prediction, variance, first_variance=first_variance, levels=levels)
    batch, output = every_step(schedule, process, seed)
    predicted, value = process.split(output)
    x_0_hat = process.x_0_hat(batch.x_t, predicted, batch.t)[0]
    log_var = process.log_variance(value, batch.t, batch.x_t) + 0 * batch.x_0
    x_0, log_var = batch.x_0[0], log_var[0]
    if levels is None:
        nats = -normal_log_density(x_0, x_0_hat, log_var)
    else:
        nats = -discretized_log_likelihood(x_0, x_0_hat, log_var, levels)
    # x_0 - x_0_hat, z sigma in size, is formed from larger numbers here.
    made_of = abs(process.tables.x_0_on_x_t[1] * batch.x_t[0]) + abs(process.tables.x_0_on_output[1] * predicted[0]) + 1
    z = (np.abs(x_0 - x_0_hat) + (0 if levels is None else 1 / (levels - 1))) * np.exp(-0.5 * log_var)
    slack = 16 * EPS * (made_of * np.exp(-0.5 * log_var) + 1) * (1 + z) + 64 * EPS * (1 + z**2)
    if levels is not None:
        slack = slack * (1 + (levels - 1) * np.exp(0.5 * log_var))  # a bin narrower than sigma is a difference
    assert abs(posterior_kl(process, batch, output)[0] - nats.sum()) <= slack.sum()


@given(schedules(min_steps=2), predictions, st.sampled_from(FIXED_VARIANCES), seeds)
def test_one_weight_apart(schedule, prediction, variance, seed):
    """With a fixed variance L_{t-1} = kl_weight * ||epsilon - epsilon_hat||^2, plus the cost of the variance itself."""
    process = reverse_process(schedule, prediction, variance)
    batch, output = every_step(schedule, process, seed)
    later = slice(1, None)
    weight = kl_weight(schedule, batch.t, variance)
    of_variance = DIMS * process.tables.kl_of_variances[batch.t]
    expected = weight[later] * DIMS * epsilon_mse(process, batch, output)[later] + of_variance[later]
    # Tables within 1e-14, a handful of them multiplied.
    np.testing.assert_allclose(posterior_kl(process, batch, output)[later], expected, rtol=1e-13)
    if variance == "beta_tilde":
        assert np.all(of_variance == 0)


@given(schedules(min_steps=2))
def test_kl_weight_is_half_the_fall_in_snr(schedule):
    """kl_weight for beta tilde is expm1(log_snr[t-1] - log_snr[t]) / 2 (VDM, eq. 14), and infinite at t = 1."""
    t = np.arange(1, schedule.num_steps + 1)
    weight, fall = kl_weight(schedule, t), -np.diff(schedule.log_snr[1:])
    assert weight[0] == np.inf
    # The fall is a difference of log SNRs, each 1e-14 off, and the weight grows as it or as its exp.
    relative_error = np.abs(weight[1:] - 0.5 * np.expm1(fall)) / weight[1:]
    assert np.all(relative_error < 1e-14 + 4e-14 * (1 + 1 / fall))
    ratio = schedule.one_minus_alpha_bar[t - 1] / schedule.one_minus_alpha_bar[t]
    np.testing.assert_allclose(weight[1:] * ratio[1:], kl_weight(schedule, t, "beta")[1:], rtol=1e-14)


@given(schedules(), predictions, variances, seeds)
def test_epsilon_mse_is_the_error_of_epsilon_hat(schedule, prediction, variance, seed):
    """L_simple is a mean over dims of (epsilon - epsilon_hat)^2, whatever the network predicts."""
    process = reverse_process(schedule, prediction, variance)
    batch, output = every_step(schedule, process, seed)
    predicted, _ = process.split(output)
    epsilon_hat = process.epsilon_hat(batch.x_t, predicted, batch.t)
    rows = batch.t[:, None]
    made_of = np.abs(process.tables.epsilon_on_x_t[rows] * batch.x_t) + np.abs(
        process.tables.epsilon_on_output[rows]
    ) * (np.abs(predicted) + 4)
    rounding = 16 * EPS * (made_of + np.abs(batch.epsilon))
    error = np.abs(batch.epsilon - epsilon_hat)
    slack = (2 * error * rounding + rounding**2).mean(axis=1) + 1e-14 * (error**2).mean(axis=1)
    assert np.all(np.abs(epsilon_mse(process, batch, output) - (error**2).mean(axis=1)) <= slack)
    of_target = (process.target(batch.x_0, batch.epsilon, batch.t) - predicted) ** 2
    np.testing.assert_allclose(target_mse(process, batch, output), of_target.mean(axis=1), rtol=1e-14)
    if prediction == "epsilon":
        np.testing.assert_array_equal(target_mse(process, batch, output), epsilon_mse(process, batch, output))


@given(schedules(), predictions, st.sampled_from(["next", "beta"]), st.none() | st.integers(2, 64), seeds)
def test_learned_variance_at_its_ends_is_the_fixed_one(schedule, prediction, first_variance, levels, seed):
    """posterior_kl with learned range at -1 and 1, and learned diagonal at 0, is that of beta tilde and beta."""
    options = {"first_variance": first_variance, "levels": levels}
    fixed = {kind: reverse_process(schedule, prediction, kind, **options) for kind in FIXED_VARIANCES}
    # The upper end of the range is beta at t = 1 too, whatever its lower end is there.
    fixed["beta"] = reverse_process(schedule, prediction, "beta", first_variance="beta", levels=levels)
    batch, output = every_step(schedule, fixed["beta"], seed)
    for kind, value, same_as in (
        ("learned_range", -1.0, "beta_tilde"),
        ("learned_range", 1.0, "beta"),
        ("learned_diagonal", 0.0, "beta_tilde"),
    ):
        learned = reverse_process(schedule, prediction, kind, **options)
        with_value = np.concatenate([output, np.full_like(output, value)], axis=-1)
        expected = posterior_kl(fixed[same_as], batch, output)
        # The log variances differ by rounding, 14 EPS, and the KL by that times its size plus one.
        got = posterior_kl(learned, batch, with_value)
        narrow = 1.0 if levels is None else 1 + (levels - 1)
        np.testing.assert_allclose(got, expected, rtol=1e-12 * narrow, atol=1e-14 * narrow)


@given(schedules(min_steps=2), predictions, st.sampled_from(LEARNED_VARIANCES), seeds)
def test_hybrid_is_the_sum_of_both(schedule, prediction, variance, seed):
    """L_simple + lambda T L_{t-1} in bits per dim."""
    process = reverse_process(schedule, prediction, variance)
    batch, output = every_step(schedule, process, seed)
    bits = posterior_kl(process, batch, output) * schedule.num_steps / DIMS / math.log(2)
    expected = epsilon_mse(process, batch, output) + 0.25 * bits
    np.testing.assert_allclose(hybrid(process, batch, output, vlb_weight=0.25), expected, rtol=1e-13, atol=1e-13)


@given(schedules(min_steps=2), predictions, st.sampled_from(LEARNED_VARIANCES), seeds)
def test_hybrid_moves_the_mean_by_l_simple_alone(schedule, prediction, variance, seed):
    """With stop_gradient's argument held at its first value, as autodiff holds it, hybrid changes with the prediction
    as L_simple does, and with the variance as lambda L_vlb does.
    """
    process = reverse_process(schedule, prediction, variance)
    batch, output = every_step(schedule, process, seed)
    held, _ = process.split(output)

    class Detached(NumpyNamespace):
        @staticmethod
        def stop_gradient(x):
            return held

    moved = output.copy()
    moved[:, :DIMS] += 0.1
    change = hybrid(process, batch, moved, Detached) - hybrid(process, batch, output, Detached)
    of_simple = epsilon_mse(process, batch, moved) - epsilon_mse(process, batch, output)
    size = np.abs(hybrid(process, batch, moved, Detached)) + np.abs(hybrid(process, batch, output, Detached))
    assert np.all(np.abs(change - of_simple) <= 4 * EPS * (size + epsilon_mse(process, batch, moved)))

    moved = output.copy()
    moved[:, DIMS:] += 0.1
    change = hybrid(process, batch, moved, Detached) - hybrid(process, batch, output, Detached)
    bits = schedule.num_steps / DIMS / math.log(2)
    of_vlb = 1e-3 * bits * (posterior_kl(process, batch, moved) - posterior_kl(process, batch, output))
    size = 1e-3 * bits * (np.abs(posterior_kl(process, batch, moved)) + np.abs(posterior_kl(process, batch, output)))
    assert np.all(np.abs(change - of_vlb) <= 16 * EPS * (size + epsilon_mse(process, batch, output)))


@given(schedules(), predictions, variances, st.sampled_from(["epsilon_mse", "target_mse", "posterior_kl"]))
def test_unit_scale(schedule, prediction, variance, objective):
    """scale * loss, of a zero output on data of unit variance, above that of the target itself, is 1 on average over t.

    All four pairs (+-1, +-1) of (x_0, epsilon) have unit variance and no correlation, which is all a quadratic sees.
    """
    process = reverse_process(schedule, prediction, variance)
    x_0, epsilon = np.array([(a, b) for a in (-1.0, 1.0) for b in (-1.0, 1.0)]).T[:, :, None]
    at_floor = {"learned_range": -1.0, "learned_diagonal": 0.0}.get(variance)
    means = []
    for t in range(1, schedule.num_steps + 1):
        batch = noised_batch(process, x_0, epsilon, np.full(4, t))
        target = process.target(x_0, epsilon, batch.t)
        outputs = [0 * target, target]
        if at_floor is not None:
            outputs = [np.concatenate([o, np.full_like(o, at_floor)], axis=-1) for o in outputs]
        zero, best = (training_loss(process, objective, batch, output) for output in outputs)
        means.append(np.mean(zero - best))
    # The decoder's log variance, up to 14, is subtracted; so is the KL of the variances.
    scale = unit_scale(process, objective)
    assert scale * np.mean(means) == pytest.approx(1, rel=1e-12, abs=1e-13 * scale)


def test_unit_scale_of_the_hybrid_is_one():
    assert unit_scale(reverse_process(linear(5), variance="learned_range"), "hybrid") == 1


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("levels", [None, 17])
def test_losses_are_finite_one_per_example_of_any_shape(variance, levels):
    """(N, L, C) and (N, H, W, C), in float32 as in float64: same numbers to float32's accuracy."""
    process = reverse_process(linear(50), variance=variance, levels=levels)
    single = process.cast(lambda table: np.asarray(table, np.float32))
    rng = np.random.default_rng(0)
    for shape in ((6, 5, 2), (6, 4, 4, 2)):
        x_0 = np.rint(rng.uniform(0, 16, shape)) / 8 - 1
        epsilon, t = rng.normal(size=shape), np.array([1, 2, 3, 10, 49, 50])
        output = rng.normal(size=(*shape[:-1], 4 if process.learns_variance else 2))
        for name, objective in OBJECTIVES.items():
            if name == "hybrid" and not process.learns_variance:
                continue
            double = objective.loss(process, noised_batch(process, x_0, epsilon, t), output, NUMPY)
            batch = noised_batch(single, x_0.astype(np.float32), epsilon.astype(np.float32), t)
            got = objective.loss(single, batch, output.astype(np.float32), NUMPY)
            assert got.shape == (6,)
            assert got.dtype == np.float32
            # Errors are of the size of the target, so float32 rounds them by 1e-7; squares and sums over bins of
            # 1e4 sigma^2 carry that on.
            np.testing.assert_allclose(got, double, rtol=1e-5, err_msg=name)


def test_training_loss_is_per_dim():
    process = reverse_process(linear(5))
    batch, output = every_step(linear(5), process, 0)
    np.testing.assert_array_equal(
        training_loss(process, "posterior_kl", batch, output), posterior_kl(process, batch, output) / DIMS
    )
    np.testing.assert_array_equal(
        training_loss(process, "epsilon_mse", batch, output), epsilon_mse(process, batch, output)
    )


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: kl_weight(linear(3), 0), "steps run from 1 to 3, got 0; step 0 is the data"),
        (lambda: kl_weight(linear(3), 1.5), "steps are integers, got float64 values 1.5; round them first"),
        (
            lambda: kl_weight(linear(3), 1, "learned_range"),
            "kl_weight knows the fixed variances beta_tilde and beta, got 'learned_range'",
        ),
        (
            lambda: check_objective("mse", "beta"),
            "unknown objective 'mse'; known: epsilon_mse, posterior_kl, target_mse, hybrid",
        ),
        (
            lambda: check_objective("epsilon_mse", "learned_range"),
            "epsilon_mse has no gradient for a learned_range variance; use posterior_kl or hybrid",
        ),
        (
            lambda: check_objective("target_mse", "learned_diagonal"),
            "target_mse has no gradient for a learned_diagonal variance; use posterior_kl or hybrid",
        ),
        (
            lambda: check_objective("hybrid", "beta"),
            "hybrid trains a learned variance, got beta; use learned_range or learned_diagonal",
        ),
    ],
)
def test_bad_pairings(act, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        act()
    assert str(caught.value) == message


@pytest.mark.parametrize("variance", VARIANCES)
def test_good_pairings(variance):
    check_objective("posterior_kl", variance)
    check_objective("hybrid" if variance in LEARNED_VARIANCES else "epsilon_mse", variance)
