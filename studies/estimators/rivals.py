"""What other codes do, measured on the table: network evaluations per example for the standard error of one sweep.

Where every draw is independent, the variance is a formula in the table's moments; one grid of steps over all
examples is simulated.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from core.timesteps import SecondMoments, importance
from studies.estimators.table import TermTable

HISTORY = 10
HISTORIES = 10
"""How many histories the cost of importance sampling is averaged over."""
GRID_REPEATS = 60


def history_probabilities(table: TermTable, rng: np.random.Generator) -> NDArray[np.float64]:
    """P(t) from the last 10 losses at every t, of examples and noise at random (Nichol & Dhariwal 2021, eq. 18)."""
    t = np.tile(np.arange(1, table.num_steps + 1), HISTORY)
    example, drawn = rng.integers(table.num_examples, size=t.size), rng.integers(table.num_draws, size=t.size)
    losses = table.kl[example, table.column[t], drawn]
    return SecondMoments.empty(table.num_steps, HISTORY).recorded(t, losses).probabilities()


def independent(table: TermTable, probabilities: NDArray[np.float64]) -> float:
    """The cost where each example gets its own independent t from `probabilities` (T,).

    K draws of L_t / P(t) for each of N examples have the variance mean over examples of (sum over t of E[L_t^2] / P(t)
    - (sum over t of E[L_t])^2) / (K N).
    """
    column = table.column[1:]
    second, mean = (table.kl**2).mean(axis=2)[:, column], table.kl.mean(axis=2)[:, column]
    variance = np.mean((second / probabilities).sum(axis=1) - mean.sum(axis=1) ** 2)
    return float(variance / table.noise_variance.sum())


def one_grid(table: TermTable, probabilities: NDArray[np.float64], rng: np.random.Generator) -> float:
    """The cost where one low-discrepancy grid of t serves all draws, each example having the same number of them."""
    p, size = probabilities, table.num_examples

    def error(evaluations: float) -> float:
        draws = round(evaluations * size)
        errors = np.empty(GRID_REPEATS)
        for k in range(GRID_REPEATS):
            step = importance((np.arange(draws) + rng.random(draws)) / draws, p)
            example = rng.permutation(np.arange(draws) % size)
            values = table.kl[example, table.column[step.t], rng.integers(table.num_draws, size=draws)]
            errors[k] = np.mean(step.weight * values) * table.num_steps - table.bound
        return float(np.sqrt(np.mean(errors**2)))

    return cost_at(error, table.sweep_error, independent(table, p), most=float(table.num_steps))


def cost_at(error: Callable[[float], float], target: float, guess: float, most: float, least: float = 1.0) -> float:
    """Evaluations per example at which error(evaluations) is `target`, between `least` and twice `most`.

    Two points on either side of a guess, joined by a line in the logs; the guess is first mended from its own error.
    """
    guess = float(np.clip(guess, least, 2 * most))
    guess = float(np.clip(guess * (error(guess) / target) ** 2, least, 2 * most))
    low, high = max(least, 0.75 * guess), max(least, 0.75 * guess) * 1.75
    first, second = error(low), error(high)
    slope = min(-0.25, np.log(second / first) / np.log(high / low))  # an error that did not fall is scatter
    return float(np.clip(low * (target / first) ** (1 / slope), least, 2 * most))
