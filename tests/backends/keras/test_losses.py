"""Losses, bound terms and gradients in Keras on TensorFlow: op by op, as graphs, and through XLA."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from core.reverse import reverse_process
from core.schedules import linear
from tests.backends.contract.losses import LossesContract
from tests.backends.keras.helpers import OnKeras
from tests.backends.reference import FLOAT64, make_draws, random_weights, unet_settings

pytestmark = pytest.mark.keras


class TestLikelihood(OnKeras, LossesContract):
    """What every backend does, and compilation."""

    @pytest.mark.usefixtures("graphs")
    @pytest.mark.parametrize(
        ("variance", "objective", "xla"),
        [("beta", "posterior_kl", False), ("learned_range", "hybrid", False), ("learned_range", "hybrid", True)],
        ids=["KL graph", "hybrid graph", "hybrid XLA"],
    )
    def test_compiled_agrees_with_op_by_op(self, variance, objective, xla):
        """Forward pass, loss and gradient as one graph: float64, so only the order of sums differs."""
        process = reverse_process(linear(100), variance=variance, levels=17)
        network, execution = self.small_network(process), replace(FLOAT64, compile=xla)
        draws = make_draws(process, (3,))
        loss, gradients = self.backend.place(network, process, execution).loss_and_gradients(objective, draws)
        terms = self.backend.place(network, process, execution).bound_terms()(draws)
        tf.config.run_functions_eagerly(True)
        plain_loss, plain = self.backend.place(network, process, FLOAT64).loss_and_gradients(objective, draws)
        np.testing.assert_allclose(loss, plain_loss, rtol=1e-12)
        for name, gradient in plain.items():
            np.testing.assert_allclose(gradients[name], gradient, rtol=1e-10, atol=1e-12 * np.abs(gradient).max())
        np.testing.assert_allclose(
            terms, self.backend.place(network, process, FLOAT64).bound_terms()(draws), rtol=1e-12
        )

    @pytest.mark.usefixtures("graphs")
    def test_a_unet_as_a_graph_agrees_with_op_by_op(self):
        """Convolutions, normalisation and attention too."""
        settings = unet_settings()
        process = reverse_process(linear(100), levels=17)
        network = self.backend.make_network(settings, random_weights(settings), FLOAT64)
        draws = make_draws(process, settings.shape)
        loss, gradients = self.backend.place(network, process, FLOAT64).loss_and_gradients("posterior_kl", draws)
        tf.config.run_functions_eagerly(True)
        plain_loss, plain = self.backend.place(network, process, FLOAT64).loss_and_gradients("posterior_kl", draws)
        np.testing.assert_allclose(loss, plain_loss, rtol=1e-12)
        largest = max(np.abs(gradient).max() for gradient in plain.values())
        for name, gradient in plain.items():
            np.testing.assert_allclose(gradients[name], gradient, rtol=1e-10, atol=1e-13 * largest)
