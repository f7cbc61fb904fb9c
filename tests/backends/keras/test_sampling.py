"""Sampling in Keras on TensorFlow."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from backends.chains import compiled_step, family_of
from core.reverse import reverse_process
from core.samplers import make_sampler
from core.schedules import linear
from tests.backends.contract.sampling import SamplingContract
from tests.backends.keras.helpers import OnKeras
from tests.backends.reference import FLOAT64, noise_of, numpy_chain

pytestmark = pytest.mark.keras


class TestSampling(OnKeras, SamplingContract):
    """What every backend does, and compilation."""

    @pytest.mark.usefixtures("graphs")
    def test_chains_of_any_length_share_one_compiled_step(self):
        """The same network, sampler and variance: the step is traced for the first chain and for none after it."""
        process = reverse_process(linear(100))
        network = self.small_network(process, size=0.2)
        x_T = np.random.default_rng(0).standard_normal((4, 3))
        before = compiled_step.cache_info()
        for steps in (4, 7, 10):
            chain = reverse_process(linear(100).respaced(steps))
            self.backend.place(network, chain, FLOAT64).sample(make_sampler("ddim"), x_T, None)
        after = compiled_step.cache_info()
        assert (after.misses - before.misses, after.hits - before.hits) == (1, 2)
        step = compiled_step(family_of(self.backend.place(network, process, FLOAT64)), make_sampler("ddim"))
        assert step.experimental_get_tracing_count() == 1

    @pytest.mark.usefixtures("graphs")
    @pytest.mark.parametrize("xla", [False, True], ids=["graph", "XLA"])
    def test_compiled_sampling_is_that_of_the_reference(self, xla):
        process = reverse_process(linear(100).respaced(4))
        network = self.small_network(process, size=0.2)
        x_T = np.random.default_rng(0).standard_normal((4, 3))
        sampler, execution = make_sampler("ancestral"), replace(FLOAT64, compile=xla)
        x_0, _ = self.backend.place(network, process, execution).sample(sampler, x_T, partial(noise_of, x_T.shape))
        expected, _ = numpy_chain(self.bound(network), process, sampler, x_T)
        np.testing.assert_allclose(x_0, expected, rtol=1e-10, atol=1e-11 * np.abs(expected).max())
