"""The negative variational bound and its terms: L = L_T + sum over t >= 2 of L_{t-1} + L_0.

Sohl-Dickstein et al. (2015), eqs. 9-14; Ho et al. (2020), eq. 5, and sec. 4.3 for the bound read as a code. Terms are
nats per example; bits per dim are made in one place. On data with K levels the bound is on a probability, on continuous
data on a density.

Sohl-Dickstein et al. (2015): https://arxiv.org/abs/1503.03585
Ho et al. (2020): https://arxiv.org/abs/2006.11239
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.arrays import NUMPY, Array, ArrayNamespace, sum_per_example
from core.gaussian import bin_width, expm1_minus_identity
from core.schedules import Schedule, Table
from core.strata import Strata


def prior_kl(schedule: Schedule, x_0: Array, xp: ArrayNamespace = NUMPY) -> Array:
    """L_T = KL(q(x_T | x_0) || N(0, I)) in nats per example, (N,).

    1/2 sum (v - 1 - log v + alpha_bar_T x_0^2) with v = 1 - alpha_bar_T: the first three terms by series, because at
    x_0 = 0 the truth is near alpha_bar_T^2 / 4, which subtraction loses altogether.
    """
    of_variance = float(0.5 * expm1_minus_identity(schedule.log_one_minus_alpha_bar[-1]))
    of_mean = float(0.5 * schedule.alpha_bar[-1])
    return sum_per_example(xp, of_variance + of_mean * (x_0 * x_0))


def bits_per_dim(nats: ArrayLike, dims: int) -> NDArray[np.float64]:
    """Nats per example as bits per dim, for examples of `dims` numbers."""
    return np.asarray(nats, dtype=np.float64) / (dims * math.log(2))


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A bound split by term: means over examples, in nats.

    `prior`: L_T. `steps` (T + 1,): entry t >= 2 is L_{t-1}, entry 1 the decoder term L_0, entry 0 is 0.
    `dims`: numbers per example.
    """

    prior: float
    steps: Table
    dims: int

    @property
    def decoder(self) -> float:
        """L_0 = -log p_theta(x_0 | x_1), nats."""
        return float(self.steps[1])

    @property
    def diffusion(self) -> float:
        """The sum of L_{t-1} over t >= 2, nats."""
        return math.fsum(self.steps[2:])

    @property
    def total(self) -> float:
        """The negative variational bound, nats."""
        return self.prior + self.diffusion + self.decoder

    @property
    def bits_per_dim(self) -> float:
        return float(bits_per_dim(self.total, self.dims))

    @property
    def steps_bits_per_dim(self) -> Table:
        """Where in t the bound is spent: (T + 1,), bits per dim."""
        return bits_per_dim(self.steps, self.dims)


def decompose(prior_nats: ArrayLike, term_nats: ArrayLike, dims: int) -> Decomposition:
    """The mean bound of N examples from L_T (N,) and all their terms (N, T).

    Column t - 1 of the terms is `posterior_kl` at step t.
    """
    prior, terms = np.asarray(prior_nats, np.float64), np.asarray(term_nats, np.float64)
    if terms.ndim != 2 or prior.shape != terms.shape[:1]:
        raise ValueError(
            "expected prior terms (N,) and step terms (N, T) of the same N examples, "
            f"got {prior.shape} and {terms.shape}"
        )
    return Decomposition(float(prior.mean()), np.append(0.0, terms.mean(axis=0)), dims)


@dataclass(frozen=True, eq=False)
class RateDistortion:
    """What a receiver of the progressive code has spent and knows, by stratum of t; (H,) each.

    `rate`: nats per example to hold x_t; `rmse`: of the x_0_hat made from it, per dim, in units of the data; each with
    its standard error. Strata of one step are exact; in a longer one the rate is the mean over its steps, each taken
    to cost the same, and the rmse the root of the mean square.
    """

    strata: Strata
    rate: Table
    rate_error: Table
    rmse: Table
    rmse_error: Table


def squared_error_of_x_0(schedule: Schedule, of_epsilon: ArrayLike, t: NDArray[np.int64]) -> Table:
    """What a squared error of epsilon_hat at steps t, within 1..T, is as one of x_0_hat: exp(-log_snr) times as much.

    x_0_hat is not clipped. The factor grows over t by orders of magnitude, so that means of errors over several steps
    are taken after it.
    """
    return np.exp(-schedule.log_snr[t]) * np.asarray(of_epsilon, np.float64)


def rate_distortion(
    strata: Strata, prior: float, kl: ArrayLike, kl_error: ArrayLike, x_0_mse: ArrayLike, x_0_mse_error: ArrayLike
) -> RateDistortion:
    """Rate and distortion by t of the bound read as a progressive code (Ho et al. 2020, sec. 4.3, Algorithms 3 and 4).

    x_T costs L_T, and each x_{t-1} after it L_{t-1}: the rate at t is L_T + sum over s > t of L_{s-1}. The distortion
    is the root of the mean squared error of x_0_hat from x_t, which comes with that of epsilon
    (`squared_error_of_x_0`). `kl` (H,) are means over a stratum's steps in nats per example (the first stratum, t = 1,
    is L_0 and enters no rate), `x_0_mse` those of the squared error of x_0_hat per dim, each with standard errors,
    taken as independent between strata. An estimate of a small mean square may lie below 0; its root is then 0.
    """
    size = strata.size.astype(np.float64)
    nats, nats_error = size * np.asarray(kl, np.float64), size * np.asarray(kl_error, np.float64)
    within = (size - 1) / (2 * size)  # of a stratum's nats, the mean share that is spent before its own steps
    later, later_variance = _sums_after(nats), _sums_after(nats_error**2)
    error = np.asarray(x_0_mse_error, np.float64)
    rmse = np.sqrt(np.maximum(np.asarray(x_0_mse, np.float64), 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        slope_error = np.where(rmse > 0, error / (2 * rmse), np.inf)
    return RateDistortion(
        strata=strata,
        rate=prior + later + within * nats,
        rate_error=np.sqrt(later_variance + (within * nats_error) ** 2),
        rmse=rmse,
        rmse_error=np.minimum(slope_error, np.sqrt(error)),  # the root's slope has no bound near 0, its change has
    )


def in_levels(distance: ArrayLike, levels: int) -> Table:
    """A distance in units of the data, which runs from -1 to 1, on the scale 0..K-1 of its K levels."""
    return np.asarray(distance, np.float64) / bin_width(levels)


def _sums_after(values: Table) -> Table:
    """For each entry the sum of those behind it."""
    return np.append(np.cumsum(values[:0:-1])[::-1], 0.0)
