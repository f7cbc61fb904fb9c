"""An objective and a prediction that the project does not have, as a person adding one would write them.

Their names are nobody's, so that they stay free whatever the project comes to have.
"""

from __future__ import annotations

import numpy as np

from core.arrays import NUMPY, gather
from core.objectives import Objective, epsilon_mse
from core.predictions import Prediction, PredictionTables

GAMMA = 5.0


def invented_mse(process, batch, output, xp=NUMPY):
    """The epsilon MSE times min(1, gamma / SNR) (Hang et al. 2023, arXiv 2303.09556, sec. 3.4)."""
    noise, signal = (gather(xp, table, batch.t, batch.t) for table in (process.tables.noise, process.tables.signal))
    ratio = noise / signal
    return xp.clip(GAMMA * ratio * ratio, 0.0, 1.0) * epsilon_mse(process, batch, output, xp)


INVENTED_MSE = Objective(
    "invented_mse",
    invented_mse,
    lambda tables: np.minimum(1, GAMMA * (tables.noise / tables.signal) ** 2) * tables.epsilon_on_output**2,
)


def invented_score(steps):
    """The gradient of log q(x_t | x_0), -epsilon / sqrt(1 - alpha_bar)."""
    zero = 0 * steps.signal
    return PredictionTables(
        zero, -1 / steps.noise, 1 / steps.signal, steps.noise**2 / steps.signal, zero, -1 * steps.noise
    )


SCORE = Prediction("invented_score", invented_score)
