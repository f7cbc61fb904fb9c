"""The exact likelihood of a trained model by its probability flow, to be printed next to its variational bound.

Random numbers depend on the seed, the example and the draw alone, and every example is solved by itself, so neither
the batch size nor the rest of the test set changes an example's value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.bounds import bits_per_dim
from core.probability_flow import (
    DataEnd,
    FlowSolution,
    ProbedField,
    decoder_end,
    density_end,
    flow_log_density,
    matched_step,
    refined,
    uniform_end,
    with_exact_divergence,
    with_probes,
)
from core.reverse import ReverseProcess
from studies.cell.bound import Terms, evaluate_terms
from studies.cell.draws import generator
from studies.cell.measured import measured
from studies.store.files import Row

Stream = Callable[[str, int], np.random.Generator]
"""(purpose, row) -> the random numbers of one example and draw."""

EXACT_UP_TO = 16
"""Dims up to which the divergence is exact unless asked otherwise."""
PROBES = 4


@dataclass(frozen=True, eq=False)
class FlowEstimate:
    """The negative log likelihood of one model on one test set, in nats per example, with its errors.

    `draws` (P, R, N): by probe (P = 1 where the divergence is exact), by draw of the noise at the data end, and by
    example. `end`, `step`: how and at which step the flow meets the data. `solver_change`: the mean over examples of
    the absolute change when the steps were last doubled; `unresolved` examples still moved by more than `tolerance`
    (nats per dim) at the most steps allowed. `evaluations` of the network, each with P passes back (D where exact).
    """

    draws: NDArray[np.float64]
    end: str
    step: int
    dims: int
    exact: bool
    tolerance: float
    solver_change: float
    unresolved: int
    evaluations: int

    @property
    def num_examples(self) -> int:
        return self.draws.shape[2]

    @property
    def per_example(self) -> NDArray[np.float64]:
        """The negative log likelihood of each example, (N,), in nats: the mean over its draws."""
        return self.draws.mean(axis=(0, 1))

    @property
    def nats(self) -> float:
        return float(self.per_example.mean())

    @property
    def evaluations_per_example(self) -> float:
        return self.evaluations / self.num_examples

    @property
    def standard_error(self) -> float:
        """The standard error of `nats` from probes and from the noise at the data end: the test set is taken as given.

        0 where nothing is random; NaN where one draw an example cannot tell it from the scatter of the data.
        """
        repeats = self.draws.shape[1]
        if repeats > 1:
            return self._error_of_mean(self.draws.mean(axis=0))
        return self.probe_standard_error if self.end == "density" else math.nan

    @property
    def probe_standard_error(self) -> float:
        """The part of `standard_error` that more probes would lower.

        0 where the divergence is exact, NaN for a single probe.
        """
        if self.exact:
            return 0.0
        probes, repeats, examples = self.draws.shape
        return self._error_of_mean(self.draws.reshape(probes, repeats * examples)) if probes > 1 else math.nan

    @property
    def total_standard_error(self) -> float:
        """The standard error of `nats` as an estimate for fresh data: from examples, noise and probes together."""
        return float(self.per_example.std(ddof=1) / math.sqrt(self.num_examples))

    @staticmethod
    def _error_of_mean(values: NDArray[np.float64]) -> float:
        """The standard error of the grand mean of independent values (repeats, M); each column has its own mean."""
        variance = values.var(axis=0, ddof=1) / len(values)
        return float(np.sqrt(variance.sum()) / values.shape[1])


def _density(process: ReverseProcess, data: NDArray, stream: Stream, terms: Terms | None, batch_size: int) -> DataEnd:
    if process.levels is not None:
        raise ValueError(f'data on {process.levels} levels has no density; use end="decoder" or end="uniform"')
    return density_end(process.schedule, data)


def _uniform(process: ReverseProcess, data: NDArray, stream: Stream, terms: Terms | None, batch_size: int) -> DataEnd:
    if process.levels is None:
        raise ValueError('only data on levels is dequantised; use end="density" or end="decoder"')
    u = np.stack([stream("flow dequantisation", i).random(data.shape[1:]) for i in range(len(data))])
    return uniform_end(process.schedule, data, u, process.levels, matched_step(process.schedule, process.levels))


def _decoder(process: ReverseProcess, data: NDArray, stream: Stream, terms: Terms | None, batch_size: int) -> DataEnd:
    if terms is None:
        raise ValueError('end="decoder" takes the decoder\'s term from terms=bound_terms(...), got None')
    epsilon = np.stack([stream("flow end", i).standard_normal(data.shape[1:]) for i in range(len(data))])
    _, nats = evaluate_terms(terms, data, epsilon, np.ones(len(data), np.int64), batch_size)
    return decoder_end(process.schedule, data, epsilon, nats)


ENDS: dict[str, Callable[[ReverseProcess, NDArray, Stream, Terms | None, int], DataEnd]] = {
    "decoder": _decoder,
    "uniform": _uniform,
    "density": _density,
}


@dataclass(frozen=True)
class FlowSettings:
    """How a likelihood is evaluated by the flow.

    `end` says how the flow meets the data (see `core.probability_flow`): "decoder" needs the model's bound terms and is
    comparable with the bound, from which it differs in p(x_1) alone; "uniform" dequantises data with levels; "density"
    is for continuous data. The first two draw noise, `repeats` times an example, and their mean is a bound on the
    likelihood. The divergence is exact up to 16 dims unless `exact` says otherwise, and else estimated by `probes`
    Rademacher vectors an example and draw (None: 4).
    `tolerance`: nats per dim that an example may move when its steps are doubled, from `first_steps` on, up to
    `max_steps`.
    """

    end: str = "decoder"
    repeats: int = 2
    probes: int | None = None
    exact: bool | None = None
    tolerance: float = 1e-4
    first_steps: int = 16
    max_steps: int = 512

    def __post_init__(self) -> None:
        if self.end not in ENDS:
            raise ValueError(f"unknown data end {self.end!r}; known: {', '.join(ENDS)}")
        if self.repeats < 1 or (self.probes is not None and self.probes < 1):
            raise ValueError(f"repeats and probes are at least 1, got {self.repeats} and {self.probes}")

    @property
    def draws_per_example(self) -> int:
        return 1 if self.end == "density" else self.repeats  # nothing is drawn at a density end

    def is_exact(self, dims: int) -> bool:
        return dims <= EXACT_UP_TO if self.exact is None else self.exact

    def probes_for(self, dims: int) -> int | None:
        """How many probes an example and draw has; None where the divergence is exact."""
        return None if self.is_exact(dims) else self.probes or PROBES


class _Evaluation:
    """The rows to solve, one an example and draw, and the flow from each."""

    def __init__(
        self,
        field: ProbedField,
        process: ReverseProcess,
        end: DataEnd,
        stream: Stream,
        probes: int | None,
        batch_size: int,
    ) -> None:
        self.field, self.end, self.stream, self.probes = field, end, stream, probes
        self.batch_size = min(batch_size, len(end.x))
        log_snr = process.schedule.log_snr
        self.first, self.last = float(log_snr[end.step]), float(log_snr[-1])

    def run(self, rows: NDArray[np.int64], num_steps: int) -> NDArray[np.float64]:
        """log p(x) of chosen rows, (P, len(rows)); the last batch is filled up, as compiled functions want one size."""
        parts = []
        for start in range(0, len(rows), self.batch_size):
            chosen = rows[start : start + self.batch_size]
            filled = np.append(chosen, np.repeat(chosen[:1], self.batch_size - len(chosen)))
            with np.errstate(over="ignore", invalid="ignore"):  # a diverged model's values are reported as they are
                density = flow_log_density(self._field(filled), self.end.x[filled], self.first, self.last, num_steps)
            parts.append(density[:, : len(chosen)])
        return np.concatenate(parts, axis=1)

    def _field(self, rows: NDArray[np.int64]) -> Any:
        if self.probes is None:
            return with_exact_divergence(self.field)
        shape = (self.probes, *self.end.x.shape[1:])
        drawn = [self.stream("flow probes", int(row)).integers(0, 2, shape, np.int8) for row in rows]
        return with_probes(self.field, 2.0 * np.stack(drawn, axis=1) - 1.0)


def evaluate_flow(
    field: ProbedField,
    process: ReverseProcess,
    test: NDArray[np.float64],
    seed: int,
    settings: FlowSettings = FlowSettings(),
    *,
    terms: Terms | None = None,
    batch_size: int = 256,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FlowEstimate:
    """The negative log likelihood of `test` (N, ...) under the flow `field` of `process`.

    `terms` are the backend's `bound_terms`, for the decoder.
    """
    dims, repeats = int(np.prod(test.shape[1:])), settings.draws_per_example

    def stream(purpose: str, row: int) -> np.random.Generator:
        repeat, example = divmod(row, len(test))
        return generator(seed, f"{purpose} {repeat}", example)

    data = np.tile(test, (repeats,) + (1,) * (test.ndim - 1))
    end = ENDS[settings.end](process, data, stream, terms, batch_size)
    evaluation = _Evaluation(field, process, end, stream, settings.probes_for(dims), batch_size)

    def run(rows: NDArray[np.int64], num_steps: int) -> NDArray[np.float64]:
        density = evaluation.run(rows, num_steps)
        progress(len(data) - len(rows), len(data))
        return density

    tolerance = settings.tolerance * dims
    solution: FlowSolution = refined(run, len(data), tolerance, settings.first_steps, settings.max_steps)
    progress(len(data), len(data))
    return FlowEstimate(
        draws=(end.nats - solution.log_density).reshape(-1, repeats, len(test)),
        end=settings.end,
        step=end.step,
        dims=dims,
        exact=settings.is_exact(dims),
        tolerance=settings.tolerance,
        solver_change=float(solution.change.mean()),
        unresolved=int(np.sum(~(solution.change <= tolerance))),
        evaluations=solution.evaluations,
    )


def flow_rows(estimate: FlowEstimate) -> list[Row]:
    """A flow's tidy rows: flow_decoder, flow_uniform or flow_density in bits per dim, and what it took."""

    name = f"flow_{estimate.end}"

    def bits(nats: float) -> float:
        return float(bits_per_dim(nats, estimate.dims))

    return [
        measured(name, bits(estimate.nats), standard_error=bits(estimate.standard_error)),
        measured(f"{name}_total_se", bits(estimate.total_standard_error)),
        measured(f"{name}_probe_se", bits(estimate.probe_standard_error)),
        measured(f"{name}_solver_change", bits(estimate.solver_change)),
        measured(f"{name}_tolerance", bits(estimate.tolerance * estimate.dims)),
        measured(f"{name}_unresolved", estimate.unresolved),
        measured(f"{name}_step", estimate.step),
        measured(f"{name}_evaluations", estimate.evaluations_per_example),
    ]
