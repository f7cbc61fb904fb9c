"""Sampler steps by the papers' equations, from the betas alone: no table of `core`, and as the papers write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Step(NamedTuple):
    """The numbers of one step t from beta_1..beta_T: alpha_bar at t and at t - 1, which is 1 for t = 1."""

    beta: float
    now: float
    before: float

    @classmethod
    def of(cls, beta: Values, t: int) -> Step:
        return cls(float(beta[t - 1]), float(np.prod(1 - beta[:t])), float(np.prod(1 - beta[: t - 1])))

    @property
    def on_x_0(self) -> float:
        """Ho et al. (2020), eq. 7."""
        return self.before**0.5 * self.beta / (1 - self.now)

    @property
    def on_x_t(self) -> float:
        return (1 - self.beta) ** 0.5 * (1 - self.before) / (1 - self.now)

    @property
    def beta_tilde(self) -> float:
        return (1 - self.before) / (1 - self.now) * self.beta

    @property
    def half_log_snr(self) -> float:
        """lambda of Lu et al. (2022)."""
        return float(np.log(self.now**0.5 / (1 - self.now) ** 0.5))


X_0_HAT: dict[str, Callable[[Step, Values, Values], Values]] = {
    "epsilon": lambda s, x, output: (x - (1 - s.now) ** 0.5 * output) / s.now**0.5,
    "x_0": lambda s, x, output: output,
    "v": lambda s, x, output: s.now**0.5 * x - (1 - s.now) ** 0.5 * output,
    "mean": lambda s, x, output: (output - s.on_x_t * x) / s.on_x_0,
    "offset": lambda s, x, output: ((1 - s.beta) ** 0.5 * x + s.beta**0.5 * output - s.on_x_t * x) / s.on_x_0,
}
"""The x_0 that an output at x_t stands for, by what is predicted."""

VARIANCE: dict[str, Callable[[Step, Values], Values]] = {
    "beta_tilde": lambda s, value: np.array(s.beta_tilde),
    "beta": lambda s, value: np.array(s.beta),
    "learned_range": lambda s, value: s.beta ** ((value + 1) / 2) * s.beta_tilde ** ((1 - value) / 2),
    "learned_diagonal": lambda s, value: s.beta_tilde * np.exp(value),
}
"""sigma^2 at t >= 2 by its kind and the second half of the output, of which only the learned ones know."""


def step_by_hand(
    beta: Values, sampler: str, prediction: str, variance: str, t: int,
    x_t: Values, output: Values, noise: Values, previous: Values, *, eta: float = 0.0, clip: float = np.inf,
) -> tuple[Values, Values]:  # fmt: skip
    """x_{t-1} and x_0_hat from x_t (N, ..., C); `previous` is the x_0_hat of step t + 1."""
    step, channels = Step.of(beta, t), x_t.shape[-1]
    x_0_hat = np.clip(X_0_HAT[prediction](step, x_t, output[..., :channels]), -clip, clip)
    if t == 1:
        return x_0_hat, x_0_hat
    epsilon_hat = (x_t - step.now**0.5 * x_0_hat) / (1 - step.now) ** 0.5
    if sampler == "ancestral":  # Ho et al. (2020), Algorithm 2
        deviation = VARIANCE[variance](step, output[..., channels:]) ** 0.5
        return step.on_x_0 * x_0_hat + step.on_x_t * x_t + deviation * noise, x_0_hat
    if sampler == "ddim":  # Song et al. (2021), eqs. 12 and 16, whatever the reverse variance
        sigma = eta * ((1 - step.before) / (1 - step.now)) ** 0.5 * (1 - step.now / step.before) ** 0.5
        direction = (1 - step.before - sigma**2) ** 0.5 * epsilon_hat
        return step.before**0.5 * x_0_hat + direction + sigma * noise, x_0_hat
    assert sampler == "dpm_solver"  # Lu et al. (2022), Algorithm 2
    before = Step.of(beta, t - 1)
    h = before.half_log_snr - step.half_log_snr
    data = x_0_hat
    if t < len(beta):
        r = (step.half_log_snr - Step.of(beta, t + 1).half_log_snr) / h
        data = (1 + 1 / (2 * r)) * x_0_hat - 1 / (2 * r) * previous
    ratio = ((1 - step.before) / (1 - step.now)) ** 0.5
    return ratio * x_t - step.before**0.5 * (np.exp(-h) - 1) * data, x_0_hat
