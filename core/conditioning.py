"""Samples of p(x_0) r(x_0) from a chain trained on p: each reverse step is multiplied by a second distribution.

Sohl-Dickstein et al. (2015), sec. 2.5 and app. C: the kernel N(mean, Sigma) of p_theta(x_{t-1} | x_t) is multiplied by
r_{t-1} and normalised. Where r is a Gaussian (denoising) or a point (inpainting) the product is exact, in closed form;
else it is N(mean + Sigma grad log r, Sigma), right to first order in Sigma, hence in beta (`perturbed`).

What r should be at step t is a second question. The chain then samples p(x_0) r_0(x_0) exactly if and only if
r_t(x_t) = E[r_0(x_0) | x_t]: the product's normaliser is then r_t itself, for steps of any length. For Gaussian data of
independent coordinates this r_t is known in closed form, and is what `multiplied` uses (`Observation`): exact there,
and else an approximation, of order 0 in beta: shorter steps do not mend it. The paper takes r_t = r_0 at every t
(`constant`), an approximation even there. What a coordinate says of another is left to the network, and is too little:
of a normal pair with correlation 0.8, given one as 1, the other is drawn with mean 0.48, or 0.60 with `constant`,
in place of 0.8; denoised from variance 0.5 both are drawn with mean 0.79, or 0.93, in place of 0.78.

A step has the form of those of `core.samplers`.

Sohl-Dickstein et al. (2015): https://arxiv.org/abs/1503.03585
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from core.arrays import NUMPY, Array, ArrayNamespace, expand_to, gather
from core.reverse import ReverseSteps
from core.samplers import SamplerStep, reverse_kernel

LogGradient = Callable[[Array, Array, Array, ArrayNamespace], Array]
"""(x, signal, noise, xp) -> the gradient of log r_{t-1} at x (N, ...), with sqrt(alpha_bar_{t-1}), and the root of
1 - alpha_bar_{t-1}, broadcastable to x.
"""


@dataclass(frozen=True, eq=False)
class Observation:
    """y = x_0 + N(0, variance), known where `known`: r_0(x_0) = N(y; x_0, variance) there, and 1 elsewhere.

    `value` (N, ...), of which only known entries count; `known` broadcastable to it; `variance` 0 for coordinates given
    exactly (inpainting). `prior_mean`, `prior_variance`: of the data, by coordinate or for all; variance inf for none.
    """

    value: ArrayLike
    known: ArrayLike = True
    variance: float = 0.0
    prior_mean: ArrayLike = 0.0
    prior_variance: ArrayLike = 1.0

    def __post_init__(self) -> None:
        value, known = np.asarray(self.value, np.float64), np.asarray(self.known)
        if known.dtype != bool:
            raise ValueError(f"known says true or false of every coordinate, got {known.dtype} values")
        known = np.broadcast_to(known, value.shape)
        if not np.all(np.isfinite(value[known])):
            raise ValueError("an observation is finite wherever it is known, got NaN or infinite values")
        if not (np.isfinite(self.variance) and self.variance >= 0):
            raise ValueError(f"the variance of an observation is at least 0 and finite, got {self.variance}")
        if not np.all(np.asarray(self.prior_variance) > 0):
            raise ValueError(f"the variance of the data is positive, or inf for none, got {self.prior_variance}")
        object.__setattr__(self, "value", np.where(known, value, 0.0))
        object.__setattr__(self, "known", known)

    def at(self, signal: Array, noise: Array, xp: ArrayNamespace = NUMPY) -> tuple[Array, Array]:
        """Centre and variance, as a function of x_t, of E[N(y; x_0, variance) | x_t] under the normal prior.

        With a = (1 - alpha_bar_t) / prior_variance, x_0 given x_t has mean (signal x_t + a prior_mean) / (signal^2 + a)
        and variance noise^2 / (signal^2 + a). At t = 0 centre and variance are the observation's own.
        """
        y, mean = xp.asarray(self.value), xp.asarray(self.prior_mean)
        prior = noise * noise * xp.asarray(1 / np.asarray(self.prior_variance, np.float64))
        share = signal * signal + prior
        centre = (share * y - prior * mean) / signal
        return centre, share * (noise * noise + self.variance * share) / (signal * signal)


def multiplied(observation: Observation, *, constant: bool = False, clip: float | None = None) -> SamplerStep:
    """The ancestral step with its kernel multiplied by what the observation says of x_{t-1}.

    Precisions add; where nothing is known the step is ancestral, and at t = 1 it returns the mean, as that does.
    `constant`: r_t = r_0 at every t, as in the paper.
    """

    def product(mean: Array, std: Array, signal: Array, noise: Array, xp: ArrayNamespace) -> tuple[Array, Array]:
        if constant:
            signal, noise = 0 * signal + 1, 0 * noise
        centre, variance = observation.at(signal, noise, xp)
        gain = xp.asarray(observation.known) * (std * std) / (std * std + variance)
        # 1 - gain is not negative, but for a rounding where the observation is exact.
        return mean + gain * (centre - mean), std * xp.sqrt(xp.clip(1 - gain, 0.0, 1.0))

    return _with_kernel(product, clip)


def perturbed(log_gradient: LogGradient, *, clip: float | None = None) -> SamplerStep:
    """The ancestral step with its mean moved by Sigma grad log r_{t-1}(mean) (Sohl-Dickstein et al. 2015, eq. 61).

    For any smooth r; the product itself to first order in Sigma.
    """

    def product(mean: Array, std: Array, signal: Array, noise: Array, xp: ArrayNamespace) -> tuple[Array, Array]:
        return mean + std * std * log_gradient(mean, signal, noise, xp), std

    return _with_kernel(product, clip)


def _with_kernel(product: Callable[..., tuple[Array, Array]], clip: float | None) -> SamplerStep:
    """The ancestral step with product(mean, std, signal, noise, xp) as the mean and std of its kernel.

    `signal`, `noise`: sqrt(alpha_bar_{t-1}) and the root of 1 - alpha_bar_{t-1}, broadcastable to x_t.
    """

    def step(
        process: ReverseSteps,
        x_t: Array,
        output: Array,
        t: Array,
        noise: Array,
        previous: Array | None = None,
        xp: ArrayNamespace = NUMPY,
    ) -> tuple[Array, Array]:
        mean, std, x_0_hat = reverse_kernel(process, x_t, output, t, xp, clip=clip)
        marginal = (gather(xp, table, t - 1, x_t) for table in (process.tables.signal, process.tables.noise))
        mean, std = product(mean, std, *marginal, xp)
        return xp.where(expand_to(xp, t > 1, x_t), mean + std * noise, mean), x_0_hat

    return step
