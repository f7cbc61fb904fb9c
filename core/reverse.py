"""p_theta(x_{t-1} | x_t): how a network's output at step t becomes a normal distribution over x_{t-1}.

A `ReverseProcess` is a schedule together with the four choices that turn an output into a distribution: what is
predicted, which variance, which variance at t = 1, and how many levels the data has. It holds every coefficient
as a table. A backend casts them once (`cast`) and hands the result to the objectives, bounds and samplers of
`core`. Losses and samplers read the tables alone: they take `ReverseSteps`, which have them and no schedule, such as
the steps of a schedule that is still being learned.

Ho et al. (2020): https://arxiv.org/abs/2006.11239
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from core.arrays import NUMPY, Array, ArrayNamespace, gather
from core.forward import StepCoefficients, step_coefficients
from core.gaussian import bin_width, expm1_minus_identity
from core.predictions import Prediction, as_prediction
from core.schedules import Schedule, Table
from core.variances import Variance, VarianceEnds, as_variance, variance_ends


@dataclass(frozen=True, eq=False)
class ReverseTables:
    """Coefficients by step, (T + 1,) each; entry 0 is NaN. float64 until a backend casts them."""

    signal: Array  # sqrt(alpha_bar)
    noise: Array  # sqrt(1 - alpha_bar)
    target_on_x_0: Array
    target_on_epsilon: Array
    x_0_on_x_t: Array
    x_0_on_output: Array
    epsilon_on_x_t: Array
    epsilon_on_output: Array
    mean_on_x_0: Array
    mean_on_x_t: Array
    mean_error_on_output_error: Array
    posterior_log_variance: Array  # of q(x_{t-1} | x_t, x_0); at t = 1, where that is -inf, the reverse floor
    log_variance_floor: Array
    log_variance_span: Array
    kl_on_squared_error: Array  # fixed variance: nats per squared output error; at t = 1 that of a density
    kl_of_variances: Array  # fixed variance: nats per dim for sigma^2 other than beta tilde; 0 at t = 1
    multistep_blend: (
        Array  # DPM-Solver++(2M): half the ratio of this step in log SNR to the one before; 0 at t = 1 and T
    )


@dataclass(frozen=True, eq=False)
class ReverseSteps:
    """The reverse steps that the tables are of, as losses and samplers read them.

    Outputs have the data's shape (N, ..., C), or (N, ..., 2C) where the variance is learned: prediction first.
    Methods take arrays of `xp` in its working dtype and steps t (N,) within 1..T.
    """

    prediction: Prediction
    variance: Variance
    levels: int | None
    tables: ReverseTables

    @property
    def num_steps(self) -> int:
        """T."""
        return int(self.tables.signal.shape[0]) - 1

    @property
    def learns_variance(self) -> bool:
        return self.variance.is_learned

    def with_tables(self, tables: ReverseTables) -> ReverseSteps:
        """The steps that other tables are of, with the same prediction, variance and levels."""
        return ReverseSteps(self.prediction, self.variance, self.levels, tables)

    def noised(self, x_0: Array, epsilon: Array, t: Array, xp: ArrayNamespace = NUMPY) -> Array:
        """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) epsilon (Ho et al. 2020, eq. 4)."""
        return gather(xp, self.tables.signal, t, x_0) * x_0 + gather(xp, self.tables.noise, t, x_0) * epsilon

    def split(self, output: Array) -> tuple[Array, Array | None]:
        """The prediction and, where the variance is learned, the value its log is made from."""
        if not self.learns_variance:
            return output, None
        channels = output.shape[-1] // 2
        return output[..., :channels], output[..., channels:]

    def target(self, x_0: Array, epsilon: Array, t: Array, xp: ArrayNamespace = NUMPY) -> Array:
        """What the network should have put out."""
        on_x_0 = gather(xp, self.tables.target_on_x_0, t, x_0)
        return on_x_0 * x_0 + gather(xp, self.tables.target_on_epsilon, t, x_0) * epsilon

    def x_0_hat(self, x_t: Array, prediction: Array, t: Array, xp: ArrayNamespace = NUMPY) -> Array:
        """The data that the prediction at x_t stands for."""
        on_x_t = gather(xp, self.tables.x_0_on_x_t, t, x_t)
        return on_x_t * x_t + gather(xp, self.tables.x_0_on_output, t, x_t) * prediction

    def epsilon_hat(self, x_t: Array, prediction: Array, t: Array, xp: ArrayNamespace = NUMPY) -> Array:
        """The noise that the prediction at x_t stands for."""
        on_x_t = gather(xp, self.tables.epsilon_on_x_t, t, x_t)
        return on_x_t * x_t + gather(xp, self.tables.epsilon_on_output, t, x_t) * prediction

    def epsilon_of(self, x_t: Array, x_0_hat: Array, t: Array, xp: ArrayNamespace = NUMPY) -> Array:
        """The noise that leads from x_0_hat to x_t: consistent with x_0_hat after it was clipped."""
        return (x_t - gather(xp, self.tables.signal, t, x_t) * x_0_hat) / gather(xp, self.tables.noise, t, x_t)

    def mean(self, x_t: Array, x_0_hat: Array, t: Array, xp: ArrayNamespace = NUMPY) -> Array:
        """The mean of p_theta(x_{t-1} | x_t): that of q(x_{t-1} | x_t, x_0 = x_0_hat)."""
        on_x_0 = gather(xp, self.tables.mean_on_x_0, t, x_t)
        return on_x_0 * x_0_hat + gather(xp, self.tables.mean_on_x_t, t, x_t) * x_t

    def log_variance(self, value: Array | None, t: Array, like: Array, xp: ArrayNamespace = NUMPY) -> Array:
        """log of the variance of p_theta(x_{t-1} | x_t), broadcastable to `like`.

        `value` is the second part of `split`.
        """
        floor = gather(xp, self.tables.log_variance_floor, t, like)
        span = gather(xp, self.tables.log_variance_span, t, like)
        return self.variance.log_variance(floor, span, value)


@dataclass(frozen=True, eq=False)
class ReverseProcess(ReverseSteps):
    """The reverse process of one model family, on the `schedule` that its tables are of; `reverse_process` makes it."""

    schedule: Schedule
    first_variance: str

    def cast(self, asarray: Callable[[Array], Array]) -> ReverseProcess:
        """The same process with its tables as arrays of a backend, cast from float64 once."""
        cast = {f.name: asarray(getattr(self.tables, f.name)) for f in fields(self.tables)}
        return replace(self, tables=ReverseTables(**cast))

    def windows(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """What each reverse step reads, in one shape for chains of any length, so that a compiled step serves them all.

        `tables` (T, K, 3) and `place` (T,), both by t - 1: three neighbouring columns of every table, among them those
        of t - 1 and t, for `window`; and where t stands among them, which is 1 for t = 1 and 2 for any other: a
        sampler that tells the last step apart still does.
        """
        stacked = np.stack([np.asarray(getattr(self.tables, f.name)) for f in fields(self.tables)])
        place = np.minimum(np.arange(1, self.num_steps + 1), 2)
        columns = np.arange(1, self.num_steps + 1)[:, None] - place[:, None] + np.arange(3)
        return stacked[:, np.minimum(columns, self.num_steps)].transpose(1, 0, 2), place

    def window(self, rows: Array) -> ReverseSteps:
        """The few steps whose tables `rows` (K, ...) are, in the order of `ReverseTables`: one of `windows`."""
        return self.with_tables(ReverseTables(*(rows[k] for k in range(len(fields(ReverseTables))))))


def reverse_process(
    schedule: Schedule,
    prediction: str | Prediction = "epsilon",
    variance: str | Variance = "beta_tilde",
    *,
    first_variance: str = "next",
    levels: int | None = None,
) -> ReverseProcess:
    """The reverse process of a schedule, with its tables in float64.

    `prediction`: a name in core.predictions.PREDICTIONS, or a value of one's own; `variance`: likewise of
    core.variances.VARIANCES. `first_variance`: a name in core.variances.FIRST_VARIANCES.
    `levels`: K for data on K evenly spaced values from -1 to 1, whose t = 1 term is then the mass of a level;
    None for continuous data, whose t = 1 term is a density.
    """
    if levels is not None:
        bin_width(levels)
    prediction, variance = as_prediction(prediction), as_variance(variance)
    tables = step_tables(step_coefficients(schedule), variance_ends(schedule, first_variance), prediction, variance)
    padded = {f.name: np.append(np.nan, getattr(tables, f.name)) for f in fields(tables)}
    padded["signal"][0], padded["noise"][0] = 1.0, 0.0  # samplers end on the data
    padded["multistep_blend"] = _multistep_blend(schedule)
    return ReverseProcess(
        prediction, variance, levels, ReverseTables(**padded), schedule=schedule, first_variance=first_variance
    )


def step_tables(
    steps: StepCoefficients,
    ends: VarianceEnds,
    prediction: Prediction,
    variance: Variance,
    xp: ArrayNamespace = NUMPY,
) -> ReverseTables:
    """All tables for steps 1..T from what the schedule gives, (T,) each, `multistep_blend` being left at 0."""
    p = prediction.tables(steps)
    floor, span = variance.floor(ends), variance.span(ends)
    is_first = xp.asarray(np.arange(steps.signal.shape[0])) < 0.5
    mean_error = steps.mean_on_x_0 * p.x_0_on_output
    zero = 0 * floor
    return ReverseTables(
        signal=steps.signal,
        noise=steps.noise,
        target_on_x_0=p.target_on_x_0,
        target_on_epsilon=p.target_on_epsilon,
        x_0_on_x_t=p.x_0_on_x_t,
        x_0_on_output=p.x_0_on_output,
        epsilon_on_x_t=p.epsilon_on_x_t,
        epsilon_on_output=p.epsilon_on_output,
        mean_on_x_0=steps.mean_on_x_0,
        mean_on_x_t=steps.mean_on_x_t,
        mean_error_on_output_error=mean_error,
        posterior_log_variance=xp.where(is_first, floor, ends.log_beta_tilde),
        log_variance_floor=floor,
        log_variance_span=span,
        kl_on_squared_error=0.5 * mean_error**2 * xp.exp(-floor),
        kl_of_variances=0.5 * expm1_minus_identity(variance.log_ratio(ends), xp),
        multistep_blend=zero,
    )


def _multistep_blend(schedule: Schedule) -> Table:
    blend = np.zeros(schedule.num_steps + 1)
    rise = -np.diff(schedule.log_snr[1:])  # rise[i] belongs to the step from i + 2 to i + 1
    blend[2:-1] = rise[:-1] / (2 * rise[1:])
    return blend
