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
from core.bounds import bits_per_dim, prior_kl
from core.estimators import (
    StratumMoments,
    draws_needed,
    error_parts,
    kl_scale,
    noise_control,
    plan,
    smoothed_deviations,
    stratum_moments,
    without_examples,
    without_noise,
)
from core.reverse import ReverseProcess
from core.strata import Strata, geometric_strata
from studies.cell.draws import generator

Terms = Callable[[Draws], tuple[NDArray, NDArray]]
Control = Callable[[Draws], NDArray]

PILOT, PILOT_OWN = 4, 16
"""Draws of the pilot in each stratum: pairs of an example with fresh noise, which tell noise from example."""
OWN = 1
"""The first stratum, t = 1, is like no neighbour: its pilot is larger, only a pilot, and not used again."""
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, eq=False)
class TermEstimate:
    """A per-step quantity by stratum, (H,) each: means over the stratum's steps, and their standard errors given the
    test set, from noise and from which steps met which examples.
    """

    mean: NDArray[np.float64]
    noise_error: NDArray[np.float64]
    step_error: NDArray[np.float64]

    @property
    def standard_error(self) -> NDArray[np.float64]:
        return np.hypot(self.noise_error, self.step_error)


@dataclass(frozen=True, eq=False)
class BoundEstimate:
    """The bound and the epsilon MSE of one model on one test set. `kl` in nats per example and step, `mse` per dim.

    `influence` (N,): what each example adds to the deviation of `nats` from its expectation, by being in the test set
    and by the steps and noise that it drew.
    """

    strata: Strata
    kl: TermEstimate
    mse: TermEstimate
    prior: float
    dims: int
    evaluations: int
    influence: NDArray[np.float64]

    @property
    def num_examples(self) -> int:
        return len(self.influence)

    @property
    def evaluations_per_example(self) -> float:
        return self.evaluations / self.num_examples

    @property
    def nats(self) -> float:
        """The negative variational bound, nats per example."""
        return self.prior + float(np.sum(self.strata.size * self.kl.mean))

    def bits(self, nats: float) -> float:
        """Nats per example as bits per dim."""
        return float(bits_per_dim(nats, self.dims))

    @property
    def standard_error(self) -> float:
        """Of `nats`, from steps and noise, the test set being given."""
        return math.hypot(self.noise_standard_error, self.step_standard_error)

    @property
    def noise_standard_error(self) -> float:
        """The part of `standard_error` that comes from the noise drawn at each evaluation."""
        return float(np.sqrt(np.sum((self.strata.size * self.kl.noise_error) ** 2)))

    @property
    def step_standard_error(self) -> float:
        """The part of `standard_error` that comes from the steps t: each example meets only some of them."""
        return float(np.sqrt(np.sum((self.strata.size * self.kl.step_error) ** 2)))

    @property
    def total_standard_error(self) -> float:
        """Of `nats` as an estimate for fresh data: from examples, steps and noise together."""
        return self.standard_error_of_difference(np.zeros(self.num_examples))

    @property
    def data_standard_error(self) -> float:
        """The part of `total_standard_error` that comes from the test set being a sample."""
        return math.sqrt(max(0.0, self.total_standard_error**2 - self.standard_error**2))

    def standard_error_of_difference(self, nats: NDArray[np.float64]) -> float:
        """Of `nats` minus the mean of other `nats` (N,) of the same examples, for fresh data."""
        size = self.num_examples
        influence = self.influence - (nats - nats.mean()) / size
        return float(np.sqrt(np.sum(influence**2) * size / (size - 1)))

    @property
    def epsilon_mse(self) -> tuple[float, float]:
        """L_simple on the test set and its standard error, per dim."""
        share = self.strata.size / self.strata.size.sum()
        error = np.sqrt(np.sum((share * self.mse.standard_error) ** 2))
        return float(np.sum(share * self.mse.mean)), float(error)


class _Sampler:
    """The draws of an evaluation in a fixed order, and the values seen so far."""

    def __init__(
        self,
        terms: Terms,
        control: Control,
        process: ReverseProcess,
        test: NDArray,
        seed: int,
        batch_size: int,
    ) -> None:
        self.terms, self.noise_control, self.test, self.seed, self.batch_size = terms, control, test, seed, batch_size
        self.strata = geometric_strata(process.num_steps)
        self.kl_scale = kl_scale(process)
        self.middle_scale = self.kl_scale[(self.strata.first + self.strata.last) // 2]
        self.own = min(OWN, len(self.strata))
        self.pilot = np.where(np.arange(len(self.strata)) < self.own, PILOT_OWN, PILOT)
        self.drawn = np.zeros(len(self.strata), np.int64)
        self.noise = [generator(seed, "bound noise", h) for h in range(len(self.strata))]
        self.offset = generator(seed, "bound steps").random(len(self.strata))
        self.stratum, self.example, self.order, self.t = (np.empty(0, np.int64) for _ in range(4))
        self.kl, self.mse, self.control = (np.empty(0) for _ in range(3))

    def draw_up_to(self, counts: NDArray[np.int64]) -> None:
        """Evaluates further draws until stratum h has counts[h] of them."""
        counts = np.maximum(counts, self.drawn)
        stratum = np.repeat(np.arange(len(counts)), counts - self.drawn)
        order = np.concatenate([np.arange(a, b) for a, b in zip(self.drawn, counts, strict=True)])
        # The pilot's draws come in pairs that share example and step.
        pilot = self.pilot[stratum]
        position = np.where(order < pilot, order // 2, order - pilot // 2)
        example = np.concatenate([self._examples(int(h), position[stratum == h]) for h in np.unique(stratum)])
        inside = np.mod(self.offset[stratum] + position * GOLDEN, 1.0) * self.strata.size[stratum]
        t = self.strata.first[stratum] + inside.astype(np.int64)
        self.drawn = counts
        for start in range(0, len(t), self.batch_size):
            self._evaluate(slice(start, start + self.batch_size), stratum, order, example, t)

    def _examples(self, h: int, position: NDArray[np.int64]) -> NDArray[np.int64]:
        """The examples at consecutive positions of the stratum's order: one shuffle of the test set after another."""
        first, last = position[0] // len(self.test), position[-1] // len(self.test)
        shuffles = [
            generator(self.seed, "bound order", h * 10_000 + cycle).permutation(len(self.test))
            for cycle in range(first, last + 1)
        ]
        return np.concatenate(shuffles)[position - first * len(self.test)]

    def _evaluate(self, part: slice, stratum: NDArray, order: NDArray, example: NDArray, t: NDArray) -> None:
        runs = zip(*np.unique(stratum[part], return_counts=True), strict=True)
        noise = np.concatenate([self.noise[h].standard_normal((n, *self.test.shape[1:])) for h, n in runs])
        draws = Draws(self.test[example[part]], noise, t[part], np.ones(len(noise)))
        mse, kl = evaluate_terms(self.terms, draws.x_0, draws.epsilon, draws.t, self.batch_size)
        self.stratum = np.append(self.stratum, stratum[part])
        self.example = np.append(self.example, example[part])
        self.order = np.append(self.order, order[part])
        self.t = np.append(self.t, t[part])
        self.kl = np.append(self.kl, kl)
        self.mse = np.append(self.mse, mse)
        self.control = np.append(self.control, self.noise_control(draws))

    def without_noise(self, value: NDArray, control: NDArray, used: NDArray) -> NDArray:
        """The used draws' values less what their noise explains."""
        with np.errstate(invalid="ignore"):  # a diverged model's infinite terms stay infinite, without a warning each
            return without_noise(
                self.stratum[used], self.order[used] % 2, value[used], control[used], len(self.strata), self.own
            )

    def without_examples(self, value: NDArray, scale: NDArray, used: NDArray) -> NDArray:
        """The values of the used draws less what is known of their examples."""
        with np.errstate(invalid="ignore"):
            return without_examples(self.stratum[used], self.example[used], value, scale, len(self.test))

    def moments(self, value: NDArray, used: NDArray) -> StratumMoments:
        with np.errstate(invalid="ignore"):
            return stratum_moments(self.stratum[used], self.example[used], value, len(self.strata), len(self.test))


def linear_denoiser(process: ReverseProcess, test: NDArray[np.float64]) -> Control:
    """The noise control of draws from `test` (N, ...)."""
    mean, variance = test.mean(axis=0), test.var(axis=0)
    return lambda draws: noise_control(process.schedule, draws.x_0, draws.epsilon, draws.t, mean, variance)


def evaluate_bound(
    terms: Terms,
    process: ReverseProcess,
    test: NDArray[np.float64],
    seed: int,
    *,
    evaluations_per_example: float = 50,
    target_se: float | None = None,
    batch_size: int = 256,
    control: Control | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BoundEstimate:
    """The bound of `process` with the network behind `terms`, over the whole `test` set (N, ...).

    Spends about `evaluations_per_example` * N network evaluations, the pilot counted, or as many as bring the
    standard error down to `target_se` nats per example. `control` gives each draw a number, in squared errors of
    epsilon, whose mean over epsilon is 0; None: the linear denoiser's. Diverged models give NaN or infinite
    values, which are reported as they are.
    """
    sampler = _Sampler(terms, control or linear_denoiser(process, test), process, test, seed, batch_size)
    strata, least = sampler.strata, np.where(sampler.pilot > PILOT, sampler.pilot + PILOT, PILOT)
    sampler.draw_up_to(sampler.pilot)
    everything = np.ones(len(sampler.kl), bool)
    pilot = sampler.moments(
        sampler.without_noise(sampler.kl, sampler.control * sampler.kl_scale[sampler.t], everything), everything
    )
    deviations = smoothed_deviations(pilot.variance, sampler.own, sampler.middle_scale)
    budget = int(evaluations_per_example * len(test))
    if target_se is not None and np.all(np.isfinite(deviations)):
        budget = draws_needed(strata, deviations, target_se)
    progress(len(sampler.kl), max(budget, int(least.sum())))
    while True:
        if np.all(np.isfinite(deviations)) and deviations.any():
            least = plan(strata, deviations, least, budget)
        sampler.draw_up_to(least)
        estimate = _estimate(sampler, process, test, deviations)
        progress(len(sampler.kl), len(sampler.kl))
        if target_se is None or not estimate.standard_error > target_se:
            return estimate
        budget = int(1.25 * len(sampler.kl) * (estimate.standard_error / target_se) ** 2)


def _estimate(sampler: _Sampler, process: ReverseProcess, test: NDArray, deviations: NDArray) -> BoundEstimate:
    used = (sampler.stratum >= sampler.own) | (sampler.order >= sampler.pilot[sampler.stratum])
    of_kl = sampler.without_noise(sampler.kl, sampler.control * sampler.kl_scale[sampler.t], used)
    of_mse = sampler.without_noise(sampler.mse, sampler.control, used)
    kl = sampler.moments(sampler.without_examples(of_kl, deviations, used), used)
    mse = sampler.moments(sampler.without_examples(of_mse, deviations / sampler.middle_scale, used), used)
    prior = prior_kl(process.schedule, test)
    # What each example adds to the bound's deviation; its scatter counts data, steps and noise together.
    stratum, example = sampler.stratum[used], sampler.example[used]
    with np.errstate(invalid="ignore"):
        residual = (sampler.strata.size / kl.count)[stratum] * (of_kl - kl.mean[stratum])
    return BoundEstimate(
        strata=sampler.strata,
        kl=TermEstimate(kl.mean, *error_parts(kl, deviations)),
        mse=TermEstimate(mse.mean, *error_parts(mse, deviations / sampler.middle_scale)),
        prior=float(prior.mean()),
        dims=int(np.prod(test.shape[1:])),
        evaluations=len(sampler.kl),
        influence=np.bincount(example, residual, len(test)) + (prior - prior.mean()) / len(test),
    )


def evaluate_terms(
    terms: Terms, x_0: NDArray, epsilon: NDArray, t: NDArray[np.int64], batch_size: int = 256
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(epsilon_mse, posterior_kl) of given draws, (M,) each; the last batch is filled up: compiled functions want one
    size.
    """
    parts = []
    for start in range(0, len(t), batch_size):
        rows = np.minimum(np.arange(start, start + batch_size), len(t) - 1)
        parts.append(terms(Draws(x_0[rows], epsilon[rows], t[rows], np.ones(batch_size))))
    mse, kl = (np.concatenate(part)[: len(t)].astype(np.float64) for part in zip(*parts, strict=True))
    return mse, kl
