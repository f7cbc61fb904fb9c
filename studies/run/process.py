"""The process of one cell, run as `python -m MODULE RUN CELL_ID`: progress as lines of JSON, a failure as a file."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from studies.store import files
from studies.store.cells import Cell
from studies.store.files import Row

ENDED = "ended"
"""The stage in which a process of several cells says that one of them has ended, well or not."""


def print_progress(
    stage: str,
    done: int,
    total: int,
    loss: float | None = None,
    rows: Sequence[Row] = (),
    cell: str | None = None,
) -> None:
    """What `runner.run_cells` reads: how far the cell is, and the rows it has measured since it last said so.

    `cell` is the cell's id, where the process has several.
    """
    news = {"stage": stage, "done": done, "total": total, "loss": loss, "rows": list(rows), "cell": cell}
    print(json.dumps(news), flush=True)


def read_cell(run: Path, cell_id: str) -> Cell:
    """The cell whose folder has its factors in cell.json."""
    return Cell(**json.loads((files.cell_folder(run, cell_id) / "cell.json").read_text())["factors"])


@contextmanager
def failure_noted(folders: Iterable[Path]) -> Iterator[None]:
    """What is raised within is written to the cells' folders, its reason as the first line, and goes no further."""
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        for folder in folders:
            files.write_text(folder / files.FAILURE, f"{reason}\n\n{traceback.format_exc()}")


def run_in_process(body: Callable[[Path, Cell], None]) -> int:
    """Calls body(run, cell) for the run and the cell named on the command line; returns the exit status.

    What it raises is written to the cell's folder, its reason as the first line.
    """
    run, cell_id = Path(sys.argv[1]), sys.argv[2]
    with failure_noted([files.cell_folder(run, cell_id)]):
        body(run, read_cell(run, cell_id))
        return 0
    return 1
