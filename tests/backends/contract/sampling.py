"""Chains on a device against the same chains in numpy, with the network's outputs in common."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from core.predictions import PREDICTIONS
from core.reverse import reverse_process
from core.samplers import make_sampler
from core.schedules import linear
from core.variances import VARIANCES
from tests.backends.contract.base import Contract
from tests.backends.reference import FLOAT32, FLOAT64, noise_of, numpy_chain, random_weights, unet_settings
from tests.oracle_samplers import step_by_hand


class SamplingContract(Contract):
    """Every sampler takes the path it takes in numpy."""

    @pytest.mark.parametrize("variance", VARIANCES)
    @pytest.mark.parametrize("prediction", ["epsilon", "v"])
    @pytest.mark.parametrize(
        "sampler",
        [
            make_sampler("ancestral"),
            make_sampler("ancestral", clip=1.0),
            make_sampler("ddim", eta=0.5),
            make_sampler("dpm_solver", clip=1.0),
        ],
        ids=["ancestral", "ancestral clipped", "ddim", "dpm_solver"],
    )
    def test_chains_are_those_of_the_reference(self, sampler, prediction, variance):
        """x_0, and every x_0_hat on the way, of a chain respaced from 100 steps to 8."""
        process = reverse_process(linear(100).respaced(8), prediction, variance)
        network = self.small_network(process, size=0.2)
        x_T = np.random.default_rng(0).standard_normal((4, 3))
        expected, kept = numpy_chain(self.bound(network), process, sampler, x_T)
        x_0, trajectory = self.backend.place(network, process, FLOAT64).sample(
            sampler, x_T, partial(noise_of, x_T.shape), keep=range(1, 9)
        )
        # Errors of rounding grow with the chain's own numbers, which an untrained network lets grow.
        np.testing.assert_allclose(x_0, expected, rtol=1e-10, atol=1e-11 * np.abs(expected).max())
        assert trajectory.keys() == kept.keys()
        for t, x_0_hat in kept.items():
            np.testing.assert_allclose(trajectory[t], x_0_hat, rtol=1e-10, atol=1e-11 * np.abs(x_0_hat).max())

    @pytest.mark.parametrize("variance", VARIANCES)
    @pytest.mark.parametrize("prediction", PREDICTIONS)
    def test_chains_are_those_of_the_papers(self, prediction, variance):
        """Four steps of every sampler by the papers' equations, which know no table of `core`."""
        schedule = linear(100, 1e-3, 0.1).respaced(4)
        process = reverse_process(schedule, prediction, variance)
        network = self.small_network(process, size=0.2)
        x_T = np.random.default_rng(0).standard_normal((4, 3))
        for sampler, options in (("ancestral", {}), ("ddim", {"eta": 0.5}), ("dpm_solver", {"clip": 2.0})):
            x, x_0_hat = x_T, np.zeros_like(x_T)
            for t in range(4, 0, -1):
                output = self.call(network, x, np.full(4, schedule.steps[t]))
                x, x_0_hat = step_by_hand(
                    schedule.beta[1:], sampler, prediction, variance, t,
                    x, output, noise_of(x_T.shape, t), x_0_hat, **options,
                )  # fmt: skip
            found, _ = self.backend.place(network, process, FLOAT64).sample(
                make_sampler(sampler, **options), x_T, partial(noise_of, x_T.shape)
            )
            # As above, but for what the papers' form loses by subtraction.
            np.testing.assert_allclose(found, x, rtol=1e-8, atol=1e-9 * np.abs(x).max(), err_msg=sampler)

    def test_images_are_sampled_in_float32(self):
        """A U-Net's whole chain, within float32 of the float64 reference; only the steps asked for are kept."""
        settings = unet_settings()
        process = reverse_process(linear(20, 1e-3, 0.3))
        weights = random_weights(settings, size=0.1)
        x_T = np.random.default_rng(0).standard_normal((2, *settings.shape))
        sampler = make_sampler("ancestral", clip=1.0)
        exact = self.backend.make_network(settings, weights, FLOAT64)
        expected, _ = numpy_chain(self.bound(exact), process, sampler, x_T)
        network = self.backend.make_network(settings, weights, FLOAT32)
        x_0, trajectory = self.backend.place(network, process, FLOAT32).sample(
            sampler, x_T, partial(noise_of, x_T.shape), keep=[20, 3]
        )
        assert x_0.dtype == np.float32
        assert list(trajectory) == [20, 3]
        np.testing.assert_allclose(x_0, expected, atol=2e-5)

    def test_a_sampler_that_adds_no_noise_needs_none(self):
        process = reverse_process(linear(10))
        network = self.small_network(process, size=0.2)
        x_T = np.random.default_rng(0).standard_normal((4, 3))
        for name in ("ddim", "dpm_solver"):
            drawn = [
                self.backend.place(network, process, FLOAT64).sample(make_sampler(name), x_T, noise)[0]
                for noise in (partial(noise_of, x_T.shape), None)
            ]
            np.testing.assert_array_equal(*drawn)

    def test_noise_is_asked_for_once_a_step_from_the_first(self):
        process = reverse_process(linear(10))
        network = self.small_network(process, size=0.2)
        asked = []

        def noise(t):
            asked.append(t)
            return noise_of((4, 3), t)

        self.backend.place(network, process, FLOAT64).sample(make_sampler("ancestral"), np.zeros((4, 3)), noise)
        assert asked == list(range(10, 0, -1))

    def test_bad_starts_are_one_line_errors(self):
        process = reverse_process(linear(10))
        network = self.small_network(process)
        noise = partial(noise_of, (4, 3))
        sampler = make_sampler("ancestral")
        with pytest.raises(ValueError, match=r"x_T has shape \(4, 3\) for this network, got \(4, 2\)"):
            self.backend.place(network, process, FLOAT64).sample(sampler, np.zeros((4, 2)), noise)
        with pytest.raises(ValueError, match="steps run from 1 to 10, got 11"):
            self.backend.place(network, process, FLOAT64).sample(sampler, np.zeros((4, 3)), noise, keep=[11])
