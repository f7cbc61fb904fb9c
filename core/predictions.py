"""What a network may predict of (x_0, epsilon) from x_t: epsilon, x_0, the posterior mean or its offset, or v.

Each prediction is linear in x_0 and epsilon, and given x_t so are the way back to x_0 and to epsilon. A prediction is
therefore a handful of coefficients per step, computed here in float64 and gathered by the shared maths:

    target      = target_on_x_0 * x_0 + target_on_epsilon * epsilon
    x_0_hat     = x_0_on_x_t * x_t + x_0_on_output * output
    epsilon_hat = epsilon_on_x_t * x_t + epsilon_on_output * output

An error (target - output) becomes an error of x_0, of epsilon or of the posterior mean by one factor. Forming
it this way, never as the difference of two reconstructions, keeps float32 errors near 4e-7 instead of 2e-5.

Sohl-Dickstein et al. (2015): https://arxiv.org/abs/1503.03585
Ho et al. (2020): https://arxiv.org/abs/2006.11239
Salimans & Ho (2022): https://arxiv.org/abs/2202.00512
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from core.arrays import Array
from core.forward import StepCoefficients, step_coefficients
from core.schedules import Schedule


@dataclass(frozen=True)
class PredictionTables:
    """Coefficients of one prediction by step, all of one shape."""

    target_on_x_0: Array
    target_on_epsilon: Array
    x_0_on_x_t: Array
    x_0_on_output: Array
    epsilon_on_x_t: Array
    epsilon_on_output: Array


def epsilon(steps: StepCoefficients) -> PredictionTables:
    """The noise itself (Ho et al. 2020, eq. 11)."""
    zero = 0 * steps.signal
    return PredictionTables(zero, zero + 1, 1 / steps.signal, -steps.noise / steps.signal, zero, zero + 1)


def x_0(steps: StepCoefficients) -> PredictionTables:
    """The data itself."""
    zero = 0 * steps.signal
    return PredictionTables(zero + 1, zero, zero, zero + 1, 1 / steps.noise, -steps.signal / steps.noise)


def mean(steps: StepCoefficients) -> PredictionTables:
    """The mean of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, eq. 8); x_0 at t = 1."""
    on_x_t = -steps.mean_on_x_t / steps.mean_on_x_0
    return PredictionTables(
        steps.signal_before,
        steps.mean_on_x_t * steps.noise,
        on_x_t,
        1 / steps.mean_on_x_0,
        (1 - steps.signal * on_x_t) / steps.noise,
        -steps.signal / steps.noise / steps.mean_on_x_0,
    )


def v(steps: StepCoefficients) -> PredictionTables:
    """v = sqrt(alpha_bar) epsilon - sqrt(1 - alpha_bar) x_0 (Salimans & Ho 2022, sec. 4)."""
    return PredictionTables(-steps.noise, steps.signal, steps.signal, -steps.noise, steps.noise, steps.signal)


def offset(steps: StepCoefficients) -> PredictionTables:
    """What the posterior mean adds to sqrt(1 - beta) x_t, in units of sqrt(beta): f_mu of Sohl-Dickstein et al. (2015).

    Their text leaves f_mu open; this is their code's form. Since x_t = sqrt(alpha_bar) x_0 + ..., it equals -scale * v
    with scale = sqrt(beta_t alpha_bar_{t-1} / (1 - alpha_bar_t)): v-prediction, each step in a unit of its own.
    """
    scale = (steps.mean_on_x_0 * steps.signal_before) ** 0.5
    on_x_0, on_epsilon = scale * steps.noise, -scale * steps.signal
    return PredictionTables(on_x_0, on_epsilon, steps.signal, steps.noise / scale, steps.noise, -steps.signal / scale)


@dataclass(frozen=True)
class Prediction:
    """What a network predicts: a name, and the coefficients that say what it means.

    `tables` takes steps of a schedule, and as well a place between two of them (`core.probability_flow`).
    """

    name: str
    tables: Callable[[StepCoefficients], PredictionTables]

    def __str__(self) -> str:
        return self.name


PREDICTIONS: dict[str, Prediction] = {
    tables.__name__: Prediction(tables.__name__, tables) for tables in (epsilon, x_0, mean, v, offset)
}


def as_prediction(prediction: str | Prediction) -> Prediction:
    """The prediction of that name in PREDICTIONS, or the value itself."""
    if isinstance(prediction, Prediction):
        return prediction
    if prediction not in PREDICTIONS:
        raise ValueError(f"unknown prediction {prediction!r}; known: {', '.join(PREDICTIONS)}")
    return PREDICTIONS[prediction]


def prediction_tables(schedule: Schedule, prediction: str | Prediction) -> PredictionTables:
    """The coefficients by step of a schedule: float64, T + 1 entries, of which entry 0 is NaN (step 0 is the data)."""
    tables = as_prediction(prediction).tables(step_coefficients(schedule))
    return PredictionTables(*(np.append(np.nan, getattr(tables, field.name)) for field in fields(tables)))
