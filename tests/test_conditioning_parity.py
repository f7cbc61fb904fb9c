"""Conditional sampling in both frameworks: the chain of `core.conditioning` in numpy, step for step."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import backends.keras
import backends.torch
from core.conditioning import Observation, multiplied, perturbed
from core.reverse import reverse_process
from core.schedules import linear
from tests.backends.keras.helpers import OnKeras
from tests.backends.reference import FLOAT64, mlp_settings, noise_of, numpy_chain, random_weights
from tests.backends.torch.helpers import OnTorch

pytestmark = pytest.mark.parity

X_0 = np.random.default_rng(1).uniform(-1, 1, (4, 3))
KNOWN = np.array([True, False, True])


def towards_zero(x, signal, noise, xp):
    return -x / (signal * signal + noise * noise)


STEPS = {
    "inpainting": multiplied(Observation(X_0, KNOWN)),
    "denoising": multiplied(Observation(X_0, True, 0.3, prior_mean=0.1, prior_variance=0.5)),
    "as in the paper": multiplied(Observation(X_0, KNOWN, 0.3), constant=True),
    "perturbed": perturbed(towards_zero),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("variance", ["beta_tilde", "learned_diagonal"])
def test_conditional_chains_agree(name, variance):
    """Twenty steps in float64; what is given exactly comes out as it was given."""
    process = reverse_process(linear(20, 1e-3, 0.4), "v", variance)
    settings = mlp_settings(process.learns_variance)
    x_T, weights = np.random.default_rng(0).standard_normal((4, 3)), random_weights(settings, size=0.2)
    for backend, on in ((backends.torch, OnTorch), (backends.keras, OnKeras)):
        network = backend.make_network(settings, weights, FLOAT64)
        noise = partial(noise_of, x_T.shape)
        x_0, kept = backend.place(network, process, FLOAT64).sample(STEPS[name], x_T, noise, [5])
        expected, guesses = numpy_chain(partial(on.call, network), process, STEPS[name], x_T)
        np.testing.assert_allclose(x_0, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
        np.testing.assert_allclose(kept[5], guesses[5], rtol=0, atol=1e-10 * np.abs(guesses[5]).max())
        if name == "inpainting":
            np.testing.assert_allclose(x_0[:, KNOWN], X_0[:, KNOWN], rtol=1e-14)
