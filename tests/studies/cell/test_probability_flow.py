"""The evaluation of a flow, on oracles: values, error bars, independence of batches, and what it says of itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from core.oracles import GaussianMixture
from core.probability_flow import density_end, flow_log_density
from core.reverse import reverse_process
from core.schedules import from_log_snr
from studies.cell.probability_flow import FlowEstimate, FlowSettings, evaluate_flow, flow_rows
from tests.oracle_probability_flow import MIXTURES, drawn, oracle_field

SCHEDULE = from_log_snr(np.linspace(9, -30, 200))
CONTINUOUS = reverse_process(SCHEDULE)
GAUSSIAN = GaussianMixture([1.0], [[0.2, -0.1, 0.0]], [[0.3, 0.5, 0.1]])


def gaussian_field(oracle: GaussianMixture):
    """A backend's field for one Gaussian, whose Jacobian is diagonal; plus a known off-diagonal part `twist`."""
    mean, variance = oracle.means[0], oracle.variances[0]
    twist = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])[: oracle.dims, : oracle.dims]

    def field(x, log_snr, probes):
        noise = 1 / (1 + math.exp(log_snr))
        share = 1 - noise
        slope = 0.5 * noise * (1 - 1 / (share * variance + noise))
        dx = 0.5 * noise * x - 0.5 * noise * (x - math.sqrt(share) * mean) / (share * variance + noise)
        along = np.einsum("pnd,d,pnd->pn", probes, slope, probes)
        return dx, along + 0.05 * np.einsum("pnd,de,pne->pn", probes, twist, probes)

    return field


def decoder_terms(draws):
    """-log p(x_0 | x_1) of the exact posterior of GAUSSIAN, for the draw's noise."""
    share, noise = SCHEDULE.alpha_bar[1], SCHEDULE.one_minus_alpha_bar[1]
    x_1 = math.sqrt(share) * draws.x_0 + math.sqrt(noise) * draws.epsilon
    precision = 1 / GAUSSIAN.variances[0] + share / noise
    center = (GAUSSIAN.means[0] / GAUSSIAN.variances[0] + math.sqrt(share) * x_1 / noise) / precision
    nats = 0.5 * (np.log(2 * math.pi / precision) + precision * (draws.x_0 - center) ** 2).sum(axis=1)
    assert np.all(draws.t == 1)
    return 0 * nats, nats


def test_density_end_is_the_blurred_density():
    """Exact divergence, nothing drawn: the mean of -log density of the oracle, blurred, and no error bar but data's."""
    test = drawn(GAUSSIAN, 40)
    estimate = evaluate_flow(gaussian_field(GAUSSIAN), CONTINUOUS, test, 0, FlowSettings(end="density", tolerance=1e-5))
    blurred = GaussianMixture([1.0], GAUSSIAN.means, GAUSSIAN.variances + math.exp(-SCHEDULE.log_snr[1]))
    np.testing.assert_allclose(estimate.per_example, -blurred.log_density(test), atol=1e-4)
    assert estimate.draws.shape == (1, 1, 40)
    assert (estimate.standard_error, estimate.probe_standard_error, estimate.unresolved) == (0, 0, 0)
    scatter = estimate.per_example.std(ddof=1) / math.sqrt(40)
    assert estimate.total_standard_error == pytest.approx(scatter, rel=1e-12)
    assert estimate.solver_change <= 3e-5


def test_decoder_end_with_the_exact_decoder():
    """The true likelihood, for every draw of the noise."""
    test = drawn(GAUSSIAN, 10)
    estimate = evaluate_flow(
        gaussian_field(GAUSSIAN), CONTINUOUS, test, 0, FlowSettings(tolerance=1e-5), terms=decoder_terms, batch_size=4
    )
    truth = np.broadcast_to(-GAUSSIAN.log_density(test), (1, 2, 10))
    np.testing.assert_allclose(estimate.draws, truth, atol=1e-4)
    assert estimate.nats == pytest.approx(truth.mean(), abs=1e-4)


def test_uniform_end_is_at_least_the_entropy():
    """Bits of a distribution over 3 levels under a flow that is not its own: at least its entropy."""
    chances = np.array([0.5, 0.3, 0.2])
    test = np.repeat([[-1.0], [0.0], [1.0]], [10, 6, 4], axis=0)
    oracle = GaussianMixture([1.0], [[-0.3]], [[0.6]])
    process = reverse_process(SCHEDULE, levels=3)
    estimate = evaluate_flow(gaussian_field(oracle), process, test, 0, FlowSettings(end="uniform", repeats=8))
    entropy = -float(chances @ np.log(chances))
    assert estimate.nats > entropy
    assert estimate.standard_error > 0
    # The cross entropy of the bins' masses, from which Jensen's inequality and the draws keep it by little.
    edges = norm.cdf([-1.5, -0.5, 0.5, 1.5], -0.3, math.sqrt(0.6 + math.exp(-SCHEDULE.log_snr[estimate.step])))
    cross = -float(chances @ np.log(np.diff(edges)))
    assert cross < estimate.nats + 4 * estimate.standard_error
    assert estimate.nats < cross + 0.1 + 4 * estimate.standard_error


def test_probes_are_unbiased_and_their_error_bar_is_right():
    """Hutchinson's estimate of the twisted Jacobian scatters about the exact one: z within 4, a false alarm in 16,000.

    The twist adds 0.05 * 2 v_1 v_2 to the divergence at every lambda, so each probe is off by 0.1 times the range.
    """
    test, field = drawn(GAUSSIAN, 60), gaussian_field(GAUSSIAN)
    exact = evaluate_flow(field, CONTINUOUS, test, 0, FlowSettings(end="density", tolerance=1e-3))
    probed = FlowSettings(end="density", exact=False, probes=4, tolerance=1e-3)
    estimate = evaluate_flow(field, CONTINUOUS, test, 0, probed)
    assert estimate.draws.shape == (4, 1, 60)
    span = SCHEDULE.log_snr[1] - SCHEDULE.log_snr[-1]
    expected = 0.1 * span / math.sqrt(4 * 60)
    assert estimate.probe_standard_error == pytest.approx(expected, rel=0.15)
    assert estimate.standard_error == estimate.probe_standard_error
    assert abs(estimate.nats - exact.nats) < 4 * expected
    np.testing.assert_allclose(np.abs(estimate.draws - exact.draws), 0.1 * span, rtol=1e-3)


def test_neither_the_batch_size_nor_the_other_examples_change_a_value():
    test, field = drawn(GAUSSIAN, 7), gaussian_field(GAUSSIAN)

    def run(examples, batch_size):
        return evaluate_flow(
            field,
            CONTINUOUS,
            examples,
            3,
            FlowSettings(exact=False, probes=2, tolerance=1e-3),
            terms=decoder_terms,
            batch_size=batch_size,
        ).draws

    together = run(test, 256)
    np.testing.assert_allclose(run(test, 3), together, rtol=1e-12)
    np.testing.assert_allclose(run(test[:4], 256), together[:, :, :4], rtol=1e-12)


def test_two_dims_of_a_mixture_have_no_error_to_speak_of():
    """The oracle of `tests.oracle_probability_flow` gives the same through the harness's rules of refinement."""
    oracle, test = MIXTURES[1], drawn(MIXTURES[1], 20)
    exact = oracle_field(oracle)

    def field(x, log_snr, probes):
        dx, divergence = exact(x, log_snr)
        return dx, np.repeat(divergence / len(probes), len(probes), axis=0)

    estimate = evaluate_flow(field, CONTINUOUS, test, 0, FlowSettings(end="density", tolerance=1e-4))
    end = density_end(SCHEDULE, test)
    truth = end.nats - flow_log_density(exact, end.x, SCHEDULE.log_snr[1], SCHEDULE.log_snr[-1], 512)[0]
    np.testing.assert_allclose(estimate.per_example, truth, atol=2e-4)
    assert estimate.evaluations_per_example < 4 * (16 + 32 + 64 + 128 + 256 + 512)


def test_rows_say_how_it_was_done():
    draws = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    rows = flow_rows(FlowEstimate(draws, "decoder", 1, 4, True, 1e-4, 1e-5, 0, 800))
    values = {row["metric"]: row["value"] for row in rows}
    assert values["flow_decoder"] == pytest.approx(2.5 / (4 * math.log(2)))
    assert values["flow_decoder_evaluations"] == 400
    assert values["flow_decoder_unresolved"] == 0
    assert values["flow_decoder_solver_change"] == pytest.approx(1e-5 / (4 * math.log(2)))
    # Two draws an example that differ by 2: a variance of 2 each, 1 for their mean, over two examples.
    assert rows[0]["standard_error"] == pytest.approx(math.sqrt(0.5) / (4 * math.log(2)))


def test_an_error_bar_that_is_not_known_is_not_made_up():
    one_draw = FlowEstimate(np.zeros((1, 1, 3)), "decoder", 1, 4, True, 1e-4, 0.0, 0, 1)
    assert math.isnan(one_draw.standard_error)
    one_probe = FlowEstimate(np.zeros((1, 1, 3)), "density", 1, 4, False, 1e-4, 0.0, 0, 1)
    assert math.isnan(one_probe.standard_error)


def test_a_diverged_flow_is_reported():
    def field(x, log_snr, probes):
        return np.full_like(x, np.nan), np.full(probes.shape[:2], np.nan)

    estimate = evaluate_flow(field, CONTINUOUS, np.zeros((3, 2)), 0, FlowSettings(end="density", max_steps=32))
    assert math.isnan(estimate.nats)
    assert estimate.unresolved == 3


def test_bad_requests():
    field, levels, test = gaussian_field(GAUSSIAN), reverse_process(SCHEDULE, levels=3), np.zeros((2, 3))
    with pytest.raises(ValueError, match="unknown data end 'noise'; known: decoder, uniform, density"):
        evaluate_flow(field, CONTINUOUS, test, 0, FlowSettings(end="noise"))
    with pytest.raises(ValueError, match="takes the decoder's term from terms=bound_terms"):
        evaluate_flow(field, CONTINUOUS, test, 0)
    with pytest.raises(ValueError, match="only data on levels is dequantised"):
        evaluate_flow(field, CONTINUOUS, test, 0, FlowSettings(end="uniform"))
    with pytest.raises(ValueError, match="data on 3 levels has no density"):
        evaluate_flow(field, levels, test, 0, FlowSettings(end="density"))
    with pytest.raises(ValueError, match="repeats and probes are at least 1, got 0 and None"):
        evaluate_flow(field, CONTINUOUS, test, 0, FlowSettings(end="density", repeats=0))
