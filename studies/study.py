"""What every study script does: say what will happen, run the cells, write the report, print the closing table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from studies.datasets import load_dataset
from studies.plan.announcement import announcement
from studies.plan.settings import StudySettings
from studies.reporting.terminal import folded, terminal_width
from studies.run.executor import Executor
from studies.run.runner import run_study
from studies.run.seeds import add_seeds, check_sequential
from studies.run.watch import DRAWING
from studies.store import files
from studies.store.cells import Cell
from studies.store.folder import RunFolder


def run_and_report(
    study: str,
    settings: StudySettings,
    make_cells: Callable[[StudySettings], list[Cell]],
    argv: Sequence[str],
    add_to_run: Callable[[Path], str] | None = None,
    executor: Executor | None = None,
) -> int:
    """Runs the study and returns the exit status: 0, or 1 where a cell failed.

    `add_to_run` writes what a study has of its own into the run's folder, before the report is made, and returns what
    it has to say on the terminal. `executor`: where the cells run; None: in processes on this machine.
    """
    cells = make_cells(settings)
    settings = settings.replace(backends=tuple(dict.fromkeys(cell.backend for cell in cells)))  # as resolved
    if settings.seeds_until is not None:
        check_sequential(settings, cells)
    dataset = load_dataset(settings.dataset, settings.test_examples, settings.scale)
    print(folded(announcement(settings, cells, dataset), terminal_width()), flush=True)
    outcome = run_study(study, settings, cells, argv, dataset, executor)
    closing = ""
    if settings.seeds_until is not None and not outcome.failed:
        outcome, closing = add_seeds(study, settings, make_cells, argv, dataset, executor)

    from studies.reporting.page import make_report  # matplotlib and pandas, only needed now

    if not any(files.has_rows(folder) for folder in RunFolder(settings.out).every_cell()):
        print(f"no cell has measured anything; the reasons are in {RunFolder(settings.out).cells}")
        return 1
    added = "" if add_to_run is None else add_to_run(settings.out)
    print(DRAWING, flush=True)
    closing_table, report = make_report(settings.out)
    print(closing_table)
    if added:
        print(added)
    for cell_id, reason in outcome.failed.items():
        print(f"failed: {cell_id}: {reason}")
    print(f"{closing}report: {report}")
    return 1 if outcome.failed else 0
