"""The bound's terms by example, step and noise draw, computed once; estimators are then simulated from the table.

Steps up to 100 are all tabulated, and beyond them the middle step of each of the evaluator's strata, which
stands for the others: over a tenth in t a loss hardly changes its distribution, and little of the variance is there.
Steps of a stratum share their noise, so that an example's losses at neighbouring steps differ as little as they do.

Drawing from R tabulated noises instead of fresh ones leaves (R - 1) / R of the noise's variance, for every estimator
and for the sweep alike. Ratios between them are therefore kept; the rest moves to the differences between examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from backends.interface import Draws
from core.estimators import strata_of
from core.reverse import ReverseProcess
from core.strata import Strata
from studies.cell.bound import Control, Terms, evaluate_terms, linear_denoiser
from studies.cell.draws import generator
from studies.store import files

EVERY_STEP_TO = 100


@dataclass(frozen=True, eq=False)
class TermTable:
    """`kl`, `mse` and the noise `control` (N, S, R) at `steps` (S,); `num_steps` is T."""

    kl: NDArray[np.float64]
    mse: NDArray[np.float64]
    control: NDArray[np.float64]
    steps: NDArray[np.int64]
    num_steps: int

    def first(self, count: int) -> TermTable:
        """The table of the first `count` examples."""
        return TermTable(self.kl[:count], self.mse[:count], self.control[:count], self.steps, self.num_steps)

    @property
    def num_examples(self) -> int:
        return len(self.kl)

    @property
    def num_draws(self) -> int:
        return self.kl.shape[2]

    @cached_property
    def column(self) -> NDArray[np.int64]:
        """Where step t stands, (T + 1,): itself, or the tabulated step nearest to it."""
        t = np.arange(self.num_steps + 1)
        after = np.minimum(np.searchsorted(self.steps, t), len(self.steps) - 1)
        before = np.maximum(after - 1, 0)
        return np.where(t - self.steps[before] < self.steps[after] - t, before, after)

    @cached_property
    def bound(self) -> float:
        """The sum over t of the mean term, nats: what the estimators estimate."""
        return float(self.kl.mean(axis=(0, 2))[self.column[1:]].sum())

    @cached_property
    def noise_variance(self) -> NDArray[np.float64]:
        """The mean over examples of a term's variance over the tabulated noise, (T,)."""
        return self.kl.var(axis=2).mean(axis=0)[self.column[1:]]

    @property
    def sweep_error(self) -> float:
        """The standard error of one full sweep, noise drawn from the table."""
        return float(np.sqrt(self.noise_variance.sum() / self.num_examples))

    @property
    def fresh_sweep_error(self) -> float:
        """The standard error of one full sweep with fresh noise: the same with R - 1 degrees of freedom."""
        return self.sweep_error * float(np.sqrt(self.num_draws / (self.num_draws - 1)))

    @property
    def limit(self) -> float:
        """(sum of sd over t)^2 / (sum of variances): evaluations per example of the best allocation over t."""
        return float(np.sum(np.sqrt(self.noise_variance)) ** 2 / np.sum(self.noise_variance))

    def simulated(self) -> tuple[Terms, Control, NDArray[np.float64]]:
        """Terms, control and test set for `evaluate_bound` that read the table in place of a network.

        An example is its own index, and its noise, one normal number, chooses among the tabulated draws.
        """
        # A term's noise control has mean 0 over the noises that can be drawn.
        control = self.control - self.control.mean(axis=2, keepdims=True)

        def where(draws: Draws) -> tuple[NDArray, NDArray, NDArray]:
            drawn = np.minimum((ndtr(draws.epsilon[:, 0]) * self.num_draws).astype(np.int64), self.num_draws - 1)
            return draws.x_0[:, 0].astype(np.int64), self.column[draws.t], drawn

        test = np.arange(self.num_examples, dtype=np.float64)[:, None]
        return lambda d: (self.mse[where(d)], self.kl[where(d)]), lambda d: control[where(d)], test


def tabulated_steps(strata: Strata) -> NDArray[np.int64]:
    middle = (strata.first + strata.last) // 2
    return np.union1d(np.arange(1, min(int(strata.last[-1]), EVERY_STEP_TO) + 1), middle)


def tabulate(
    terms: Terms,
    process: ReverseProcess,
    test: NDArray[np.float64],
    seed: int,
    num_draws: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TermTable:
    """Evaluates `num_draws` terms of every example of `test` (N, ...) at every tabulated step."""
    strata = strata_of(process)
    steps, last = tabulated_steps(strata), strata.last
    example = np.repeat(np.arange(len(test)), num_draws)
    noise_control = linear_denoiser(process, test)
    columns: list[NDArray[np.float64]] = []
    for done, step in enumerate(steps):
        progress(done, len(steps))
        stratum = int(np.searchsorted(last, step))
        noise = generator(seed, "estimator table", stratum).standard_normal((len(example), *test.shape[1:]))
        draws = Draws(test[example], noise, np.full(len(example), step), np.ones(len(example)))
        mse, kl = evaluate_terms(terms, draws.x_0, draws.epsilon, draws.t)
        if not (np.isfinite(mse).all() and np.isfinite(kl).all()):
            raise ValueError(f"terms at t = {step} are not finite: the model has diverged, and has no error bar")
        columns.append(np.stack([kl, mse, noise_control(draws)]).reshape(3, len(test), num_draws))
    kl, mse, control = np.stack(columns, axis=2)
    return TermTable(kl, mse, control, steps, process.num_steps)


def save_table(path: Path, table: TermTable) -> None:
    parts = {name: getattr(table, name).astype(np.float32) for name in ("kl", "mse", "control")}
    files.write_arrays(path, {**parts, "steps": table.steps, "num_steps": np.array(table.num_steps)})


def read_table(path: Path) -> TermTable:
    with np.load(path) as file:
        kl, mse, control = (file[name].astype(np.float64) for name in ("kl", "mse", "control"))
        return TermTable(kl, mse, control, file["steps"], int(file["num_steps"]))
