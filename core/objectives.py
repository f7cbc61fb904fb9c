"""The objectives: epsilon MSE (L_simple), the posterior KL (L_vlb), and what lies between them.

Each takes one noised batch and the network's output for it, and returns one loss per example, so that the
caller can weight steps and average. `epsilon_mse` is a mean over dims; `posterior_kl` a sum of nats over dims.

With a fixed variance shared by q and p_theta the two differ by one weight per step (`kl_weight`); what makes them truly
different is a learned variance, the t = 1 term, and where training spends its effort.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from core.arrays import NUMPY, Array, ArrayNamespace, dims_per_example, expand_to, gather, sum_per_example
from core.gaussian import log_bin_mass, normal_kl, normal_log_density
from core.reverse import ReverseProcess
from core.schedules import Schedule, Table


@dataclass(frozen=True, eq=False)
class NoisedBatch:
    """Data x_0 (N, ...), noise epsilon (N, ...), steps t (N,) in 1..T, and the x_t (N, ...) they make."""

    x_0: Array
    epsilon: Array
    t: Array
    x_t: Array


def noised_batch(
    process: ReverseProcess, x_0: Array, epsilon: Array, t: Array, xp: ArrayNamespace = NUMPY
) -> NoisedBatch:
    """The batch that training draws: x_t from q(x_t | x_0) with the given noise."""
    return NoisedBatch(x_0, epsilon, t, process.noised(x_0, epsilon, t, xp))


def kl_weight(schedule: Schedule, t: ArrayLike, variance: str = "beta_tilde") -> Table:
    """Nats of L_{t-1} per unit of ||epsilon - epsilon_hat||^2, for integer steps t in 1..T, any shape.

    Ho et al. (2020), eq. 12: beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)). For sigma^2 = beta tilde it equals
    expm1(log_snr[t-1] - log_snr[t]) / 2 (Kingma et al. 2021, eq. 14) and is infinite at t = 1.
    """
    t = schedule.check_steps(t)
    if variance not in ("beta_tilde", "beta"):
        raise ValueError(f"kl_weight knows the fixed variances beta_tilde and beta, got {variance!r}")
    left = schedule.one_minus_alpha_bar[t - 1 if variance == "beta_tilde" else t]
    with np.errstate(divide="ignore"):
        return schedule.beta[t] / (2 * schedule.alpha[t] * left)


def output_error(process: ReverseProcess, batch: NoisedBatch, prediction: Array, xp: ArrayNamespace = NUMPY) -> Array:
    """target - prediction, the error every fixed-variance loss is a weight of."""
    return process.target(batch.x_0, batch.epsilon, batch.t, xp) - prediction


def target_mse(process: ReverseProcess, batch: NoisedBatch, output: Array, xp: ArrayNamespace = NUMPY) -> Array:
    """Mean over dims of (target - output)^2, (N,): unweighted regression of whatever is predicted (Ho et al.
    2020, Table 2).
    """
    error = output_error(process, batch, process.split(output)[0], xp)
    return sum_per_example(xp, error * error) / dims_per_example(batch.x_0)


def epsilon_mse(process: ReverseProcess, batch: NoisedBatch, output: Array, xp: ArrayNamespace = NUMPY) -> Array:
    """Mean over dims of (epsilon - epsilon_hat)^2, (N,): L_simple (Ho et al. 2020, eq. 14), whatever is predicted."""
    error = output_error(process, batch, process.split(output)[0], xp)
    error = gather(xp, process.tables.epsilon_on_output, batch.t, error) * error
    return sum_per_example(xp, error * error) / dims_per_example(batch.x_0)


def posterior_kl(process: ReverseProcess, batch: NoisedBatch, output: Array, xp: ArrayNamespace = NUMPY) -> Array:
    """L_{t-1} in nats per example, (N,): KL(q(x_{t-1} | x_t, x_0) || p_theta(x_{t-1} | x_t)), and -log
    p_theta(x_0 | x_1) at t = 1.

    Sohl-Dickstein et al. (2015), eq. 14; Ho et al. (2020), eq. 5. The mean over t ~ uniform(1..T) times T, plus the
    prior term, is the negative variational bound.
    """
    prediction, value = process.split(output)
    return _posterior_kl(process, batch, prediction, value, xp)


def _posterior_kl(
    process: ReverseProcess, batch: NoisedBatch, prediction: Array, value: Array | None, xp: ArrayNamespace
) -> Array:
    error = output_error(process, batch, prediction, xp)
    if process.learns_variance:
        mean_error = gather(xp, process.tables.mean_error_on_output_error, batch.t, error) * error
        kl = normal_kl(
            mean_error,
            gather(xp, process.tables.posterior_log_variance, batch.t, error),
            0 * mean_error,
            process.log_variance(value, batch.t, error, xp),
            xp,
        )
    else:
        squared = gather(xp, process.tables.kl_on_squared_error, batch.t, error) * (error * error)
        kl = squared + gather(xp, process.tables.kl_of_variances, batch.t, error)
    decoder = _decoder_nats(process, batch, error, value, xp)
    return xp.where(batch.t == 1, sum_per_example(xp, decoder), sum_per_example(xp, kl))


def _decoder_nats(
    process: ReverseProcess, batch: NoisedBatch, error: Array, value: Array | None, xp: ArrayNamespace
) -> Array:
    """-log p_theta(x_0 | x_1) elementwise; at other steps a harmless value, so that `where` leaks no NaN gradient."""
    is_first = expand_to(xp, batch.t == 1, error)
    scaled = gather(xp, process.tables.mean_error_on_output_error, batch.t, error) * error
    x_0_error = xp.where(is_first, scaled, 0 * error)
    log_var = xp.where(is_first, process.log_variance(value, batch.t, error, xp), 0 * error)
    if process.levels is None:
        return -normal_log_density(x_0_error, 0 * x_0_error, log_var, xp)
    return -log_bin_mass(batch.x_0, x_0_error, log_var, process.levels, xp)


def hybrid(
    process: ReverseProcess,
    batch: NoisedBatch,
    output: Array,
    xp: ArrayNamespace = NUMPY,
    *,
    vlb_weight: float = 1e-3,
) -> Array:
    """L_simple + vlb_weight * L_vlb, (N,), with the mean detached in the second term (Nichol & Dhariwal 2021, eq. 16).

    L_vlb is T times `posterior_kl` in bits per dim, the unit in which their lambda = 0.001 was published;
    in nats per dim the same lambda would weigh 1.44 times as much.
    """
    prediction, value = process.split(output)
    bits = process.num_steps / (dims_per_example(batch.x_0) * math.log(2))
    vlb = _posterior_kl(process, batch, xp.stop_gradient(prediction), value, xp) * bits
    return epsilon_mse(process, batch, output, xp) + vlb_weight * vlb


Objective = Callable[[ReverseProcess, NoisedBatch, Array, ArrayNamespace], Array]

OBJECTIVES: dict[str, Objective] = {
    "epsilon_mse": epsilon_mse,
    "posterior_kl": posterior_kl,
    "target_mse": target_mse,
    "hybrid": hybrid,
}


def check_objective(objective: str, variance: str) -> None:
    """Raises a ValueError for an unknown objective, and for one that could not train the variance it is paired with."""
    if objective not in OBJECTIVES:
        raise ValueError(f"unknown objective {objective!r}; known: {', '.join(OBJECTIVES)}")
    learned = variance.startswith("learned")
    if learned and objective in ("epsilon_mse", "target_mse"):
        raise ValueError(f"{objective} has no gradient for a {variance} variance; use posterior_kl or hybrid")
    if not learned and objective == "hybrid":
        raise ValueError(f"hybrid trains a learned variance, got {variance}; use learned_range or learned_diagonal")


def unit_scale(process: ReverseProcess, objective: str) -> float:
    """The factor that makes an objective 1 for a network that puts out 0 on unit-variance data, t uniform.

    Multiplying a loss by a constant changes nothing for Adam, but it does for gradient clipping, which would
    otherwise cut the KL (in nats, or times T) far harder than the MSE. Of the KL only the terms in the error of
    the prediction count, at the variance's floor where it is learned; at t = 1 those of a density. The hybrid is
    left in its published units, 1: lambda ties its two terms.
    """
    if objective == "hybrid":
        return 1.0
    tables = process.tables
    size = tables.target_on_x_0[1:] ** 2 + tables.target_on_epsilon[1:] ** 2
    per_step = {
        "epsilon_mse": size * tables.epsilon_on_output[1:] ** 2,
        "target_mse": size,
        "posterior_kl": size * tables.kl_on_squared_error[1:],
    }[objective]
    return float(1 / np.mean(per_step))


def training_loss(
    process: ReverseProcess, objective: str, batch: NoisedBatch, output: Array, xp: ArrayNamespace = NUMPY
) -> Array:
    """What a backend differentiates: the objective per example and dim, (N,), before `unit_scale` and any step
    weight.
    """
    loss = OBJECTIVES[objective](process, batch, output, xp)
    return loss / dims_per_example(batch.x_0) if objective == "posterior_kl" else loss
