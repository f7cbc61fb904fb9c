"""The objectives: epsilon MSE (L_simple), the posterior KL (L_vlb), and what lies between them.

Each takes one noised batch and the network's output for it, and returns one loss per example, so that the
caller can weight steps and average. `epsilon_mse` is a mean over dims; `posterior_kl` a sum of nats over dims.

With a fixed variance shared by q and p_theta the two differ by one weight per step (`kl_weight`); what makes them truly
different is a learned variance, the t = 1 term, and where training spends its effort.

Sohl-Dickstein et al. (2015): https://arxiv.org/abs/1503.03585
Ho et al. (2020): https://arxiv.org/abs/2006.11239
Nichol & Dhariwal (2021): https://arxiv.org/abs/2102.09672
Kingma et al. (2021): https://arxiv.org/abs/2107.00630
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from core.arrays import NUMPY, Array, ArrayNamespace, dims_per_example, expand_to, gather, sum_per_example
from core.gaussian import log_bin_mass, normal_kl, normal_log_density
from core.reverse import ReverseSteps, ReverseTables
from core.schedules import Schedule, Table
from core.variances import VARIANCES, Variance, as_variance


@dataclass(frozen=True, eq=False)
class NoisedBatch:
    """Data x_0 (N, ...), noise epsilon (N, ...), steps t (N,) in 1..T, and the x_t (N, ...) they make."""

    x_0: Array
    epsilon: Array
    t: Array
    x_t: Array


def noised_batch(
    process: ReverseSteps, x_0: Array, epsilon: Array, t: Array, xp: ArrayNamespace = NUMPY
) -> NoisedBatch:
    """The batch that training draws: x_t from q(x_t | x_0) with the given noise."""
    return NoisedBatch(x_0, epsilon, t, process.noised(x_0, epsilon, t, xp))


def kl_weight(schedule: Schedule, t: ArrayLike, variance: str | Variance = "beta_tilde") -> Table:
    """Nats of L_{t-1} per unit of ||epsilon - epsilon_hat||^2, for integer steps t in 1..T, any shape.

    Ho et al. (2020), eq. 12: beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)). For sigma^2 = beta tilde it equals
    expm1(log_snr[t-1] - log_snr[t]) / 2 (Kingma et al. 2021, eq. 14) and is infinite at t = 1. The variance at t = 1 is
    that of the formula, not the one which a process chooses (`first_variance`).
    """
    t = schedule.check_steps(t)
    variance = as_variance(variance)
    if variance.steps_back is None:
        known = " and ".join(other.name for other in VARIANCES.values() if other.steps_back is not None)
        raise ValueError(f"kl_weight knows the fixed variances {known}, got {variance.name!r}")
    left = schedule.one_minus_alpha_bar[t - variance.steps_back]
    with np.errstate(divide="ignore"):
        return schedule.beta[t] / (2 * schedule.alpha[t] * left)


def output_error(process: ReverseSteps, batch: NoisedBatch, prediction: Array, xp: ArrayNamespace = NUMPY) -> Array:
    """target - prediction, the error every fixed-variance loss is a weight of."""
    return process.target(batch.x_0, batch.epsilon, batch.t, xp) - prediction


def target_mse(process: ReverseSteps, batch: NoisedBatch, output: Array, xp: ArrayNamespace = NUMPY) -> Array:
    """Mean over dims of (target - output)^2, (N,): unweighted regression of whatever is predicted.

    Ho et al. (2020), Table 2.
    """
    error = output_error(process, batch, process.split(output)[0], xp)
    return sum_per_example(xp, error * error) / dims_per_example(batch.x_0)


def epsilon_mse(process: ReverseSteps, batch: NoisedBatch, output: Array, xp: ArrayNamespace = NUMPY) -> Array:
    """Mean over dims of (epsilon - epsilon_hat)^2, (N,): L_simple (Ho et al. 2020, eq. 14), whatever is predicted."""
    error = output_error(process, batch, process.split(output)[0], xp)
    error = gather(xp, process.tables.epsilon_on_output, batch.t, error) * error
    return sum_per_example(xp, error * error) / dims_per_example(batch.x_0)


def posterior_kl(process: ReverseSteps, batch: NoisedBatch, output: Array, xp: ArrayNamespace = NUMPY) -> Array:
    """L_{t-1} in nats per example, (N,): KL(q(x_{t-1} | x_t, x_0) || p_theta(x_{t-1} | x_t)).

    At t = 1 it is -log p_theta(x_0 | x_1).
    Sohl-Dickstein et al. (2015), eq. 14; Ho et al. (2020), eq. 5. The mean over t ~ uniform(1..T) times T, plus the
    prior term, is the negative variational bound.
    """
    prediction, value = process.split(output)
    return _posterior_kl(process, batch, prediction, value, xp)


def _posterior_kl(
    process: ReverseSteps, batch: NoisedBatch, prediction: Array, value: Array | None, xp: ArrayNamespace
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
    process: ReverseSteps, batch: NoisedBatch, error: Array, value: Array | None, xp: ArrayNamespace
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
    process: ReverseSteps,
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


Loss = Callable[[ReverseSteps, NoisedBatch, Array, ArrayNamespace], Array]
"""(process, batch, output, xp) -> one loss per example, (N,)."""


class Losses(NamedTuple):
    """What a training step records of its batch, (N,) each.

    `epsilon_mse` per dim, `posterior_kl` in nats per example, and `trained`, the loss that is differentiated, before
    its scale and weight.
    """

    epsilon_mse: Any
    posterior_kl: Any
    trained: Any


@dataclass(frozen=True)
class Objective:
    """What is minimised, with all that training has to know of it.

    `loss`: one per example; where it `sums_dims`, training takes it per dim. `error_weight`: tables -> what a step's
    loss makes of a squared error of 1 in each dim of the output, (T + 1,) and per dim, from which `unit_scale` follows;
    None leaves the loss in units of its own. `trains_variance`: whether it has a gradient for a learned variance;
    `needs_learned_variance`: whether it is of use with no other. `remembers`: which of the recorded losses importance
    sampling goes by (Nichol & Dhariwal 2021, sec. 3.3). `is_bound`: whether its mean over t, times T, is the bound but
    for L_T, so that it may train the schedule.
    """

    name: str
    loss: Loss
    error_weight: Callable[[ReverseTables], Array] | None
    sums_dims: bool = False
    trains_variance: bool = False
    needs_learned_variance: bool = False
    remembers: Callable[[Losses], Any] = attrgetter("trained")
    is_bound: bool = False

    def __str__(self) -> str:
        return self.name


_EPSILON_MSE = Objective("epsilon_mse", epsilon_mse, lambda tables: tables.epsilon_on_output**2)
_POSTERIOR_KL = Objective(
    "posterior_kl",
    posterior_kl,
    lambda tables: tables.kl_on_squared_error,
    sums_dims=True,
    trains_variance=True,
    remembers=attrgetter("posterior_kl"),
    is_bound=True,
)
_TARGET_MSE = Objective("target_mse", target_mse, lambda tables: np.ones_like(tables.signal))
_HYBRID = Objective(
    "hybrid",
    hybrid,
    None,  # its published units: lambda ties its two terms
    trains_variance=True,
    needs_learned_variance=True,
    remembers=attrgetter("posterior_kl"),  # the term that is hard to sample
)

OBJECTIVES: dict[str, Objective] = {
    objective.name: objective for objective in (_EPSILON_MSE, _POSTERIOR_KL, _TARGET_MSE, _HYBRID)
}


def as_objective(objective: str | Objective) -> Objective:
    """The objective of that name in OBJECTIVES, or the value itself."""
    if isinstance(objective, Objective):
        return objective
    if objective not in OBJECTIVES:
        raise ValueError(f"unknown objective {objective!r}; known: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[objective]


def check_objective(objective: str | Objective, variance: str | Variance) -> None:
    """Raises a ValueError for an unknown objective, and for one that could not train the variance it is paired with."""
    objective, variance = as_objective(objective), as_variance(variance)
    if variance.is_learned and not objective.trains_variance:
        able = " or ".join(other.name for other in OBJECTIVES.values() if other.trains_variance)
        raise ValueError(f"{objective} has no gradient for a {variance} variance; use {able}")
    if objective.needs_learned_variance and not variance.is_learned:
        learned = " or ".join(other.name for other in VARIANCES.values() if other.is_learned)
        raise ValueError(f"{objective} trains a learned variance, got {variance}; use {learned}")


def unit_scale(process: ReverseSteps, objective: str | Objective) -> float:
    """The factor that makes an objective 1 for a network that puts out 0 on unit-variance data, t uniform.

    Multiplying a loss by a constant changes nothing for Adam, but it does for gradient clipping, which would
    otherwise cut the KL (in nats, or times T) far harder than the MSE. Of the KL only the terms in the error of
    the prediction count, at the variance's floor where it is learned; at t = 1 those of a density. 1 for an objective
    that is left in its own units, as the hybrid is in those it was published in.
    """
    objective, tables = as_objective(objective), process.tables
    if objective.error_weight is None:
        return 1.0
    size = tables.target_on_x_0[1:] ** 2 + tables.target_on_epsilon[1:] ** 2
    return float(1 / np.mean(size * objective.error_weight(tables)[1:]))


def training_loss(
    process: ReverseSteps, objective: str | Objective, batch: NoisedBatch, output: Array, xp: ArrayNamespace = NUMPY
) -> Array:
    """What a backend differentiates: the objective per example and dim, (N,).

    `unit_scale` and the weight of the step come on top.
    """
    objective = as_objective(objective)
    loss = objective.loss(process, batch, output, xp)
    return loss / dims_per_example(batch.x_0) if objective.sums_dims else loss


def recorded_losses(
    process: ReverseSteps,
    objective: Objective,
    batch: NoisedBatch,
    output: Array,
    trained: Array,
    xp: ArrayNamespace = NUMPY,
) -> Losses:
    """What is recorded of a batch whose `training_loss` is `trained`; neither of the two is computed a second time."""
    loss = trained * dims_per_example(batch.x_0) if objective.sums_dims else trained
    mse = loss if objective.loss is epsilon_mse else epsilon_mse(process, batch, output, xp)
    kl = loss if objective.loss is posterior_kl else posterior_kl(process, batch, output, xp)
    return Losses(mse, kl, trained)
