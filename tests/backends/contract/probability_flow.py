"""The probability flow's field: held to the numpy conversion, to finite differences, and to an oracle's density."""

from __future__ import annotations

from abc import abstractmethod
from itertools import product
from typing import Any

import numpy as np
import pytest

from backends.networks import MLPSettings
from core.oracles import GaussianMixture
from core.predictions import PREDICTIONS
from core.probability_flow import basis_probes, density_end, flow_log_density, with_exact_divergence
from core.reverse import reverse_process
from core.schedules import from_log_snr, linear
from tests.backends.contract.base import Contract
from tests.backends.reference import FLOAT32, FLOAT64, random_weights, unet_settings
from tests.oracle_probability_flow import MIXTURES, drawn

EVEN = from_log_snr(np.linspace(9, -20, 300))  # log SNR is linear in t, so the step told gives it back


class MixtureNetwork:
    """The exact denoiser as a network predicting epsilon, for chains like EVEN; a backend says how it is computed."""

    variables = ()

    def __init__(self, oracle: GaussianMixture) -> None:
        self.oracle, self.settings = oracle, MLPSettings((oracle.dims,))

    @staticmethod
    def log_snr(told: Any) -> Any:
        return 9 - (told - 1) * (29 / 299)


class ProbabilityFlowContract(Contract):
    """Numbers that are the reference's, and bad input refused in one line."""

    @abstractmethod
    def mixture_network(self, oracle: GaussianMixture) -> MixtureNetwork:
        """epsilon_hat of the mixture in the framework's own operations."""

    @pytest.mark.parametrize("prediction", PREDICTIONS)
    @pytest.mark.parametrize("variance", ["beta_tilde", "learned_range"])
    def test_right_hand_side_at_whole_steps(self, prediction, variance):
        """(sigma^2 x - sigma epsilon_hat) / 2 with the epsilon_hat of the process, at the step of the table."""
        process = reverse_process(linear(100), prediction, variance)
        network = self.small_network(process)
        field, x = (
            self.backend.place(network, process, FLOAT64).flow_field(),
            np.random.default_rng(0).standard_normal((4, 3)),
        )
        for t in (1, 2, 50, 100):
            steps = np.full(4, t)
            output, _ = process.split(self.call(network, x, steps))
            noise = process.tables.noise[t]
            expected = 0.5 * noise * (noise * x - process.epsilon_hat(x, output, steps))
            dx, along = field(x, process.schedule.log_snr[t], np.ones((2, 4, 3)))
            # A predicted mean is divided by its share of x_0: 1e-4 here.
            np.testing.assert_allclose(dx, expected, rtol=1e-8, atol=1e-8)
            assert dx.dtype == np.float64
            assert along.shape == (2, 4)

    @pytest.mark.parametrize("shape", ["points", "images"])
    def test_jacobian_is_that_of_the_right_hand_side(self, shape):
        """v^T J v by central differences, between two steps; the error is h^2 and 1e-16 / h."""
        process = reverse_process(linear(100), "v")
        network = self.small_network(process)
        if shape == "images":
            settings = unet_settings()
            network = self.backend.make_network(settings, random_weights(settings), FLOAT64)
        field, rng, h = self.backend.place(network, process, FLOAT64).flow_field(), np.random.default_rng(0), 1e-5
        x, probes = (
            rng.standard_normal((3, *network.settings.shape)),
            rng.standard_normal((2, 3, *network.settings.shape)),
        )
        log_snr = 0.3 * process.schedule.log_snr[40] + 0.7 * process.schedule.log_snr[41]
        _, along = field(x, log_snr, probes)
        for v, found in zip(probes, along, strict=True):
            rise = field(x + h * v, log_snr, probes)[0] - field(x - h * v, log_snr, probes)[0]
            expected = np.sum(v * rise, axis=tuple(range(1, x.ndim))) / (2 * h)
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)

    def test_all_rademacher_probes_together_give_the_exact_divergence(self):
        """The mean over the 2^3 sign vectors is the sum over the 3 unit vectors, which is the trace."""
        process = reverse_process(linear(100))
        field = self.backend.place(self.small_network(process), process, FLOAT64).flow_field()
        x, log_snr = np.random.default_rng(0).standard_normal((5, 3)), process.schedule.log_snr[20] - 0.01
        signs = np.repeat(np.array(list(product([-1.0, 1.0], repeat=3)))[:, None], 5, axis=1)
        trace = field(x, log_snr, basis_probes(x.shape))[1].sum(axis=0)
        np.testing.assert_allclose(field(x, log_snr, signs)[1].mean(axis=0), trace, rtol=1e-12)
        np.testing.assert_allclose(with_exact_divergence(field)(x, log_snr)[1], trace[None], rtol=1e-14)

    def test_an_example_does_not_see_its_batch(self):
        process = reverse_process(linear(100))
        field = self.backend.place(self.small_network(process), process, FLOAT64).flow_field()
        x, probes = np.random.default_rng(0).standard_normal((6, 3)), np.ones((1, 6, 3))
        together, alone = field(x, 0.5, probes), field(x[2:3], 0.5, probes[:, 2:3])
        np.testing.assert_allclose(alone[0], together[0][2:3], rtol=1e-12)
        np.testing.assert_allclose(alone[1], together[1][:, 2:3], rtol=1e-12)

    def test_float32_is_float64_rounded(self):
        process = reverse_process(linear(1000))
        x, probes = np.random.default_rng(0).standard_normal((4, 3)), np.ones((2, 4, 3))
        exact, rounded = (
            self.backend.place(self.small_network(process, execution), process, execution).flow_field()
            for execution in (FLOAT64, FLOAT32)
        )
        for log_snr in (process.schedule.log_snr[1], 1.234, process.schedule.log_snr[-1]):
            for ours, theirs in zip(rounded(x, log_snr, probes), exact(x, log_snr, probes), strict=True):
                np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())

    @pytest.mark.parametrize("oracle", MIXTURES, ids=["1-D", "2-D"])
    def test_log_likelihood_of_the_oracle(self, oracle):
        """Within 1e-3 nats per dim of the true density of x_1, at every point."""
        process = reverse_process(EVEN)
        field = self.backend.place(self.mixture_network(oracle), process, FLOAT64).flow_field()
        end = density_end(EVEN, drawn(oracle, 50))
        got = flow_log_density(with_exact_divergence(field), end.x, EVEN.log_snr[1], EVEN.log_snr[-1], 64)[0]
        truth = oracle.marginal(EVEN, 1).log_density(end.x)
        np.testing.assert_allclose(got, truth, atol=1e-3 * oracle.dims)

    def test_bad_input_is_refused(self):
        process = reverse_process(linear(100))
        network = self.small_network(process)
        field = self.backend.place(network, process, FLOAT64).flow_field()
        with pytest.raises(ValueError, match=r"x has shape \(2, 3\) and probes \(P, \*\(2, 3\)\) for this network"):
            field(np.zeros((2, 3)), 0.0, np.zeros((1, 3, 3)))
        with pytest.raises(ValueError, match="the flow runs between log SNRs"):
            field(np.zeros((2, 3)), 99.0, np.zeros((1, 2, 3)))
        with pytest.raises(ValueError, match="needs a network with learns_variance=True, got False"):
            self.backend.place(network, reverse_process(linear(100), variance="learned_range"), FLOAT64).flow_field()
