"""The variational bound of a trained model on a test set, with an error bar, at a small fraction of a full sweep.

A pilot of a few draws everywhere says where the bound is noisy; the rest of the budget goes there
(`core.estimators`). The draws depend on the seed alone, so that two models are evaluated on the same
examples, steps and noise as far as their budgets agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backends.interface import Draws
from core.bounds import prior_kl
from core.estimators import (
    StratumMoments,
    draws_needed,
    plan,
    smoothed_deviations,
    standard_errors,
    stratum_moments,
)
from core.reverse import ReverseProcess
from core.timesteps import Strata, geometric_strata
from studies.harness.draws import generator

Terms = Callable[[Draws], tuple[NDArray, NDArray]]

PILOT_EXAMPLES = 4
PILOT = 2 * PILOT_EXAMPLES
"""Draws of the pilot in each stratum: each example twice with fresh noise, which tells noise from example."""
OWN = 3
"""The first strata, t = 1, 2, 3, are like no neighbour: their pilot is only a pilot and is not used again."""
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, eq=False)
class TermEstimate:
    """A per-step quantity by stratum: means over the stratum's steps and their standard errors, (H,)."""

    mean: NDArray[np.float64]
    standard_error: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BoundEstimate:
    """The bound and the epsilon MSE of one model on one test set. `kl` in nats per example and step, `mse` per dim."""

    strata: Strata
    kl: TermEstimate
    mse: TermEstimate
    prior: float
    dims: int
    num_examples: int
    evaluations: int
    total_standard_error: float

    @property
    def evaluations_per_example(self) -> float:
        return self.evaluations / self.num_examples

    @property
    def nats(self) -> float:
        """The negative variational bound, nats per example."""
        return self.prior + float(np.sum(self.strata.size * self.kl.mean))

    @property
    def standard_error(self) -> float:
        """Of `nats`, from steps and noise, the test set being given."""
        return float(np.sqrt(np.sum((self.strata.size * self.kl.standard_error) ** 2)))

    @property
    def epsilon_mse(self) -> tuple[float, float]:
        """L_simple on the test set and its standard error, per dim."""
        share = self.strata.size / self.strata.size.sum()
        error = np.sqrt(np.sum((share * self.mse.standard_error) ** 2))
        return float(np.sum(share * self.mse.mean)), float(error)


class _Sampler:
    """The draws of an evaluation in a fixed order, and the values seen so far."""

    def __init__(self, terms: Terms, test: NDArray, strata: Strata, seed: int, batch_size: int) -> None:
        self.terms, self.test, self.strata, self.seed, self.batch_size = terms, test, strata, seed, batch_size
        self.drawn = np.zeros(len(strata), np.int64)
        self.noise = [generator(seed, "bound noise", h) for h in range(len(strata))]
        self.offset = generator(seed, "bound steps").random(len(strata))
        self.stratum, self.example = np.empty(0, np.int64), np.empty(0, np.int64)
        self.kl, self.mse, self.order = np.empty(0), np.empty(0), np.empty(0, np.int64)

    def draw_up_to(self, counts: NDArray[np.int64]) -> None:
        """Evaluates further draws until stratum h has counts[h] of them."""
        stratum = np.repeat(np.arange(len(counts)), np.maximum(counts - self.drawn, 0))
        order = np.concatenate([np.arange(a, max(a, b)) for a, b in zip(self.drawn, counts, strict=True)])
        # The pilot's draws come in pairs that share example and step.
        position = np.where(order < PILOT, order // 2, order - PILOT_EXAMPLES)
        example = np.array([self._example(int(h), int(i)) for h, i in zip(stratum, position, strict=True)], np.int64)
        inside = np.mod(self.offset[stratum] + position * GOLDEN, 1.0) * self.strata.size[stratum]
        t = self.strata.first[stratum] + inside.astype(np.int64)
        self.drawn = np.maximum(self.drawn, counts)
        for start in range(0, len(t), self.batch_size):
            self._evaluate(slice(start, start + self.batch_size), stratum, order, example, t)

    def _example(self, h: int, position: int) -> int:
        cycle, place = divmod(position, len(self.test))
        key = (h, cycle)
        if getattr(self, "_order_key", None) != key:
            index = h * 10_000 + cycle
            self._order, self._order_key = generator(self.seed, "bound order", index).permutation(len(self.test)), key
        return int(self._order[place])

    def _evaluate(self, part: slice, stratum: NDArray, order: NDArray, example: NDArray, t: NDArray) -> None:
        runs = zip(*np.unique(stratum[part], return_counts=True), strict=True)
        noise = np.concatenate([self.noise[h].standard_normal((n, *self.test.shape[1:])) for h, n in runs])
        real = len(noise)
        # A compiled function sees one batch size: the last batch is filled up with its first row.
        fill = np.r_[np.arange(real), np.zeros(self.batch_size - real, np.int64)]
        mse, kl = self.terms(
            Draws(
                x_0=self.test[example[part]][fill],
                epsilon=noise[fill],
                t=t[part][fill],
                weight=np.ones(self.batch_size),
            )
        )
        self.stratum = np.append(self.stratum, stratum[part])
        self.example = np.append(self.example, example[part])
        self.order = np.append(self.order, order[part])
        self.kl = np.append(self.kl, np.asarray(kl, np.float64)[:real])
        self.mse = np.append(self.mse, np.asarray(mse, np.float64)[:real])

    def moments(self, value: NDArray, used: NDArray) -> StratumMoments:
        with np.errstate(invalid="ignore"):  # a diverged model's infinite terms stay infinite, without a warning each
            return stratum_moments(
                self.stratum[used], self.example[used], value[used], len(self.strata), len(self.test)
            )


def evaluate_bound(
    terms: Terms,
    process: ReverseProcess,
    test: NDArray[np.float64],
    seed: int,
    *,
    evaluations_per_example: float = 50,
    target_se: float | None = None,
    batch_size: int = 256,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BoundEstimate:
    """The bound of `process` with the network behind `terms`, over the whole `test` set (N, ...).

    Spends about `evaluations_per_example` * N network evaluations, the pilot counted, or as many as bring the
    standard error down to `target_se` nats per example. Diverged models give NaN or infinite values, which
    are reported as they are.
    """
    strata = geometric_strata(process.num_steps)
    sampler = _Sampler(terms, test, strata, seed, batch_size)
    own = min(OWN, len(strata))
    sampler.draw_up_to(np.full(len(strata), PILOT))
    pilot = sampler.moments(sampler.kl, np.ones(len(sampler.kl), bool))
    deviations = smoothed_deviations(pilot.variance, own)
    first = np.arange(len(strata)) < own
    least = np.where(first, 2 * PILOT, PILOT)
    budget = int(evaluations_per_example * len(test))
    if target_se is not None and np.all(np.isfinite(deviations)):
        budget = draws_needed(strata, deviations, target_se)
    progress(len(sampler.kl), max(budget, int(least.sum())))
    while True:
        if np.all(np.isfinite(deviations)) and deviations.any():
            least = plan(strata, deviations, least, budget)
        sampler.draw_up_to(least)
        estimate = _estimate(sampler, process, test, first)
        progress(len(sampler.kl), len(sampler.kl))
        if target_se is None or not estimate.standard_error > target_se:
            return estimate
        budget = int(1.25 * len(sampler.kl) * (estimate.standard_error / target_se) ** 2)


def _estimate(sampler: _Sampler, process: ReverseProcess, test: NDArray, first: NDArray) -> BoundEstimate:
    used = ~first[sampler.stratum] | (sampler.order >= PILOT)
    kl, mse = sampler.moments(sampler.kl, used), sampler.moments(sampler.mse, used)
    prior = prior_kl(process.schedule, test)
    # What each example adds to the bound's deviation; its scatter counts data, steps and noise together.
    gain = sampler.strata.size / kl.count
    with np.errstate(invalid="ignore"):
        residual = gain[sampler.stratum] * (sampler.kl - kl.mean[sampler.stratum])
    influence = np.bincount(sampler.example[used], residual[used], len(test)) + (prior - prior.mean()) / len(test)
    return BoundEstimate(
        strata=sampler.strata,
        kl=TermEstimate(kl.mean, standard_errors(kl)),
        mse=TermEstimate(mse.mean, standard_errors(mse)),
        prior=float(prior.mean()),
        dims=int(np.prod(test.shape[1:])),
        num_examples=len(test),
        evaluations=len(sampler.kl),
        total_standard_error=float(np.sqrt(np.sum(influence**2) * len(test) / (len(test) - 1))),
    )


def full_sweep(
    terms: Terms, process: ReverseProcess, test: NDArray[np.float64], seed: int, batch_size: int = 256
) -> NDArray[np.float64]:
    """L_{t-1} of every test example at every t with one noise draw each, nats, (N, T): what peers call the bound."""
    num_steps, size = process.num_steps, len(test)
    example = np.tile(np.arange(size), num_steps)
    t = np.repeat(np.arange(1, num_steps + 1), size)
    values = np.empty(len(t))
    for start in range(0, len(t), batch_size):
        chosen = np.minimum(np.arange(start, start + batch_size), len(t) - 1)
        noise = generator(seed, "sweep", start).standard_normal((batch_size, *test.shape[1:]))
        _, kl = terms(Draws(test[example[chosen]], noise, t[chosen], np.ones(batch_size)))
        real = min(batch_size, len(t) - start)
        values[start : start + real] = np.asarray(kl)[:real]
    return values.reshape(num_steps, size).T
