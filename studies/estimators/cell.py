"""One model in a process of its own: its table, every estimator's cost, and the calibration of ours.

Run as `python -m studies.estimators.cell OUT CELL_ID...`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backends import load_backend
from core.bounds import bits_per_dim
from core.reverse import ReverseProcess
from studies.cell.bound import BoundEstimate, Terms, evaluate_bound
from studies.cell.draws import generator
from studies.cell.measured import measured
from studies.cell.model import load_model
from studies.estimators.rivals import HISTORIES, HISTORY, cost_at, history_probabilities, independent, one_grid
from studies.estimators.settings import EstimatorSettings, example_counts
from studies.estimators.table import TermTable, read_table, save_table, tabulate
from studies.metrics.vocabulary import ESTIMATOR_VOCABULARY
from studies.plan.command import read_recorded
from studies.plan.settings import read_settings
from studies.run.process import Report, one_after_another, run_in_process
from studies.store import files
from studies.store.cell_rows import CellRows
from studies.store.cells import Cell
from studies.store.data import dataset_of
from studies.store.files import Row
from studies.store.folder import RunFolder
from studies.store.measured import record_measured

row = partial(measured, known=ESTIMATOR_VOCABULARY)
TABLE = "terms.npz"
COLUMNS = (*files.COLUMNS, "examples", "estimator")
"""The columns of other studies, the number of test examples, and whose cost or error it is."""
SEARCH_REPEATS = 3
"""Estimates that the search for the cost spends at each budget, as a divisor of the repeats at the cost itself."""


@dataclass(frozen=True, eq=False)
class Repeats:
    """Many estimates of one bound, independent of each other: values and their computed standard errors."""

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    evaluations: float

    def coverage(self, truth: NDArray[np.float64] | float, widening: float = 1.0) -> float:
        """The share of 95 % intervals that hold the truth."""
        return float(np.mean(np.abs(self.value - truth) < 1.959964 * widening * self.error))


def repeated(estimate: Callable[[int], BoundEstimate], seeds: range) -> Repeats:
    """The estimates of many seeds, without the prior term, which is the same in all."""
    estimates = [estimate(seed) for seed in seeds]
    return Repeats(
        np.array([bound.nats - bound.prior for bound in estimates]),
        np.array([bound.standard_error for bound in estimates]),
        estimates[0].evaluations_per_example,
    )


def from_table(table: TermTable, process: ReverseProcess, evaluations: float, seeds: range) -> Repeats:
    terms, control, test = table.simulated()
    return repeated(
        lambda seed: evaluate_bound(
            terms, process, test, seed, evaluations_per_example=evaluations, control=control, batch_size=4096
        ),
        seeds,
    )


def compare(
    table: TermTable, process: ReverseProcess, settings: EstimatorSettings, dims: int
) -> tuple[list[Row], float]:
    """Rows of every estimator on the table's examples, and the cost of ours."""
    size, num_steps = table.num_examples, table.num_steps
    uniform = np.full(num_steps, 1 / num_steps)
    histories = [history_probabilities(table, generator(0, "histories", k)) for k in range(HISTORIES)]
    imported = float(np.mean([independent(table, p) for p in histories]))
    imported_grid = float(np.mean([one_grid(table, p, generator(0, "grids", k)) for k, p in enumerate(histories[:3])]))
    history = HISTORY * num_steps / size
    cost, calibration = _ours(table, process, settings)
    costs = {
        "full_sweep": float(num_steps),
        "uniform": independent(table, uniform),
        "stratified": one_grid(table, uniform, generator(0, "grids", HISTORIES)),
        "importance": imported,
        "importance_with_history": imported + history,
        "importance_grid": imported_grid,
        "importance_grid_with_history": imported_grid + history,
        "ours": cost,
        "limit": table.limit,
    }
    rows = [row("evaluations", value, estimator=name) for name, value in costs.items()]
    bits = float(bits_per_dim(table.fresh_sweep_error, dims))
    return [*rows, row("sweep_error", bits, estimator="full_sweep"), *calibration], cost


def _ours(table: TermTable, process: ReverseProcess, settings: EstimatorSettings) -> tuple[float, list[Row]]:
    """The cost of ours, found by scaling the budget, and the coverage of its intervals at that cost."""
    few = max(20, settings.repeats // SEARCH_REPEATS)

    def error(evaluations: float) -> float:
        repeats = from_table(table, process, evaluations, range(few))
        return float(np.sqrt(np.mean((repeats.value - table.bound) ** 2)))

    cost = cost_at(error, table.sweep_error, table.limit, most=float(table.num_steps))
    repeats = from_table(table, process, cost, range(few, few + settings.repeats))
    scatter = np.sqrt(np.mean((repeats.value - table.bound) ** 2))
    covered = repeats.coverage(table.bound)
    count = settings.repeats
    return float(repeats.evaluations * (scatter / table.sweep_error) ** 2), [
        row("coverage", covered, standard_error=_share_error(covered, count), estimator="ours"),
        _error_ratio("computed_over_scatter", repeats.error, float(scatter), count),
    ]


def with_network(
    terms: Terms, process: ReverseProcess, test: NDArray[np.float64], table: TermTable, cost: float, count: int
) -> list[Row]:
    """Cost and coverage of ours once more, by `count` estimates from fresh evaluations of the network at that cost.

    The true bound is not known here, so an interval is asked to hold the mean of the other estimates, and is widened by
    that mean's own error.
    """
    repeats = repeated(
        lambda seed: evaluate_bound(terms, process, test, seed, evaluations_per_example=cost),
        range(10_000, 10_000 + count),
    )
    others = (repeats.value.sum() - repeats.value) / (count - 1)
    scatter = float(repeats.value.std(ddof=1))
    covered = repeats.coverage(others, widening=float(np.sqrt(1 + 1 / (count - 1))))
    needed = repeats.evaluations * (scatter / table.fresh_sweep_error) ** 2
    return [
        row(
            "evaluations",
            needed,
            standard_error=needed * np.sqrt(2 / (count - 1)),
            estimator="ours_network",
        ),
        row("coverage", covered, standard_error=_share_error(covered, count), estimator="ours_network"),
        _error_ratio("network_computed_over_scatter", repeats.error, scatter, count),
    ]


def _share_error(share: float, count: int) -> float:
    return float(np.sqrt(max(share * (1 - share), 0.25 / count) / count))


def _error_ratio(metric: str, computed: NDArray[np.float64], scatter: float, count: int) -> Row:
    """The root mean square of the computed standard errors over the scatter of the estimates."""
    ratio = float(np.sqrt(np.mean(computed**2))) / scatter
    return row(metric, ratio, standard_error=ratio / np.sqrt(2 * count), estimator="ours")


def run_cell(out: Path, cell: Cell, report: Report) -> None:
    """Tabulates the cell's model and compares the estimators; rows.csv comes last and marks it finished."""
    settings = read_recorded(out, EstimatorSettings)
    trained = read_settings(settings.models)
    dataset = dataset_of(settings.models, trained.dataset, trained.test_examples, trained.scale)
    sizes = example_counts(settings, len(dataset.test))
    test = dataset.test[: max(sizes)]
    record_measured(out, settings.models, cell.id)
    model = load_model(settings.models, cell, trained, dataset, settings.device)
    terms = model.placed.bound_terms()
    folder = RunFolder(out).cell(cell.id)
    if (folder.path / TABLE).is_file():
        table = read_table(folder.path / TABLE)
    else:
        table = tabulate(
            terms, model.process, test, cell.seed, settings.noise_draws,
            lambda done, total: report("tabulate", done, total),
        )  # fmt: skip
        save_table(folder.path / TABLE, table)
    rows = CellRows(folder, cell, COLUMNS)
    for done, size in enumerate(sizes):
        report("compare", done, len(sizes))
        part = table.first(size)
        size_rows, cost = compare(part, model.process, settings, dataset.dims)
        if settings.network_repeats:
            size_rows += with_network(terms, model.process, test[:size], part, cost, settings.network_repeats)
        rows.add(f"{size} examples", [{**size_row, "examples": size} for size_row in size_rows])
    rows.finish(load_backend(cell.backend).describe(model.placed.execution))


if __name__ == "__main__":
    raise SystemExit(run_in_process(one_after_another(run_cell)))
