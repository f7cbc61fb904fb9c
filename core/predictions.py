"""What a network may predict of (x_0, epsilon) from x_t: epsilon, x_0, the posterior mean, or v.

Each prediction is linear in x_0 and epsilon, and given x_t so are the way back to x_0 and to epsilon. A prediction is
therefore a handful of coefficients per step, computed here in float64 and gathered by the shared maths:

    target      = target_on_x_0 * x_0 + target_on_epsilon * epsilon
    x_0_hat     = x_0_on_x_t * x_t + x_0_on_output * output
    epsilon_hat = epsilon_on_x_t * x_t + epsilon_on_output * output

An error (target - output) becomes an error of x_0, of epsilon or of the posterior mean by one factor. Forming
it this way, never as the difference of two reconstructions, keeps float32 errors near 4e-7 instead of 2e-5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.forward import posterior
from core.schedules import Schedule, Table


@dataclass(frozen=True)
class PredictionTables:
    """Coefficients of one prediction at steps 1..T, in tables of T + 1 entries; entry 0 is NaN (step 0 is the data)."""

    target_on_x_0: Table
    target_on_epsilon: Table
    x_0_on_x_t: Table
    x_0_on_output: Table
    epsilon_on_x_t: Table
    epsilon_on_output: Table


def _tables(*columns: Table | float) -> PredictionTables:
    length = max(np.size(column) for column in columns)
    return PredictionTables(*(np.append(np.nan, np.broadcast_to(column, length)) for column in columns))


def epsilon(schedule: Schedule) -> PredictionTables:
    """The noise itself (Ho et al. 2020, eq. 11)."""
    signal, noise = _signal_and_noise(schedule)
    return _tables(0.0, 1.0, 1 / signal, -noise / signal, 0.0, 1.0)


def x_0(schedule: Schedule) -> PredictionTables:
    """The data itself."""
    signal, noise = _signal_and_noise(schedule)
    return _tables(1.0, 0.0, 0.0, 1.0, 1 / noise, -signal / noise)


def mean(schedule: Schedule) -> PredictionTables:
    """The mean of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, eq. 8); x_0 at t = 1."""
    signal, noise = _signal_and_noise(schedule)
    q = posterior(schedule, np.arange(1, schedule.num_steps + 1))
    on_x_t = -q.on_x_t / q.on_x_0
    return _tables(
        np.sqrt(schedule.alpha_bar[:-1]),
        q.on_x_t * noise,
        on_x_t,
        1 / q.on_x_0,
        (1 - signal * on_x_t) / noise,
        -signal / noise / q.on_x_0,
    )


def v(schedule: Schedule) -> PredictionTables:
    """v = sqrt(alpha_bar) epsilon - sqrt(1 - alpha_bar) x_0 (Salimans & Ho 2022, arXiv 2202.00512, sec. 4)."""
    signal, noise = _signal_and_noise(schedule)
    return _tables(-noise, signal, signal, -noise, noise, signal)


PREDICTIONS: dict[str, Callable[[Schedule], PredictionTables]] = {
    "epsilon": epsilon,
    "x_0": x_0,
    "mean": mean,
    "v": v,
}


def prediction_tables(schedule: Schedule, name: str) -> PredictionTables:
    """The coefficients of the prediction called `name` in PREDICTIONS."""
    if name not in PREDICTIONS:
        raise ValueError(f"unknown prediction {name!r}; known: {', '.join(PREDICTIONS)}")
    return PREDICTIONS[name](schedule)


def _signal_and_noise(schedule: Schedule) -> tuple[Table, Table]:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar) at steps 1..T."""
    return np.sqrt(schedule.alpha_bar[1:]), np.sqrt(schedule.one_minus_alpha_bar[1:])
