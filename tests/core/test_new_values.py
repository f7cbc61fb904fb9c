"""A new objective and a new prediction are right wherever core uses them, with nothing to change but their registry."""

from __future__ import annotations

import numpy as np
import pytest

from core.learned_schedule import check_learnable
from core.objectives import (
    OBJECTIVES,
    Losses,
    as_objective,
    check_objective,
    epsilon_mse,
    noised_batch,
    posterior_kl,
    recorded_losses,
    training_loss,
    unit_scale,
)
from core.predictions import PREDICTIONS
from core.probability_flow import ProbabilityFlow, flow_terms
from core.reverse import reverse_process
from core.samplers import make_sampler
from core.schedules import cosine, linear
from core.variances import VARIANCES
from tests.new_values import GAMMA, INVENTED_MSE, SCORE
from tests.strategies import LEARNED_VARIANCES

SCHEDULE = linear(30, 1e-3, 0.3)
T = np.arange(1, 31)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(OBJECTIVES, INVENTED_MSE.name, INVENTED_MSE)
    monkeypatch.setitem(PREDICTIONS, SCORE.name, SCORE)


def a_batch(prediction, variance="beta_tilde", levels=None):
    """Every step once, with an output that stands for the same epsilon_hat under either prediction."""
    process = reverse_process(SCHEDULE, prediction, variance, levels=levels)
    rng = np.random.default_rng(0)
    x_0 = rng.integers(0, 17, (30, 3, 2)) / 8 - 1
    epsilon, epsilon_hat, value = rng.standard_normal((3, *x_0.shape))
    noise = np.sqrt(SCHEDULE.one_minus_alpha_bar[T])[:, None, None]
    output = epsilon_hat if prediction == "epsilon" else -epsilon_hat / noise
    if process.learns_variance:
        output = np.concatenate([output, value], axis=-1)
    return process, noised_batch(process, x_0, epsilon, T), output


@pytest.mark.usefixtures("registered")
def test_a_registered_name_is_its_value():
    process = reverse_process(SCHEDULE, "invented_score")
    assert process.prediction is SCORE
    assert as_objective("invented_mse") is INVENTED_MSE
    check_objective("invented_mse", "beta")
    _, batch, output = a_batch(SCORE)
    np.testing.assert_array_equal(
        training_loss(process, "invented_mse", batch, output), training_loss(process, INVENTED_MSE, batch, output)
    )


@pytest.mark.parametrize("prediction", [SCORE, *PREDICTIONS])
@pytest.mark.parametrize("schedule", [SCHEDULE, cosine(20)], ids=str)
def test_its_unit_scale_is_1_at_the_start(schedule, prediction):
    """A network that puts out 0 on unit-variance data has a scaled loss of 1, exactly, over all signs of both."""
    process = reverse_process(schedule, prediction)
    t = np.arange(1, schedule.num_steps + 1)
    losses = []
    for x_0, epsilon in ((1.0, 1.0), (1.0, -1.0)):
        batch = noised_batch(process, np.full((len(t), 1), x_0), np.full((len(t), 1), epsilon), t)
        losses.append(training_loss(process, INVENTED_MSE, batch, np.zeros((len(t), 1))))
    assert np.mean(losses) * unit_scale(process, INVENTED_MSE) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("variance", LEARNED_VARIANCES)
def test_it_is_refused_where_it_could_not_train(variance):
    """A learned variance would get no gradient, and a schedule the gradient of something other than the bound."""
    with pytest.raises(ValueError, match=rf"^invented_mse has no gradient for a {variance} variance; use posterior_kl"):
        check_objective(INVENTED_MSE, variance)
    with pytest.raises(ValueError, match=r"^a learned schedule needs posterior_kl, .* got invented_mse"):
        check_learnable(INVENTED_MSE)


def test_each_objective_remembers_its_own_loss():
    """A new one by default; the hybrid the KL, its term that is hard to sample."""
    losses = Losses("the MSE", "the KL", "the trained loss")
    remembered = {name: objective.remembers(losses) for name, objective in OBJECTIVES.items()}
    assert remembered == {
        "epsilon_mse": "the trained loss",
        "posterior_kl": "the KL",
        "target_mse": "the trained loss",
        "hybrid": "the KL",
    }
    assert INVENTED_MSE.remembers(losses) == "the trained loss"


def test_what_is_recorded_beside_it():
    """Its own loss, by hand, and the two that are recorded whatever is trained."""
    process, batch, output = a_batch(SCORE, levels=17)
    recorded = recorded_losses(
        process, INVENTED_MSE, batch, output, training_loss(process, INVENTED_MSE, batch, output)
    )
    mse = epsilon_mse(process, batch, output)
    np.testing.assert_array_equal(recorded.epsilon_mse, mse)
    np.testing.assert_array_equal(recorded.posterior_kl, posterior_kl(process, batch, output))
    np.testing.assert_allclose(recorded.trained, np.minimum(1, GAMMA * np.exp(-SCHEDULE.log_snr[T])) * mse, rtol=1e-12)


@pytest.mark.parametrize("levels", [None, 17])
@pytest.mark.parametrize("variance", VARIANCES)
def test_a_new_prediction_has_the_losses_and_samples_of_what_it_stands_for(variance, levels):
    """The score is epsilon in another unit: every loss and every sampler's step agrees with epsilon's, to rounding."""
    by_epsilon, by_score = a_batch("epsilon", variance, levels), a_batch(SCORE, variance, levels)
    for loss in (epsilon_mse, posterior_kl):
        np.testing.assert_allclose(loss(*by_score), loss(*by_epsilon), rtol=1e-9)
    noise = np.random.default_rng(1).standard_normal(by_epsilon[1].x_0.shape)
    for name in ("ancestral", "ddim", "dpm_solver"):
        steps = [
            make_sampler(name, clip=1.0)(process, batch.x_t, output, T, noise, 0 * noise)
            for process, batch, output in (by_epsilon, by_score)
        ]
        np.testing.assert_allclose(steps[1], steps[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("prediction", ["epsilon", SCORE, "x_0", "v"], ids=str)
def test_its_probability_flow(prediction):
    """(sigma^2 x - sigma epsilon_hat) / 2 between steps as at them, where nothing has to be interpolated."""
    flow = ProbabilityFlow(reverse_process(SCHEDULE, prediction))
    x, epsilon_hat = np.random.default_rng(0).standard_normal((2, 1, 4))
    for log_snr in np.linspace(SCHEDULE.log_snr[1], SCHEDULE.log_snr[-1], 23):
        signal, noise = 1 / np.sqrt(1 + np.exp(-log_snr)), 1 / np.sqrt(1 + np.exp(log_snr))
        x_0_hat = (x - noise * epsilon_hat) / signal
        output = {"epsilon": epsilon_hat, "invented_score": -epsilon_hat / noise, "x_0": x_0_hat}.get(
            str(prediction), signal * epsilon_hat - noise * x_0_hat
        )
        dx, _ = flow_terms(flow.coefficients(log_snr), x, output, np.ones((1, 1, 4)), np.ones((1, 1)))
        np.testing.assert_allclose(dx, 0.5 * (noise**2 * x - noise * epsilon_hat), atol=1e-12)
