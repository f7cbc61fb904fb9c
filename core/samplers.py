"""One reverse step of each sampler, from x_t to x_{t-1}, on any schedule (respaced ones included).

A step takes the network's output at (x_t, t) and standard normal noise, and draws nothing itself. Given the
same x_T and noise, two models are sampled along the same path, so their samples can be compared one by one.
Every step has the form

    x_{t-1}, x_0_hat = step(process, x_t, output, t, noise, previous, xp, clip=...)

where `previous` is the x_0_hat that the step before returned (zeros at t = T), for the multistep solver; the
others ignore it.
`clip` bounds x_0_hat to [-clip, clip] before it is used and re-derives the rest from it. It is an option, off unless
asked for, because a clipped chain is not the model whose bound is reported.

`ddim_reverse_step` alone goes the other way, from x_t to x_{t+1}.

Ho et al. (2020): https://arxiv.org/abs/2006.11239
Song et al. (2021): https://arxiv.org/abs/2010.02502
Lu et al. (2022): https://arxiv.org/abs/2211.01095
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

from core.arrays import NUMPY, Array, ArrayNamespace, expand_to, gather
from core.reverse import ReverseSteps

SamplerStep = Callable[..., tuple[Array, Array]]


def _x_0_hat(
    process: ReverseSteps, x_t: Array, prediction: Array, t: Array, clip: float | None, xp: ArrayNamespace
) -> Array:
    x_0_hat = process.x_0_hat(x_t, prediction, t, xp)
    return x_0_hat if clip is None else xp.clip(x_0_hat, -clip, clip)


def reverse_kernel(
    process: ReverseSteps,
    x_t: Array,
    output: Array,
    t: Array,
    xp: ArrayNamespace = NUMPY,
    *,
    clip: float | None = None,
) -> tuple[Array, Array, Array]:
    """Mean and standard deviation of p_theta(x_{t-1} | x_t), broadcastable to x_t, and the x_0_hat behind them."""
    prediction, value = process.split(output)
    x_0_hat = _x_0_hat(process, x_t, prediction, t, clip, xp)
    return process.mean(x_t, x_0_hat, t, xp), xp.exp(0.5 * process.log_variance(value, t, x_t, xp)), x_0_hat


def ancestral_step(
    process: ReverseSteps,
    x_t: Array,
    output: Array,
    t: Array,
    noise: Array,
    previous: Array | None = None,
    xp: ArrayNamespace = NUMPY,
    *,
    clip: float | None = None,
) -> tuple[Array, Array]:
    """A draw from p_theta(x_{t-1} | x_t), except that t = 1 returns its mean (Ho et al. 2020, Algorithm 2).

    Algorithm 2 adds no noise in the last step, so its samples are not draws from the decoder that L_0 scores.
    """
    mean, std, x_0_hat = reverse_kernel(process, x_t, output, t, xp, clip=clip)
    return xp.where(expand_to(xp, t > 1, x_t), mean + std * noise, mean), x_0_hat


def ddim_step(
    process: ReverseSteps,
    x_t: Array,
    output: Array,
    t: Array,
    noise: Array,
    previous: Array | None = None,
    xp: ArrayNamespace = NUMPY,
    *,
    eta: float = 0.0,
    clip: float | None = None,
) -> tuple[Array, Array]:
    """A step of DDIM(eta) (Song et al. 2021, eqs. 12 and 16).

    eta = 0 is deterministic; eta = 1 is ancestral sampling with variance beta tilde. t = 1 returns x_0_hat.
    """
    prediction, _ = process.split(output)
    x_0_hat = _x_0_hat(process, x_t, prediction, t, clip, xp)
    epsilon_hat = process.epsilon_of(x_t, x_0_hat, t, xp)
    signal = gather(xp, process.tables.signal, t - 1, x_t)
    deviation = gather(xp, process.tables.noise, t - 1, x_t)
    sigma = eta * xp.exp(0.5 * gather(xp, process.tables.posterior_log_variance, t, x_t))
    sigma = xp.where(expand_to(xp, t > 1, x_t), sigma, 0 * sigma)
    direction = xp.sqrt(xp.clip(deviation * deviation - sigma * sigma, 0.0, 1.0))
    return signal * x_0_hat + direction * epsilon_hat + sigma * noise, x_0_hat


def ddim_reverse_step(
    process: ReverseSteps,
    x_t: Array,
    output: Array,
    t: Array,
    noise: Array | None = None,
    previous: Array | None = None,
    xp: ArrayNamespace = NUMPY,
    *,
    clip: float | None = None,
) -> tuple[Array, Array]:
    """From x_t to x_{t+1}, t in 1..T-1: DDIM(0) backwards, which encodes data as an x_T (Song et al. 2021, sec. 4.3).

    Their eq. 14 with the sign of its step turned and the network asked at x_t: an Euler step of the differential
    equation that `ddim_step` solves too, so that x_T leads back to the data, the nearer the more steps. Data enter as
    x_1, since no network is trained at t = 0. `output` is that for x_t at t; no noise is read. It takes whole chains,
    because the tables of a `window` end at t.
    """
    prediction, _ = process.split(output)
    x_0_hat = _x_0_hat(process, x_t, prediction, t, clip, xp)
    epsilon_hat = process.epsilon_of(x_t, x_0_hat, t, xp)
    signal = gather(xp, process.tables.signal, t + 1, x_t)
    return signal * x_0_hat + gather(xp, process.tables.noise, t + 1, x_t) * epsilon_hat, x_0_hat


def dpm_solver_step(
    process: ReverseSteps,
    x_t: Array,
    output: Array,
    t: Array,
    noise: Array | None,
    previous: Array,
    xp: ArrayNamespace = NUMPY,
    *,
    clip: float | None = None,
) -> tuple[Array, Array]:
    """A step of DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2); deterministic.

    Of second order through `previous`; the first and last steps are of first order (DDIM): at t = T there is no
    previous x_0_hat, and the last step ends at an infinite log SNR.
    """
    prediction, _ = process.split(output)
    x_0_hat = _x_0_hat(process, x_t, prediction, t, clip, xp)
    extrapolated = x_0_hat + gather(xp, process.tables.multistep_blend, t, x_t) * (x_0_hat - previous)
    noise_ratio = gather(xp, process.tables.noise, t - 1, x_t) / gather(xp, process.tables.noise, t, x_t)
    on_data = gather(xp, process.tables.signal, t - 1, x_t) - noise_ratio * gather(xp, process.tables.signal, t, x_t)
    return noise_ratio * x_t + on_data * extrapolated, x_0_hat


SAMPLERS: dict[str, SamplerStep] = {
    "ancestral": ancestral_step,
    "ddim": ddim_step,
    "dpm_solver": dpm_solver_step,
}


def adds_noise(name: str, *, eta: float = 0.0) -> bool:
    """Whether the sampler reads its noise at all; the others are deterministic given x_T."""
    return name == "ancestral" or (name == "ddim" and eta > 0)


@lru_cache(maxsize=32)
def make_sampler(name: str, *, clip: float | None = None, eta: float = 0.0) -> SamplerStep:
    """The step of the sampler called `name` in SAMPLERS, with its options bound; `eta` is DDIM's.

    The same options give the same object, so that what was compiled for it serves again.
    """
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}; known: {', '.join(SAMPLERS)}")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip bounds x_0_hat to [-clip, clip] and is positive, got {clip}; None turns it off")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta runs from 0 (deterministic) to 1 (ancestral), got {eta}")
    options = {"clip": clip, "eta": eta} if name == "ddim" else {"clip": clip}
    return partial(SAMPLERS[name], **options)
