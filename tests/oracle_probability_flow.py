"""The probability flow of a distribution that is known: its exact right-hand side and divergence, in numpy."""

from __future__ import annotations

import numpy as np

from core.oracles import GaussianMixture
from core.probability_flow import Field
from core.schedules import from_log_snr

MIXTURES = [
    GaussianMixture([0.3, 0.7], [[-0.5], [0.6]], [0.02, 0.05]),
    GaussianMixture([0.5, 0.3, 0.2], [[-0.5, 0.2], [0.6, 0.0], [0.0, -0.7]], [0.02, 0.05, 0.003]),
]
"""In 1 and 2 dims, with components apart."""


def oracle_field(oracle: GaussianMixture) -> Field:
    """(sigma^2 x - sigma epsilon_hat) / 2, and its divergence from the variance of x_0 given x.

    By Tweedie's formula the Jacobian of epsilon_hat is (I - SNR Cov(x_0 | x)) / sigma. Any log SNR is that of step 1 of
    a chain of one step.
    """

    def field(x, log_snr):
        schedule = from_log_snr([log_snr])
        variance = 1 / (1 + np.exp(log_snr))
        dx = 0.5 * (variance * x - np.sqrt(variance) * oracle.epsilon_hat(schedule, x, 1))
        within = np.exp(log_snr) * oracle.x_0_variance(schedule, x, 1).sum(axis=1)
        return dx, 0.5 * (within - (1 - variance) * x.shape[1])[None]

    return field


def drawn(oracle: GaussianMixture, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return oracle.sample(rng.random(count), rng.standard_normal((count, oracle.dims)))
