"""The rows of an evaluation, worked out by hand from losses that are known at every t.

T = 9, so that every stratum of the bound is one step, and a loss that depends on t alone is met without error.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from core.schedules import linear
from studies.datasets.mixture import STD, load, means
from tests.studies.custody.entry import make_cell, run_alone, value_of, values_of
from tests.studies.custody.fake_backend import FLOW_RATE, of_t

T, DIMS = 9, 3
SETTINGS = {"num_steps": T, "sample_steps": 3}
MSE = np.array([0.9, 0.5, 0.45, 0.3, 0.2, 0.11, 0.07, 0.05, 0.02])
KL = np.array([3.0, 1.7, 1.1, 0.8, 0.5, 0.31, 0.2, 0.13, 0.05])
BIT = DIMS * math.log(2)
"""Nats per example in a bit per dim."""


def prior_by_hand(examples: np.ndarray) -> float:
    """KL(q(x_T | x_0) || N(0, I)) in nats, its mean over examples; by the formula as it stands."""
    alpha_bar = np.prod(1 - linear(T).beta[1:])
    v = 1 - alpha_bar
    return float(np.mean(0.5 * np.sum(v - 1 - np.log(v) + alpha_bar * examples**2, axis=1)))


@pytest.fixture
def known(fake):
    fake.losses = of_t(MSE, KL)
    return fake


@pytest.fixture
def rows(known, points, tmp_path):
    """On the linear schedule, whose few small steps leave a prior term that counts."""
    return run_alone(tmp_path, make_cell(points, schedule="linear"), known, points, **SETTINGS)


def test_the_bound_is_the_prior_and_the_sum_of_its_terms_in_bits_per_dim(rows, points):
    prior = prior_by_hand(np.load(points)["test"])
    assert prior > 0.5
    assert value_of(rows, "bound_prior") == pytest.approx(prior / BIT, rel=1e-9)
    assert value_of(rows, "bound_decoder") == pytest.approx(KL[0] / BIT, rel=1e-12)
    assert value_of(rows, "bound_diffusion") == pytest.approx(KL[1:].sum() / BIT, rel=1e-12)
    assert value_of(rows, "bound") == pytest.approx((prior + KL.sum()) / BIT, rel=1e-9)
    assert value_of(rows, "epsilon_mse") == pytest.approx(MSE.mean(), rel=1e-12)
    for t in range(1, T + 1):
        assert value_of(rows, "bound_at_t", t=t) == pytest.approx(KL[t - 1] / BIT, rel=1e-12)
        assert value_of(rows, "epsilon_mse_at_t", t=t) == pytest.approx(MSE[t - 1], rel=1e-12)
    assert rows[rows["metric"] == "bound_at_t"]["t"].tolist() == list(range(1, T + 1))
    assert rows[rows["metric"] == "bound_at_t"]["t_last"].tolist() == list(range(1, T + 1))


def test_a_bound_without_scatter_has_the_error_of_its_prior_alone(rows, points):
    """Terms that are known at every t leave nothing to steps and noise; the test set is still a sample."""
    test = np.load(points)["test"]
    alpha_bar = np.prod(1 - linear(T).beta[1:])
    of_examples = np.std(0.5 * alpha_bar * np.sum(test**2, axis=1), ddof=1) / math.sqrt(len(test))
    assert value_of(rows, "bound_step_se") == pytest.approx(0, abs=1e-12)
    assert value_of(rows, "bound_noise_se") == pytest.approx(0, abs=1e-12)
    assert value_of(rows, "bound_data_se") == pytest.approx(of_examples / BIT, rel=1e-9)
    assert value_of(rows, "bound_total_se") == pytest.approx(of_examples / BIT, rel=1e-9)


def test_the_parts_of_the_bounds_error_add_up(fake, points, tmp_path):
    """Steps and noise make its standard error; with the test set's being a sample, the total."""
    rows = run_alone(tmp_path, make_cell(points), fake, points, bound_evaluations=400, **SETTINGS)
    error = float(rows.loc[rows["metric"] == "bound", "standard_error"].iloc[0])
    step, noise, data, total = (value_of(rows, f"bound_{part}_se") for part in ("step", "noise", "data", "total"))
    assert min(step, noise, data) > 0
    assert step**2 + noise**2 == pytest.approx(error**2, rel=1e-9)
    assert error**2 + data**2 == pytest.approx(total**2, rel=1e-9)


def test_losses_that_noise_does_not_move_have_an_error_of_steps(fake, points, tmp_path):
    """Every visit of an example at a step is then alike; the noise that is subtracted in vain leaves a little."""

    def of_examples(weights, process, draws):
        value = 2 + np.sin(7 * draws.t * draws.x_0[:, 0])
        return value, value

    fake.losses = of_examples
    rows = run_alone(tmp_path, make_cell(points), fake, points, bound_evaluations=60, **SETTINGS)
    assert 0 < value_of(rows, "bound_noise_se") < 0.5 * value_of(rows, "bound_step_se")


def test_the_bound_says_what_it_cost(known, points, tmp_path):
    rows = run_alone(tmp_path, make_cell(points), known, points, **SETTINGS)
    evaluations = len(known.evaluations[0].bound.t)
    assert value_of(rows, "bound_evaluations") == pytest.approx(evaluations / 12)


def test_the_rows_of_a_cell_that_train_it_say_how_large_it_is(known, points, tmp_path):
    rows = run_alone(tmp_path, make_cell(points), known, points, **SETTINGS)
    assert value_of(rows, "parameters") == sum(array.size for array in known.trainings[0].initial.values())


def test_rate_and_distortion_are_the_terms_of_the_bound_read_as_a_code(rows, points):
    """The rate at t is what is spent before it; the distortion that of x_0_hat = (x_t - sigma epsilon_hat) / alpha."""
    prior, beta = prior_by_hand(np.load(points)["test"]), linear(T).beta[1:]
    alpha_bar = np.cumprod(1 - beta)
    for t in range(1, T + 1):
        assert value_of(rows, "rate_at_t", t=t) == pytest.approx((prior + KL[t:].sum()) / BIT, rel=1e-9)
        rmse = math.sqrt((1 - alpha_bar[t - 1]) / alpha_bar[t - 1] * MSE[t - 1])
        assert value_of(rows, "distortion_at_t", t=t) == pytest.approx(rmse, rel=1e-9)
    assert value_of(rows, "rate") == pytest.approx((prior + KL[1:].sum()) / BIT, rel=1e-9)
    assert value_of(rows, "distortion") == pytest.approx(KL[0] / BIT, rel=1e-12)
    assert value_of(rows, "rmse") == pytest.approx(math.sqrt(beta[0] / (1 - beta[0]) * MSE[0]), rel=1e-9)


def test_floors_and_what_lies_above_them_add_up_to_the_losses(rows, points):
    """At every t and in total; of the bound's floor the prior term is the training set's."""
    prior = prior_by_hand(np.load(points)["train"])
    for t in range(1, T + 1):
        mse = value_of(rows, "epsilon_mse_floor_at_t", t=t) + value_of(rows, "epsilon_mse_above_floor_at_t", t=t)
        kl = value_of(rows, "bound_floor_at_t", t=t) + value_of(rows, "bound_above_floor_at_t", t=t)
        assert mse == pytest.approx(MSE[t - 1], rel=1e-9)
        assert kl == pytest.approx(KL[t - 1] / BIT, rel=1e-9)
    total = value_of(rows, "bound_floor") + value_of(rows, "bound_above_floor")
    assert total == pytest.approx((prior + KL.sum()) / BIT, rel=1e-9)
    assert value_of(rows, "bound_floor") == pytest.approx(
        prior / BIT + sum(values_of(rows, "bound_floor_at_t")), rel=1e-9
    )
    mse = value_of(rows, "epsilon_mse_floor") + value_of(rows, "epsilon_mse_above_floor")
    assert mse == pytest.approx(MSE.mean(), rel=1e-9)


def test_the_floor_of_the_epsilon_mse_is_the_variance_of_epsilon_given_x_t(known, points, tmp_path):
    """From the two passes, one deviation of x_0 apart on either side; epsilon's is that times sqrt(SNR)."""
    rows = run_alone(tmp_path, make_cell(points), known, points, **SETTINGS)
    evaluation = known.evaluations[0]
    floors, alpha_bar = evaluation.floors, evaluation.made.process.schedule.alpha_bar
    count = len(floors.t) // 2
    variance = 0.25 * np.mean((floors.x_0[:count] - floors.x_0[count:]) ** 2, axis=1)
    for t in range(1, T + 1):
        at_t = floors.t[:count] == t
        by_hand = alpha_bar[t] / (1 - alpha_bar[t]) * variance[at_t].mean()
        assert value_of(rows, "epsilon_mse_floor_at_t", t=t) == pytest.approx(by_hand, rel=1e-6, abs=1e-12)
        error = alpha_bar[t] / (1 - alpha_bar[t]) * np.std(variance[at_t], ddof=1) / math.sqrt(at_t.sum())
        (found,) = rows[(rows["metric"] == "epsilon_mse_floor_at_t") & (rows["t"] == t)]["standard_error"]
        assert found == pytest.approx(error, rel=1e-6, abs=1e-12)


def test_the_flow_is_its_solution_behind_the_models_own_decoder(known, points, tmp_path):
    """dx / d lambda = r x from x_1 to x_T, whose density is normal: the log density at x_1 is that of x_T plus D r
    (lambda_T - lambda_1); before it stand the decoder's nats and log q(x_1 | x_0)."""
    rows = run_alone(tmp_path, make_cell(points), known, points, **SETTINGS)
    evaluation = known.evaluations[0]
    schedule, start = evaluation.made.process.schedule, evaluation.flow_end
    alpha_bar = schedule.alpha_bar[1]
    x_1 = math.sqrt(alpha_bar) * start.x_0 + math.sqrt(1 - alpha_bar) * start.epsilon
    span = schedule.log_snr[-1] - schedule.log_snr[1]
    x_T = x_1 * math.exp(FLOW_RATE * span)
    log_p = norm.logpdf(x_T).sum(axis=1) + DIMS * FLOW_RATE * span
    log_q = norm.logpdf(x_1, math.sqrt(alpha_bar) * start.x_0, math.sqrt(1 - alpha_bar)).sum(axis=1)
    nats = float(np.mean(KL[0] + log_q - log_p))
    assert value_of(rows, "flow_decoder") == pytest.approx(nats / BIT, rel=1e-6)
    chosen = np.unique(start.x_0, axis=0)
    alpha_bar_T = schedule.alpha_bar[-1]
    v = 1 - alpha_bar_T
    prior = float(np.mean(0.5 * np.sum(v - 1 - np.log(v) + alpha_bar_T * chosen**2, axis=1)))
    bound = (prior + KL.sum()) / BIT
    assert value_of(rows, "flow_examples") == len(chosen) == 4
    assert value_of(rows, "flow_bound") == pytest.approx(bound, rel=1e-6)
    assert value_of(rows, "flow_minus_bound") == pytest.approx(nats / BIT - bound, rel=1e-6)
    # For fresh data: the scatter of the examples' own differences, whose terms of the bound are all alike.
    by_example = (log_q - log_p).reshape(2, 4).mean(axis=0)
    prior_by_example = 0.5 * alpha_bar_T * np.sum(start.x_0[:4] ** 2, axis=1)
    scatter = np.std(by_example - prior_by_example, ddof=1) / math.sqrt(4)
    assert value_of(rows, "flow_minus_bound_total_se") == pytest.approx(scatter / BIT, rel=1e-6)


def test_the_error_of_flow_minus_bound_is_that_of_both(fake, points, tmp_path):
    rows = run_alone(tmp_path, make_cell(points), fake, points, **SETTINGS)
    error = rows.set_index("metric")["standard_error"]
    parts = error["flow_decoder"], error["flow_bound"]
    assert min(parts) > 0
    assert error["flow_minus_bound"] == pytest.approx(math.hypot(*parts), rel=1e-9)


def test_the_gap_to_the_entropy_is_that_to_the_test_examples_own_surprise(known, tmp_path):
    """Of the mixture of eight, by its density as it stands."""
    rows = run_alone(tmp_path, make_cell("mixture", schedule="linear"), known, "mixture", test_examples=50, **SETTINGS)
    test = load().test[:50]
    density = np.mean(np.prod(norm.pdf(test[:, None], means(), STD), axis=2), axis=1)
    bound = (prior_by_hand(test) + KL.sum()) / (2 * math.log(2))
    assert value_of(rows, "bound") == pytest.approx(bound, rel=1e-9)
    gap = bound + np.mean(np.log(density)) / (2 * math.log(2))
    assert value_of(rows, "bound_above_entropy") == pytest.approx(gap, rel=1e-9)


def test_samples_are_kept_as_they_came_with_their_guesses(fake, points, tmp_path):
    """samples.npz: the backend's x_0 of both chains, and its guesses at the visited steps of the whole chain."""
    cell = make_cell(points)
    run_alone(tmp_path, cell, fake, points)
    respaced, whole = fake.evaluations[0].chains
    with np.load(tmp_path / "cells" / cell.id / "samples.npz") as arrays:
        for chain, name in ((respaced, "ancestral-4"), (whole, "ancestral-12")):
            np.testing.assert_array_equal(arrays[name], chain.x_0.astype(np.float32))
            steps = arrays[f"{name}/trajectory_steps"]
            assert steps.tolist() == [chain.process.schedule.steps[t] for t in chain.keep]
            assert arrays[f"{name}/trajectory"][:, 0, 0].tolist() == list(chain.keep)
            assert steps[0] == 12
        assert respaced.x_T.shape == (6, 3)
        assert whole.x_T.shape == (3, 3)
