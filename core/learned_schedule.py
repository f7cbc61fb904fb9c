"""A forward schedule trained with the network: its log SNR as a differentiable function of a few parameters.

Sohl-Dickstein et al. (2015), sec. 2.4.1, learn beta_2..beta_T by gradient ascent on the bound, through x_t with frozen
noise; Kingma et al. (2021), app. I, learn a monotone log SNR. Here a chain starts from a named schedule, and

    fall_t  = start's fall in log SNR at t, times exp(FALL_REACH s(knots)), rescaled to the range between the ends
    log_snr = first end minus the running sum of the falls;  ends = start's ends + reach s(parameter)

with s(x) = x / sqrt(1 + x^2). For any parameters the log SNR therefore falls strictly, and an end stays within its
reach of where it started. A reach of 0 holds an end still, as the paper does with beta_1, for data whose density has no
bound. Knots are interpolated in t, so that a thousand steps share a few parameters and each is seen by every batch.

The loss is then the whole bound: the mean over t of L_{t-1}, and L_T, which no longer is a constant. Everything is made
from log SNR and its falls by expm1, log1p and softplus, and so holds in float32; what is learned is frozen to a
`Schedule` in float64, and nothing else need know where it came from.

Sohl-Dickstein et al. (2015): https://arxiv.org/abs/1503.03585
Kingma et al. (2021): https://arxiv.org/abs/2107.00630
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from core.arrays import NUMPY, Array, ArrayNamespace, dims_per_example, sum_per_example
from core.forward import StepCoefficients
from core.gaussian import expm1_minus_identity
from core.objectives import OBJECTIVES, Objective, as_objective
from core.reverse import ReverseProcess, ReverseSteps, ReverseTables, step_tables
from core.schedules import Schedule, Table, from_log_snr
from core.variances import FIRST_VARIANCES, VarianceEnds

FALL_REACH = 4.0
"""How far a knot can scale the falls around it, in logs: by e^-4 to e^4 before they are brought back to the range."""


@dataclass(frozen=True, eq=False)
class LearnedSchedule:
    """The family of schedules around `start`, which all parameters 0 stand for.

    `first_reach`, `last_reach`: how far log SNR may move at t = 1 and at t = T, in nats; each is cut to a quarter of
    the start's range, so that the ends cannot meet. Parameters are one array (`size`,): the two ends, then the knots.
    """

    start: Schedule
    first_reach: float = 3.0
    last_reach: float = 3.0
    max_knots: int = 16

    def __post_init__(self) -> None:
        if self.start.num_steps < 2:
            raise ValueError(f"a learned schedule has at least 2 steps, got {self.start.num_steps}")
        if self.first_reach < 0 or self.last_reach < 0 or self.max_knots < 1:
            raise ValueError(
                "the reach of an end is at least 0 and there is at least 1 knot, "
                f"got {self.first_reach}, {self.last_reach} and {self.max_knots}"
            )

    @property
    def size(self) -> int:
        """How many parameters there are."""
        return 2 + int(self._interpolation.shape[1])

    def initial(self) -> Table:
        """The parameters of `start`: all 0."""
        return np.zeros(self.size)

    def log_snr_and_falls(self, parameters: Array, xp: ArrayNamespace = NUMPY) -> tuple[Array, Array]:
        """log SNR at steps 1..T and how far it falls to each from the step before (0 for step 1); (T,) both.

        Falls come first and log SNR from their change since the start: a difference of neighbouring log SNRs would
        lose in float32 what the weight of the KL is made of.
        """
        bounded = parameters / xp.sqrt(1 + parameters * parameters)
        ends = [xp.take(bounded, xp.integers([i]), axis=0) for i in (0, 1)]
        moved_first, moved_last = self._first_reach * ends[0], self._last_reach * ends[1]
        knots = xp.take(bounded, xp.integers(np.arange(2, self.size)), axis=0)
        scale = xp.exp(FALL_REACH * xp.sum(xp.asarray(self._interpolation) * knots, axis=(1,)))
        unscaled = xp.asarray(self._start_falls) * scale
        fall = unscaled * ((self._range + moved_first - moved_last) / xp.sum(unscaled, axis=(0,)))
        moved = moved_first - xp.cumsum(fall - xp.asarray(self._start_falls), axis=0)
        return xp.asarray(self.start.log_snr[1:]) + moved, fall

    def check_start(self, process: ReverseProcess) -> None:
        """ValueError where the process that training starts with is on another schedule than `start`."""
        if process.num_steps != self.start.num_steps:
            raise ValueError(f"the learned schedule has {self.start.num_steps} steps, the process {process.num_steps}")
        if not np.array_equal(process.schedule.log_snr, self.start.log_snr):
            raise ValueError(
                f"the learned schedule starts as {self.start}, the process is on {process.schedule}; "
                "train a process on the schedule that learning starts from"
            )

    def steps(self, family: ReverseProcess, parameters: Array, xp: ArrayNamespace = NUMPY) -> ReverseSteps:
        """The steps of `family` on the schedule of these parameters, differentiable; for losses, not for samplers.

        They have no `Schedule` until it is `frozen`. Entry 0 of their tables repeats entry 1.
        """
        if family.num_steps != self.start.num_steps:
            raise ValueError(f"the learned schedule has {self.start.num_steps} steps, the process {family.num_steps}")
        log_snr, fall = self.log_snr_and_falls(parameters, xp)
        tables = _tables(log_snr, fall, family, xp)
        entry = xp.integers(np.maximum(np.arange(self.start.num_steps + 1) - 1, 0))
        padded = {f.name: xp.take(getattr(tables, f.name), entry, axis=0) for f in fields(tables)}
        return family.with_tables(ReverseTables(**padded))

    def prior_loss(self, parameters: Array, x_0: Array, xp: ArrayNamespace = NUMPY) -> Array:
        """L_T per dim and step, (N,): what `training_loss` with t ~ uniform(1..T) lacks of the bound per dim and step.

        See `core.bounds.prior_kl`, of which this is the differentiable form.
        """
        last = xp.integers([self.start.num_steps - 1])
        log_snr = xp.take(self.log_snr_and_falls(parameters, xp)[0], last, axis=0)
        of_variance = expm1_minus_identity(-_softplus(log_snr, xp), xp)
        share = xp.exp(-_softplus(-log_snr, xp))
        nats = sum_per_example(xp, 0.5 * (of_variance + share * (x_0 * x_0)))
        return nats / (self.start.num_steps * dims_per_example(x_0))

    def frozen(self, parameters: ArrayLike) -> Schedule:
        """The schedule that the parameters stand for."""
        log_snr, _ = self.log_snr_and_falls(np.asarray(parameters, np.float64))
        return from_log_snr(log_snr, f"learned from {self.start.name}")

    @cached_property
    def _start_falls(self) -> Table:
        return np.append(0.0, -np.diff(self.start.log_snr[1:]))

    @cached_property
    def _range(self) -> float:
        return float(self.start.log_snr[1] - self.start.log_snr[-1])

    @property
    def _first_reach(self) -> float:
        return min(self.first_reach, self._range / 4)

    @property
    def _last_reach(self) -> float:
        return min(self.last_reach, self._range / 4)

    @cached_property
    def _interpolation(self) -> Table:
        """(T, K): the share of each knot in the factor of each fall; rows sum to 1.

        Knots are spread halfway between evenly in t and evenly in the start's log SNR: most of the bound is spent in
        the few steps of high SNR, where many schedules fall fast.
        """
        sunk = np.cumsum(self._start_falls) / self._range
        even = np.arange(self.start.num_steps) / (self.start.num_steps - 1)
        position = (sunk + even) / 2
        count = min(self.max_knots, self.start.num_steps - 1)
        if count == 1:
            return np.ones((self.start.num_steps, 1))
        knots = np.linspace(position[1], 1, count)
        return np.stack([np.interp(position, knots, row) for row in np.eye(count)], axis=1)


def check_learnable(objective: str | Objective) -> None:
    """ValueError for an objective that cannot train a schedule."""
    objective = as_objective(objective)
    if not objective.is_bound:
        bounds = " or ".join(other.name for other in OBJECTIVES.values() if other.is_bound)
        raise ValueError(
            f"a learned schedule needs {bounds}, whose loss is the bound, got {objective}: its best schedule is "
            "degenerate, since the loss of a step falls as the step is made easier"
        )


def _softplus(x: Array, xp: ArrayNamespace) -> Array:
    """log(1 + exp(x)) without overflow."""
    size = xp.abs(x)
    return 0.5 * (x + size) + xp.log1p(xp.exp(-size))


def _tables(log_snr: Array, fall: Array, family: ReverseProcess, xp: ArrayNamespace) -> ReverseTables:
    """Tables (T,) from log SNR and its falls.

    With e = 1 - exp(-fall), beta = (1 - alpha_bar_t) e and beta tilde = (1 - alpha_bar_{t-1}) e, so that neither is a
    difference.
    """
    is_first = xp.asarray(np.arange(log_snr.shape[0])) < 0.5
    zero = 0 * log_snr
    before = log_snr + fall
    safe_fall = xp.where(is_first, zero + 1, fall)  # at t = 1 the fall is from infinity, and e = 1
    erased = xp.where(is_first, zero + 1, -xp.expm1(-safe_fall))
    log_erased = xp.where(is_first, zero, xp.log(-xp.expm1(-safe_fall)))
    log_noise, log_noise_before = -_softplus(log_snr, xp), -_softplus(before, xp)
    log_signal = -_softplus(-log_snr, xp)
    log_signal_before = xp.where(is_first, zero, -_softplus(-before, xp))
    mean_on_x_t = xp.where(is_first, zero, xp.exp(0.5 * (log_signal_before - log_signal) - safe_fall))
    signal_before = xp.exp(0.5 * log_signal_before)
    steps = StepCoefficients(
        signal_before=signal_before,
        signal=xp.exp(0.5 * log_signal),
        noise=xp.exp(0.5 * log_noise),
        mean_on_x_0=signal_before * erased,
        mean_on_x_t=mean_on_x_t,
    )
    log_beta = log_erased + log_noise
    log_beta_tilde = log_erased + log_noise_before
    chosen = FIRST_VARIANCES[family.first_variance](log_beta_tilde, log_beta)
    ends = VarianceEnds(
        log_beta_tilde=xp.where(is_first, zero + chosen, log_beta_tilde),
        log_beta=log_beta,
        log_fixed_beta=xp.where(is_first, zero + chosen, log_beta),
        log_ratio=xp.where(is_first, zero, log_noise_before - log_noise),
    )
    return step_tables(steps, ends, family.prediction, family.variance, xp)
