"""The process of one cell, run as `python -m MODULE RUN CELL_ID`: progress as lines of JSON, a failure as a file."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from studies.harness import store
from studies.harness.cells import Cell
from studies.harness.store import Row


def print_progress(stage: str, done: int, total: int, loss: float | None = None, rows: Sequence[Row] = ()) -> None:
    """What `runner.run_cells` reads: how far the cell is, and the rows it has measured since it last said so."""
    print(json.dumps({"stage": stage, "done": done, "total": total, "loss": loss, "rows": list(rows)}), flush=True)


def run_in_process(body: Callable[[Path, Cell], None]) -> int:
    """Calls body(run, cell) for the run and the cell named on the command line; returns the exit status.

    What it raises is written to the cell's folder, its reason as the first line.
    """
    run, cell_id = Path(sys.argv[1]), sys.argv[2]
    folder = store.cell_folder(run, cell_id)
    try:
        body(run, Cell(**json.loads((folder / "cell.json").read_text())["factors"]))
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        store.write_text(folder / store.FAILURE, f"{reason}\n\n{traceback.format_exc()}")
        return 1
    return 0
