"""A study of cells that are trained already: those not measured yet, each in its own process, and then the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from studies.run.executor import Executor
from studies.run.runner import outcome_of, run_groups
from studies.run.watch import DRAWING, Watch
from studies.store import files
from studies.store.cells import Cell
from studies.store.folder import RunFolder


def measure_and_report(
    executor: Executor,
    out: Path,
    cells: Sequence[Cell],
    jobs: int,
    stages: Mapping[str, tuple[float, float]],
    report: Callable[[Path], tuple[str, Path]],
) -> int:
    """Has the executor run the cells that `out` does not have; returns the exit status: 0, or 1 where a cell failed.

    `report` writes the report of a folder, and returns the table to close with and where the report is.
    """
    todo = [cell for cell in cells if not files.is_finished(out, cell.id)]
    with Watch(cells, todo, stages=stages) as watch:
        unwritten = run_groups(executor, out, [(cell,) for cell in todo], jobs, watch)
    outcome = outcome_of(out, cells, unwritten)
    # Cells of an earlier command in this folder count too.
    files.gather_results(out, [folder.id for folder in RunFolder(out).every_cell()])
    for cell_id, reason in outcome.failed.items():
        print(f"failed: {cell_id}: {reason}")
    if not any(files.has_rows(folder) for folder in RunFolder(out).every_cell()):
        print(f"no cell has measured anything; the reasons are in {RunFolder(out).cells}")
        return 1
    print(DRAWING, flush=True)
    table, path = report(out)
    print(table)
    print(f"report: {path}")
    return 1 if outcome.failed else 0
