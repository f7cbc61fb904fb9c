"""The forward process q and its Gaussian conditionals, as coefficients in float64.

Everything follows from alpha_bar: q(x_t | x_0), q(x_t | x_s) and q(x_s | x_t, x_0) for s < t. No assumption is made
on the data. Variances are in squared data units.

Ho et al. (2020): https://arxiv.org/abs/2006.11239
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from core.arrays import Array
from core.schedules import Schedule, Table


@dataclass(frozen=True)
class MarginalCoefficients:
    """q(x_t | x_0) = N(on_x_0 * x_0, variance)."""

    on_x_0: Table
    variance: Table
    log_variance: Table

    @property
    def std(self) -> Table:
        return np.sqrt(self.variance)


@dataclass(frozen=True)
class TransitionCoefficients:
    """q(x_t | x_s) = N(on_x_s * x_s, variance)."""

    on_x_s: Table
    variance: Table


@dataclass(frozen=True)
class PosteriorCoefficients:
    """q(x_s | x_t, x_0) = N(on_x_0 * x_0 + on_x_t * x_t, variance)."""

    on_x_0: Table
    on_x_t: Table
    variance: Table
    log_variance: Table


@dataclass(frozen=True)
class StepCoefficients:
    """The forward process step by step, (T,) each, entry t - 1 being step t: what the tables of a model are made of.

    `signal`, `noise`: sqrt of alpha_bar_t and of 1 - alpha_bar_t; `signal_before`: sqrt(alpha_bar_{t-1});
    `mean_on_x_0`, `mean_on_x_t`: those of q(x_{t-1} | x_t, x_0). Arrays of numpy or of a backend.
    """

    signal_before: Array
    signal: Array
    noise: Array
    mean_on_x_0: Array
    mean_on_x_t: Array


def step_coefficients(schedule: Schedule) -> StepCoefficients:
    """The coefficients of a schedule, in float64."""
    q = posterior(schedule, np.arange(1, schedule.num_steps + 1))
    signal = np.sqrt(schedule.alpha_bar)
    noise = np.sqrt(schedule.one_minus_alpha_bar)
    return StepCoefficients(signal[:-1], signal[1:], noise[1:], q.on_x_0, q.on_x_t)


def marginal(schedule: Schedule, t: ArrayLike) -> MarginalCoefficients:
    """q(x_t | x_0) (Ho et al. 2020, eq. 4) at integer steps t in 0..T, any shape; at t = 0 it is x_0 itself."""
    t = schedule.check_steps(t, lowest=0)
    return MarginalCoefficients(
        on_x_0=np.sqrt(schedule.alpha_bar[t]),
        variance=schedule.one_minus_alpha_bar[t],
        log_variance=schedule.log_one_minus_alpha_bar[t],
    )


def transition(schedule: Schedule, *steps: ArrayLike) -> TransitionCoefficients:
    """q(x_t | x_s), called as (schedule, t) for s = t - 1 or as (schedule, s, t); integers with 0 <= s < t <= T."""
    s, t = _pair(schedule, steps)
    log_ratio = _log_alpha_bar_ratio(schedule, s, t)
    return TransitionCoefficients(on_x_s=np.exp(log_ratio / 2), variance=-np.expm1(log_ratio))


def posterior(schedule: Schedule, *steps: ArrayLike) -> PosteriorCoefficients:
    """q(x_s | x_t, x_0), called as (schedule, t) for s = t - 1 or as (schedule, s, t); integers with 0 <= s < t <= T.

    Ho et al. (2020), eqs. 6-7, with beta and alpha those of the step from s to t:
    on_x_0 = sqrt(alpha_bar_s) beta / (1 - alpha_bar_t), on_x_t = sqrt(alpha) (1 - alpha_bar_s) / (1 - alpha_bar_t),
    variance (beta tilde) = beta (1 - alpha_bar_s) / (1 - alpha_bar_t). At s = 0 the posterior is a point at x_0:
    on_x_0 = 1, on_x_t = 0, variance = 0, log variance = -inf.
    """
    s, t = _pair(schedule, steps)
    log_ratio = _log_alpha_bar_ratio(schedule, s, t)
    erased = -np.expm1(log_ratio) / schedule.one_minus_alpha_bar[t]
    noise_ratio = schedule.one_minus_alpha_bar[s] / schedule.one_minus_alpha_bar[t]
    with np.errstate(divide="ignore"):
        log_variance = np.log(-np.expm1(log_ratio)) + np.log(noise_ratio)
    return PosteriorCoefficients(
        on_x_0=np.where(s == 0, 1.0, np.sqrt(schedule.alpha_bar[s]) * erased),
        on_x_t=np.exp(log_ratio / 2) * noise_ratio,
        variance=-np.expm1(log_ratio) * noise_ratio,
        log_variance=log_variance,
    )


def _pair(schedule: Schedule, steps: tuple[ArrayLike, ...]) -> tuple[np.ndarray, np.ndarray]:
    if len(steps) not in (1, 2):
        raise TypeError(f"give (schedule, t) or (schedule, s, t), got {len(steps)} steps")
    t = schedule.check_steps(steps[-1])
    s = schedule.check_steps(steps[0], lowest=0) if len(steps) == 2 else t - 1
    if np.any(s >= t):
        raise ValueError(f"s comes before t, got s = {steps[0]!r} and t = {steps[-1]!r}")
    return s, t


def _log_alpha_bar_ratio(schedule: Schedule, s: np.ndarray, t: np.ndarray) -> Table:
    """log(alpha_bar_t / alpha_bar_s), both words, so that neighbouring steps keep full relative accuracy."""
    high, low = schedule.log_alpha_bar, schedule.log_alpha_bar_low
    log_ratio: Table = (high[t] - high[s]) + (low[t] - low[s])
    return log_ratio
