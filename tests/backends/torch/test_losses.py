"""Losses, bound terms and gradients in PyTorch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.reverse import reverse_process
from core.schedules import linear
from tests.backends.contract.losses import LossesContract
from tests.backends.reference import FLOAT64, make_draws
from tests.backends.torch.helpers import OnTorch

pytestmark = pytest.mark.torch


class TestLikelihood(OnTorch, LossesContract):
    """What every backend does, and torch.compile."""

    @pytest.mark.parametrize("objective", ["epsilon_mse", pytest.param("posterior_kl", marks=pytest.mark.slow)])
    def test_compiled_agrees_with_eager(self, objective):
        """torch.compile of forward pass, loss and gradient: float64, so only the order of sums differs."""
        process = reverse_process(linear(100), levels=17 if objective == "posterior_kl" else None)
        network, compiled = self.small_network(process), replace(FLOAT64, compile=True)
        draws = make_draws(process, (3,))
        loss, gradients = self.backend.place(network, process, FLOAT64).loss_and_gradients(objective, draws)
        fast_loss, fast_gradients = self.backend.place(network, process, compiled).loss_and_gradients(objective, draws)
        np.testing.assert_allclose(fast_loss, loss, rtol=1e-12)
        for name, gradient in gradients.items():
            np.testing.assert_allclose(fast_gradients[name], gradient, rtol=1e-10, atol=1e-12 * np.abs(gradient).max())
