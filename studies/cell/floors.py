"""How far a model's losses lie above the least that any network could reach, at every t.

The least is an oracle's (`core.oracles`): of the density that the data were drawn from where it is known, else of the
training set, whose exact denoiser minimises the training loss. Losses and floor are of the same distribution, the
oracle's own: x_0 is drawn from it. Of a training set that is the training loss; a test loss may lie below its floor,
or far above it where only a network that has memorised the training set could reach it.

Given x_t, both losses are quadratic in x_0, so that their expectation over p(x_0 | x_t) is the mean of two
evaluations, at x_0_hat +- the standard deviation of x_0. Less the floor at x_t it is the error of the network's answer
against the oracle's: never negative, exact given x_t, and free of the noise that no network can predict. At t = 1 the
term of data on levels is not quadratic; it is evaluated as it is, above 0, the least a probability can cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.bounds import bits_per_dim, prior_kl
from core.estimators import strata_of
from core.oracles import Density, Distribution, epsilon_mse_floor, posterior_kl_floor
from core.reverse import ReverseProcess
from core.strata import Strata
from studies.cell.bound import BoundEstimate, Terms, evaluate_terms
from studies.cell.draws import generator
from studies.cell.measured import measured
from studies.store.files import Row

NUMBERS, LEAST = 1024, 64
"""Draws of x_t in each stratum: as many as hold `NUMBERS` numbers, but at least `LEAST`."""


@dataclass(frozen=True, eq=False)
class ByStratum:
    """Means of a quantity over the draws in each stratum, and their standard errors, (H,) each."""

    mean: NDArray[np.float64]
    standard_error: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> ByStratum:
        """Mean and standard error of each stratum's row of `values` (H, draws), whose columns are independent draws."""
        with np.errstate(invalid="ignore"):  # a diverged model's losses are reported as they are
            return cls(values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(values.shape[1]))

    def total(self, weight: NDArray[np.float64]) -> tuple[float, float]:
        """The weighted sum over strata and its standard error."""
        return float(np.sum(weight * self.mean)), float(np.sqrt(np.sum((weight * self.standard_error) ** 2)))


@dataclass(frozen=True, eq=False)
class Excess:
    """By stratum: the floors of the epsilon MSE (per dim) and of the KL (nats), and what the model adds to them."""

    strata: Strata
    mse_floor: ByStratum
    mse: ByStratum
    kl_floor: ByStratum
    kl: ByStratum
    prior: float
    dims: int


def evaluate_excess(
    terms: Terms, process: ReverseProcess, oracle: Distribution, seed: int, batch_size: int = 256
) -> Excess:
    """The losses of the network behind `terms` above the floor of `oracle`, on draws that depend on the seed alone."""
    schedule, strata = process.schedule, strata_of(process)
    dims = oracle.root_mean_square.size
    count = max(LEAST, NUMBERS // dims)
    rng = generator(seed, "floors")
    inside = (rng.random((len(strata), count)) * strata.size[:, None]).astype(np.int64)
    t = (strata.first[:, None] + inside).ravel()
    x_0 = oracle.sample(rng.random(len(t)), rng.standard_normal((len(t), oracle.normals_per_draw)))
    epsilon = rng.standard_normal(x_0.shape)
    x_t = process.noised(x_0, epsilon, t)
    x_0_hat, variance = oracle.x_0_hat(schedule, x_t, t), oracle.x_0_variance(schedule, x_t, t)
    mse, kl = np.zeros((2, len(t)))
    for either in (x_0_hat + np.sqrt(variance), x_0_hat - np.sqrt(variance)):
        one_mse, one_kl = evaluate_terms(terms, either, process.epsilon_of(x_t, either, t), t, batch_size)
        mse, kl = mse + 0.5 * one_mse, kl + 0.5 * one_kl
    mse_floor, kl_floor = epsilon_mse_floor(schedule, variance, t), np.zeros(len(t))
    quadratic = np.ones(len(t), bool) if process.levels is None else t > 1
    kl_floor[quadratic] = posterior_kl_floor(process, variance[quadratic], t[quadratic])
    if not quadratic.all():
        first = ~quadratic
        kl[first] = evaluate_terms(terms, x_0[first], epsilon[first], t[first], batch_size)[1]

    def by_stratum(values: NDArray[np.float64]) -> ByStratum:
        return ByStratum.of(values.reshape(len(strata), count))

    return Excess(
        strata=strata,
        mse_floor=by_stratum(mse_floor),
        mse=by_stratum(mse - mse_floor),
        kl_floor=by_stratum(kl_floor),
        kl=by_stratum(kl - kl_floor),
        prior=float(prior_kl(schedule, oracle.root_mean_square[None])[0]),
        dims=dims,
    )


def excess_rows(excess: Excess) -> list[Row]:
    """Floors and what the model adds to them, by stratum and in total; the KL in bits per dim.

    `bound_floor` is the bound of the oracle's own denoiser, with the best variance that the process allows. A floor
    that is not finite (the density of a training set at t = 1, where the variance is learned) has no rows.
    """
    strata, share = excess.strata, excess.strata.size / excess.strata.size.sum()
    bits_per_nat = float(bits_per_dim(1.0, excess.dims))
    known = np.isfinite(excess.kl_floor.mean)
    rows = []
    if known.all():
        for metric, part, added in (
            ("bound_floor", excess.kl_floor, excess.prior),
            ("bound_above_floor", excess.kl, 0.0),
        ):
            nats, error = part.total(strata.size.astype(np.float64))
            rows.append(measured(metric, bits_per_nat * (nats + added), standard_error=bits_per_nat * error))
    for metric, part in (("epsilon_mse_floor", excess.mse_floor), ("epsilon_mse_above_floor", excess.mse)):
        value, error = part.total(share)
        rows.append(measured(metric, value, standard_error=error))
    for h in range(len(strata)):
        where: dict[str, Any] = {"t": int(strata.first[h]), "t_last": int(strata.last[h])}
        for metric, part, scale in (
            ("epsilon_mse_floor_at_t", excess.mse_floor, 1.0),
            ("epsilon_mse_above_floor_at_t", excess.mse, 1.0),
            ("bound_floor_at_t", excess.kl_floor, bits_per_nat),
            ("bound_above_floor_at_t", excess.kl, bits_per_nat),
        ):
            if metric.startswith("epsilon") or known[h]:
                error = scale * part.standard_error[h]
                rows.append(measured(metric, scale * part.mean[h], standard_error=error, **where))
    return rows


def entropy_rows(estimate: BoundEstimate, truth: Density, test: NDArray[np.float64]) -> list[Row]:
    """The entropy of the density the test set was drawn from, and how far the bound lies above it, in bits per dim.

    The gap is taken to -log p of the same test examples, whose mean is the entropy, so that most of the test set's
    chance drops out; its error bar holds what is left of that, and steps and noise.
    """
    bits = estimate.bits
    surprise = -truth.log_density(test)
    error = estimate.standard_error_of_difference(surprise)
    return [
        measured("entropy", bits(truth.entropy())),
        measured("bound_above_entropy", bits(estimate.nats - surprise.mean()), standard_error=bits(error)),
    ]
