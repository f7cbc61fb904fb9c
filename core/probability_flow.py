"""The probability flow: the ODE that carries the diffusion's marginals, and the exact likelihood that it gives a model.

Song et al. (2021), eqs. 13 and 39-40. With the log SNR lambda as time, alpha^2 = sigmoid(lambda) and
sigma^2 = sigmoid(-lambda), it reads

    dx / d lambda = (sigma^2 x - sigma epsilon_hat) / 2,      d log p(x) / d lambda = -div(dx / d lambda).

In this time the right-hand side contracts by at most 1/2 a unit, however small the noise, so even steps serve.

Between the steps of a discrete schedule lambda runs on, and the network is told a fractional step: the monotone cubic
(Fritsch & Carlson 1980) through the points (log_snr[t], steps[t]). It was trained at whole steps only; what it makes
of the others is part of the model evaluated here. The flow starts from N(0, I) at step T and ends at step 1 or later,
never beyond the least noise the network has seen. Three `DataEnd`s state what leads from there to the data.

A field is what has to be integrated: field(x, log_snr) -> (dx / d lambda (N, ...), divergence (P, N)), where P is 1 for
an exact divergence and the number of probes for an estimated one. Probes are arguments; the integral of each is kept.

Theis et al. (2016): https://arxiv.org/abs/1511.01844
Song et al. (2021): https://arxiv.org/abs/2011.13456
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.arrays import NUMPY, dims_per_example, sum_per_example
from core.forward import StepCoefficients, step_coefficients
from core.gaussian import bin_width, normal_log_density
from core.reverse import ReverseProcess
from core.schedules import Schedule, Table

Field = Callable[[Table, float], tuple[Table, Table]]
ProbedField = Callable[[Table, float, Table], tuple[Table, Table]]
"""What a backend supplies: (x (N, ...), log_snr, probes (P, N, ...)) -> dx / d lambda, and v^T (its Jacobian) v for
each probe v, (P, N)."""


@dataclass(frozen=True)
class FlowCoefficients:
    """dx / d lambda = on_x * x + on_output * prediction, of a network at the (fractional) step `network_t`."""

    on_x: float
    on_output: float
    network_t: float


@dataclass(frozen=True, eq=False)
class ProbabilityFlow:
    """The flow of a process, whatever its prediction; its reverse variance plays no part. T >= 2."""

    process: ReverseProcess

    def __post_init__(self) -> None:
        if self.process.num_steps < 2:
            raise ValueError("a probability flow runs between two steps or more, got a schedule of 1")

    def coefficients(self, log_snr: float) -> FlowCoefficients:
        """The right-hand side at a log SNR between those of steps T and 1."""
        levels = self.process.schedule.log_snr
        if not levels[-1] <= log_snr <= levels[1]:
            raise ValueError(f"the flow runs between log SNRs {levels[-1]:g} and {levels[1]:g}, got {log_snr:g}")
        steps, network_t = self._between_steps(log_snr)
        tables = self.process.prediction.tables(steps)
        # The noise variance itself, as a rounded square root squared would not quite cancel.
        on_x = 0.5 * (_noise_variance(log_snr) - steps.noise * tables.epsilon_on_x_t)
        on_output = -0.5 * steps.noise * tables.epsilon_on_output
        return FlowCoefficients(on_x.item(), on_output.item(), network_t)

    def _between_steps(self, log_snr: float) -> tuple[StepCoefficients, float]:
        """What a prediction is made of at a log SNR, (1,) each, and the fractional step there.

        Signal and noise are exact. A posterior mean exists at whole steps only: its coefficients are interpolated, that
        on x_0 in logs, and in logs so is its product with `signal_before`.
        """
        network_t, log_on_x_0, on_x_t, log_product = np.split(np.asarray(self._by_log_snr(log_snr)), 4)
        on_x_0 = np.exp(log_on_x_0)
        return StepCoefficients(
            signal_before=np.exp(log_product) / on_x_0,
            signal=np.array([math.sqrt(_noise_variance(-log_snr))]),
            noise=np.array([math.sqrt(_noise_variance(log_snr))]),
            mean_on_x_0=on_x_0,
            mean_on_x_t=on_x_t,
        ), network_t.item()

    @cached_property
    def _by_log_snr(self) -> Callable[[float], Any]:
        """The monotone cubics through what is known at whole steps."""
        from scipy.interpolate import PchipInterpolator  # not at import time: it would multiply what importing costs

        schedule, steps = self.process.schedule, step_coefficients(self.process.schedule)
        log_on_x_0 = np.log(steps.mean_on_x_0)
        product = np.log(steps.mean_on_x_0 * steps.signal_before)
        by_step = np.stack([schedule.steps[1:].astype(np.float64), log_on_x_0, steps.mean_on_x_t, product], axis=1)
        by_log_snr: Callable[[float], Any] = PchipInterpolator(schedule.log_snr[:0:-1], by_step[::-1])
        return by_log_snr


def _noise_variance(log_snr: float) -> float:
    """sigma^2; of -log_snr, alpha^2."""
    return 1 / (1 + math.exp(log_snr))


def flow_terms(
    at: FlowCoefficients, x: ArrayLike, prediction: ArrayLike, probes: ArrayLike, along: ArrayLike
) -> tuple[Table, Table]:
    """dx / d lambda (N, ...) and v^T Jacobian v (P, N), from the prediction at x and `along` = v^T (its Jacobian) v."""
    x, probes = np.asarray(x, np.float64), np.asarray(probes, np.float64)
    squares = np.sum(probes * probes, axis=tuple(range(2, probes.ndim)))
    dx = at.on_x * x + at.on_output * np.asarray(prediction, np.float64)
    return dx, at.on_x * squares + at.on_output * np.asarray(along, np.float64)


def basis_probes(shape: tuple[int, ...]) -> Table:
    """The D unit vectors for each of N examples of `shape` (N, ...): (D, N, ...). Their terms sum to the divergence."""
    dims = math.prod(shape[1:])
    return np.broadcast_to(np.eye(dims)[:, None], (dims, shape[0], dims)).reshape(dims, *shape)


def with_exact_divergence(field: ProbedField) -> Field:
    """The divergence by D probes, (1, N)."""

    def exact(x: Table, log_snr: float) -> tuple[Table, Table]:
        dx, along = field(x, log_snr, basis_probes(x.shape))
        return dx, along.sum(axis=0, keepdims=True)

    return exact


def with_probes(field: ProbedField, probes: Table) -> Field:
    """The divergence estimated by each of `probes` (P, N, ...) (Hutchinson 1990): unbiased if E[v v^T] = I."""
    return lambda x, log_snr: field(x, log_snr, probes)


def flow_log_density(field: Field, x: Table, log_snr: float, last_log_snr: float, num_steps: int) -> Table:
    """log p(x) in nats, (P, N), of x (N, ...) at `log_snr`, where p is N(0, I) carried there from `last_log_snr`.

    The classical Runge-Kutta method of fourth order, `num_steps` even steps of four evaluations each. Every example is
    solved by itself: nothing depends on who shares its batch.
    """
    edges = np.linspace(log_snr, last_log_snr, num_steps + 1)
    step = (last_log_snr - log_snr) / num_steps
    integral: Any = 0.0
    for start, end in pairwise(edges):
        middle = 0.5 * (start + end)
        slope_1, change_1 = field(x, start)
        slope_2, change_2 = field(x + 0.5 * step * slope_1, middle)
        slope_3, change_3 = field(x + 0.5 * step * slope_2, middle)
        slope_4, change_4 = field(x + step * slope_3, end)
        x = x + step / 6 * (slope_1 + 2 * (slope_2 + slope_3) + slope_4)
        integral = integral + step / 6 * (change_1 + 2 * (change_2 + change_3) + change_4)
    log_density: Table = _log_standard_normal(x) + integral
    return log_density


def _log_standard_normal(x: Table) -> Table:
    """log N(x; 0, I), (N,)."""
    zero = np.zeros_like(x)
    log_density: Table = sum_per_example(NUMPY, normal_log_density(x, zero, zero))
    return log_density


@dataclass(frozen=True, eq=False)
class FlowSolution:
    """`log_density` (P, N) in nats, by `steps` (N,) steps; `evaluations` of the field for one example, all counted.

    `change` (N,): by how much the mean over probes moved when the steps were last doubled, a generous estimate of the
    solver's error.
    """

    log_density: Table
    change: Table
    steps: NDArray[np.int64]
    evaluations: int


def refined(
    run: Callable[[NDArray[np.int64], int], Table], count: int, tolerance: float, first_steps: int, max_steps: int
) -> FlowSolution:
    """Doubles the steps of each example until its log density moves by at most `tolerance` nats.

    run(rows, num_steps) gives (P, len(rows)) for chosen examples out of `count`. An example still moving at `max_steps`
    is left as it is, its `change` above the tolerance.
    """
    if first_steps < 1 or max_steps < 2 * first_steps:
        raise ValueError(f"max_steps is at least twice first_steps >= 1, got {max_steps} and {first_steps}")
    rows, steps = np.arange(count), first_steps
    before = run(rows, steps)
    evaluations = 4 * steps * count
    density, change, taken = np.array(before), np.full(count, np.inf), np.zeros(count, np.int64)
    while rows.size and 2 * steps <= max_steps:
        steps *= 2
        after = run(rows, steps)
        evaluations += 4 * steps * rows.size
        density[:, rows], taken[rows] = after, steps
        with np.errstate(invalid="ignore"):
            change[rows] = np.abs(np.mean(after - before, axis=0))
        moving = ~(change[rows] <= tolerance)
        rows, before = rows[moving], after[:, moving]
    return FlowSolution(density, change, taken, evaluations)


@dataclass(frozen=True, eq=False)
class DataEnd:
    """Where given data enter the flow: x (N, ...) at step `step`, and `nats` (N,), to be added to -log p(x)."""

    x: Table
    nats: Table
    step: int


def density_end(schedule: Schedule, x_0: ArrayLike, step: int = 1) -> DataEnd:
    """Continuous data: the density of x / sqrt(alpha_bar) at the flow's end, taken at x_0 as it is.

    An exact likelihood, of a model whose samples are the flow's ends divided by sqrt(alpha_bar). With a perfect network
    that is the density of the data blurred by noise of standard deviation exp(-log_snr[step] / 2), not that of the
    data: no correction is made for the blur. Data thinner than the blur is penalised for it.
    """
    x_0 = np.asarray(x_0, np.float64)
    log_signal = 0.5 * schedule.log_alpha_bar[int(schedule.check_steps(step))]
    return DataEnd(math.exp(log_signal) * x_0, np.full(len(x_0), -dims_per_example(x_0) * log_signal), step)


def uniform_end(schedule: Schedule, x_0: ArrayLike, u: ArrayLike, levels: int, step: int = 1) -> DataEnd:
    """Data on K levels: uniform dequantisation, x_0 + w (u - 1/2) with the bin width w = 2 / (K - 1).

    The mean over u (N, ...), uniform on [0, 1), of -log density - D log w bounds -log P(x_0), P being the mass that the
    density of `density_end` has in the bins around x_0 (Theis et al. 2016, sec. 3.1). `step`:
    `matched_step` for a network that has seen the levels themselves, 1 for one trained on dequantised data.
    """
    x_0, width = np.asarray(x_0, np.float64), bin_width(levels)
    end = density_end(schedule, x_0 + width * (np.asarray(u, np.float64) - 0.5), step)
    return DataEnd(end.x, end.nats - dims_per_example(x_0) * math.log(width), step)


def matched_step(schedule: Schedule, levels: int) -> int:
    """The first step whose noise, in units of the data, is as wide as uniform noise over a bin of K levels.

    Before it a network trained on the levels themselves sees separate spikes, and points between them have next to no
    density.
    """
    wide = -schedule.log_snr[1:] >= math.log(bin_width(levels) ** 2 / 12)
    if not wide.any():
        raise ValueError(f"the noise of {schedule.name} never grows as wide as a bin of {levels} levels")
    return int(np.argmax(wide)) + 1


def decoder_end(schedule: Schedule, x_0: ArrayLike, epsilon: ArrayLike, decoder_nats: ArrayLike) -> DataEnd:
    """Any data: through the model's own decoder, -log p(x_0) <= E[-log p(x_0 | x_1) - log p(x_1) + log q(x_1 | x_0)].

    The flow gives p(x_1), `decoder_nats` (N,) are -log p(x_0 | x_1) for the same noise epsilon (N, ...): L_0 of the
    variational bound, so that this number and the bound differ in nothing but p(x_1). Where the decoder is the exact
    posterior the bound is an equality for every epsilon, not only on average.
    """
    x_0, epsilon = np.asarray(x_0, np.float64), np.asarray(epsilon, np.float64)
    x_1 = math.sqrt(schedule.alpha_bar[1]) * x_0 + math.sqrt(schedule.one_minus_alpha_bar[1]) * epsilon
    log_q = _log_standard_normal(epsilon) - 0.5 * dims_per_example(x_0) * schedule.log_one_minus_alpha_bar[1]
    return DataEnd(x_1, np.asarray(decoder_nats, np.float64) + log_q, 1)
