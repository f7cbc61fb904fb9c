"""What a model adds to the oracle's floor: nothing for the oracle itself, and what its error costs for any other."""

from __future__ import annotations

import numpy as np
import pytest

from core.objectives import epsilon_mse, noised_batch, posterior_kl
from core.oracles import EmpiricalDistribution, GaussianMixture, optimal_output
from core.predictions import PREDICTIONS
from core.reverse import reverse_process
from core.schedules import linear
from core.variances import VARIANCES
from studies.cell.bound import evaluate_bound
from studies.cell.floors import entropy_rows, evaluate_excess, excess_rows
from studies.datasets import load_dataset, mixture
from tests.strategies import FIXED_VARIANCES

SCHEDULE = linear(60)
MIXTURE = GaussianMixture([0.3, 0.7], [[-0.8, 0.1], [0.5, -0.2]], [[0.04, 0.3], [0.09, 0.02]])
LEVELS = EmpiricalDistribution(np.random.default_rng(0).integers(0, 9, (12, 3)) / 4 - 1)


def denoiser_terms(process, oracle, off=0.0):
    """Both losses of the oracle's answer, its prediction `off` by as much, as a backend's `bound_terms` gives them."""

    def terms(draws):
        batch = noised_batch(process, draws.x_0, draws.epsilon, draws.t)
        output = optimal_output(process, oracle, batch.x_t, draws.t)
        output[..., : draws.x_0.shape[-1]] += off
        return epsilon_mse(process, batch, output), posterior_kl(process, batch, output)

    return terms


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_oracle_adds_nothing(prediction, variance):
    """Its losses are the floors, at every draw: what is left is rounding."""
    process = reverse_process(SCHEDULE, prediction, variance)
    excess = evaluate_excess(denoiser_terms(process, MIXTURE), process, MIXTURE, 0)
    np.testing.assert_allclose(excess.mse.mean, 0, atol=1e-10)
    np.testing.assert_allclose(excess.kl.mean, 0, atol=1e-8)  # nats, of terms up to thousands
    assert np.all(excess.mse_floor.mean > 0)


@pytest.mark.parametrize("variance", FIXED_VARIANCES)
def test_an_error_costs_its_square(variance):
    """Epsilon off by c everywhere adds c^2 per dim, and its weight times that to the KL, with no error bar."""
    process = reverse_process(SCHEDULE, "epsilon", variance)
    excess = evaluate_excess(denoiser_terms(process, MIXTURE, off=0.1), process, MIXTURE, 0)
    np.testing.assert_allclose(excess.mse.mean, 0.01, rtol=1e-8)
    np.testing.assert_allclose(excess.mse.standard_error, 0, atol=1e-10)
    single = excess.strata.size == 1
    weight = process.tables.kl_on_squared_error[excess.strata.first]
    np.testing.assert_allclose(excess.kl.mean[single], 0.02 * weight[single], rtol=1e-7)


def test_bounds_differ_by_what_is_above_the_floor():
    """The bound of a worse denoiser less the oracle's, on fresh data: z within 4, a false alarm in 16,000."""
    process = reverse_process(SCHEDULE, "v", "learned_range")
    rng = np.random.default_rng(1)
    test = MIXTURE.sample(rng.random(2000), rng.standard_normal((2000, 2)))
    best, worse = (evaluate_bound(denoiser_terms(process, MIXTURE, off), process, test, 0) for off in (0.0, 0.2))
    rows = excess_rows(evaluate_excess(denoiser_terms(process, MIXTURE, 0.2), process, MIXTURE, 0))
    total = {row["metric"]: row for row in rows if "t" not in row}
    bits = 2 * np.log(2)
    above, floor = total["bound_above_floor"], total["bound_floor"]
    error = np.hypot(worse.standard_error, best.standard_error) / bits
    assert abs((worse.nats - best.nats) / bits - above["value"]) < 4 * np.hypot(error, above["standard_error"])
    error = np.hypot(best.total_standard_error / bits, floor["standard_error"])
    assert abs(best.nats / bits - floor["value"]) < 4 * error
    by_t = [row for row in rows if row["metric"] == "bound_above_floor_at_t"]
    assert sum(row["value"] * (row["t_last"] - row["t"] + 1) for row in by_t) == pytest.approx(above["value"])


def test_a_training_set_on_levels():
    """At t = 1 the term is a probability's and the floor 0; elsewhere the training set's own denoiser adds nothing."""
    process = reverse_process(SCHEDULE, levels=9)
    excess = evaluate_excess(denoiser_terms(process, LEVELS), process, LEVELS, 0)
    assert excess.kl_floor.mean[0] == 0
    assert 0 <= excess.kl.mean[0] < 1e-6  # the decoder is far narrower than a level
    np.testing.assert_allclose(excess.kl.mean[1:], 0, atol=1e-7)
    worse = evaluate_excess(denoiser_terms(process, LEVELS, off=20.0), process, LEVELS, 0)
    assert worse.kl.mean[0] > 1


def test_a_floor_that_is_not_finite_has_no_rows():
    """A density made of points has no least cost at t = 1 where the variance is learned."""
    process, data = reverse_process(SCHEDULE, variance="learned_diagonal"), EmpiricalDistribution(LEVELS.points)
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = excess_rows(evaluate_excess(denoiser_terms(process, data), process, data, 0))
    metrics = {row["metric"] for row in rows}
    assert "bound_above_floor" not in metrics
    assert "epsilon_mse_above_floor" in metrics
    assert min(row["t"] for row in rows if row["metric"] == "bound_above_floor_at_t") == 2
    assert all(np.isfinite(row["value"]) for row in rows)


def test_gap_to_the_entropy():
    """Of the oracle on the mixture data set: what the chain costs, with less chance in it than in the bound."""
    data, truth = load_dataset("mixture"), mixture.distribution()
    process = reverse_process(linear(1000).respaced(40), variance="learned_diagonal")
    estimate = evaluate_bound(denoiser_terms(process, truth), process, data.test, 0)
    rows = {row["metric"]: row for row in entropy_rows(estimate, truth, data.test)}
    # Components far apart: the entropy of one plus the log of their number, to their overlap.
    bits = 2 * np.log(2)
    apart = (np.log(2 * np.pi * np.e * mixture.STD**2) + np.log(mixture.COMPONENTS)) / bits
    assert rows["entropy"]["value"] == pytest.approx(apart, abs=2e-3)
    gap = rows["bound_above_entropy"]
    assert gap["standard_error"] < estimate.total_standard_error / bits
    floor = next(
        row
        for row in excess_rows(evaluate_excess(denoiser_terms(process, truth), process, truth, 0))
        if row["metric"] == "bound_floor"
    )
    error = np.hypot(gap["standard_error"], floor["standard_error"])
    assert abs(gap["value"] - (floor["value"] - rows["entropy"]["value"])) < 4 * error
