"""Several cells in one process: trained as one program, then measured one after another.

Run as `python -m studies.cell.together RUN CELL_ID...`, for cells that differ in objective and seed alone. Each has
its folder, progress, rows and saved state as a cell in a process of its own has. What goes wrong with one cell's files
or measurements is its failure alone; what goes wrong in the program is that of all its cells.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from studies.cell.record import Record, Report, Trained
from studies.cell.stages import finish_cell, make_context
from studies.cell.training import train
from studies.datasets import load_dataset
from studies.plan.settings import StudySettings, read_settings
from studies.run.process import ENDED, failure_noted, print_progress, read_cell
from studies.store import files
from studies.store.cells import Cell


def run_together(run: Path, cells: Sequence[Cell], settings: StudySettings, report: Report) -> None:
    """Runs the cells and writes their folders; `report` is told the `cell` too, and when one has ended."""
    started = time.perf_counter()
    dataset = load_dataset(settings.dataset, settings.test_examples)
    records: list[Record] = []
    for cell in cells:
        with failure_noted([files.cell_folder(run, cell.id)]):
            records.append(Record(make_context(run, cell, settings, dataset, partial(report, cell=cell.id))))
    trained: list[Trained] = []
    with failure_noted([record.context.folder for record in records]):
        trained = train(records, started)
    for record, one in zip(records, trained, strict=False):  # none where training failed
        with failure_noted([record.context.folder]):
            finish_cell(record.context, one)
        record.context.report(ENDED, 1, 1)


def main() -> int:
    run, cell_ids = Path(sys.argv[1]), sys.argv[2:]
    with failure_noted([files.cell_folder(run, cell_id) for cell_id in cell_ids]):
        run_together(run, [read_cell(run, cell_id) for cell_id in cell_ids], read_settings(run), print_progress)
    return 0 if all(files.is_finished(run, cell_id) for cell_id in cell_ids) else 1


if __name__ == "__main__":
    raise SystemExit(main())
