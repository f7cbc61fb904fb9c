"""The probability flow in both frameworks: the same field, and the same likelihood of the same test set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import backends.keras
import backends.torch

import tensorflow as tf  # isort: skip
from core.predictions import PREDICTIONS
from core.reverse import reverse_process
from core.schedules import linear
from studies.cell.probability_flow import FlowSettings, evaluate_flow
from tests.backends.reference import FLOAT64, mlp_settings, random_weights, unet_settings

pytestmark = pytest.mark.parity

FRAMEWORKS = (backends.torch, backends.keras)


@pytest.fixture
def op_by_op() -> Iterator[None]:
    """Tracing a graph for each of a few calls would take most of the time; Keras's own tests compare graphs."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def fields(settings, process, size=0.3):
    weights = random_weights(settings, size=size)
    networks = [backend.make_network(settings, weights, FLOAT64) for backend in FRAMEWORKS]
    return networks, [b.place(n, process, FLOAT64).flow_field() for b, n in zip(FRAMEWORKS, networks, strict=True)]


@pytest.mark.usefixtures("op_by_op")
@pytest.mark.parametrize("settings", [mlp_settings(), mlp_settings(True), unet_settings()], ids=["mlp", "2C", "unet"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_fields_agree(settings, prediction):
    """float64: the same operations in another order, between steps as at them."""
    variance = "learned_range" if settings.learns_variance else "beta_tilde"
    process = reverse_process(linear(100), prediction, variance)
    _, (torch_field, keras_field) = fields(settings, process)
    rng = np.random.default_rng(0)
    x, probes = rng.standard_normal((3, *settings.shape)), rng.standard_normal((2, 3, *settings.shape))
    for log_snr in (process.schedule.log_snr[1], 1.234, process.schedule.log_snr[-1]):
        for ours, theirs in zip(torch_field(x, log_snr, probes), keras_field(x, log_snr, probes), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10 * np.abs(theirs).max())


@pytest.mark.parametrize(("end", "levels"), [("decoder", 17), ("density", None)])
def test_likelihoods_agree(end, levels):
    """nats, error bars and work: the draws are those of the seed, in either framework."""
    process = reverse_process(linear(100), levels=levels)
    networks, ours = fields(mlp_settings(), process, size=0.1)
    test = np.random.default_rng(0).integers(0, 17, (6, 3)) / 8 - 1
    torch_estimate, keras_estimate = (
        evaluate_flow(
            field,
            process,
            test,
            0,
            FlowSettings(end=end, exact=False, probes=2, tolerance=1e-2, first_steps=4, max_steps=16),
            terms=backend.place(network, process, FLOAT64).bound_terms(),
        )
        for backend, network, field in zip(FRAMEWORKS, networks, ours, strict=True)
    )
    np.testing.assert_allclose(torch_estimate.draws, keras_estimate.draws, rtol=1e-9)
    assert torch_estimate.evaluations == keras_estimate.evaluations
    assert torch_estimate.standard_error == pytest.approx(keras_estimate.standard_error, rel=1e-7)
