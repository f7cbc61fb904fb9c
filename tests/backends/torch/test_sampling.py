"""Sampling in PyTorch."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from core.reverse import reverse_process
from core.samplers import make_sampler
from core.schedules import linear
from tests.backends.contract.sampling import SamplingContract
from tests.backends.reference import FLOAT64, noise_of
from tests.backends.torch.helpers import OnTorch

pytestmark = pytest.mark.torch


class TestSampling(OnTorch, SamplingContract):
    """What every backend does, and torch.compile."""

    @pytest.mark.slow
    def test_compiled_sampling_agrees_with_eager(self):
        process = reverse_process(linear(100).respaced(4))
        network = self.small_network(process, size=0.2)
        x_T = np.random.default_rng(0).standard_normal((4, 3))
        sampler, noise = make_sampler("ancestral"), partial(noise_of, x_T.shape)
        eager, compiled = (
            self.backend.place(network, process, execution).sample(sampler, x_T, noise)[0]
            for execution in (FLOAT64, replace(FLOAT64, compile=True))
        )
        np.testing.assert_allclose(compiled, eager, rtol=1e-10, atol=1e-11 * np.abs(eager).max())
