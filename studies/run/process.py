"""The process of a group of cells, run as `python -m MODULE RUN CELL_ID...`.

Progress goes to standard output as one JSON object a line, a failure to a file in the cell's folder.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from studies.store import files
from studies.store.cells import Cell
from studies.store.files import Row
from studies.store.folder import CellFolder, RunFolder

TIED_TO_STDIN = "CELLS_END_WITH_STDIN"
"""The variable of the environment by which an executor asks a group to end when its standard input does."""

ENDED = "ended"
"""The stage in which a group says that one of its cells has ended, well or not."""

DRESSING = re.compile(r"\x1b\[[0-9;]*m|\{\{function_node [^}]*\}\} ?")
WRAPPING = re.compile(r"Exception encountered when calling |Graph execution error:|Detected at node |File \"")

News = dict[str, Any]
"""One report of a cell, as `print_progress` writes it."""

Report = Callable[..., None]
"""Called as `print_progress` is."""

GroupBody = Callable[[Path, Sequence[Cell], Report], None]
"""Runs the cells of a group, of one or many; its reports name the cell that they are of."""


def print_progress(
    stage: str, done: int, total: int, loss: float | None = None, rows: Sequence[Row] = (), *, cell: str
) -> None:
    """What an executor reads: how far the cell of that id is, and the rows it has measured since it last said so."""
    news: News = {"stage": stage, "done": done, "total": total, "loss": loss, "rows": list(rows), "cell": cell}
    print(json.dumps(news), flush=True)


@contextmanager
def failure_noted(folders: Iterable[CellFolder]) -> Iterator[None]:
    """What is raised within is written to the cells' folders, its reason as the first line, and goes no further."""
    try:
        yield
    except Exception as error:
        for folder in folders:
            files.write_text(folder.failure, f"{reason_of(error)}\n\n{traceback.format_exc()}")


def reason_of(error: Exception) -> str:
    """What was raised, as one line."""
    return f"{type(error).__name__}: {cause_in(str(error)) or 'no message'}"


def cause_in(message: str) -> str:
    """The line of an error's message that says what was wrong: the first, but for where Keras and TensorFlow put it.

    Keras begins with the layer that it happened in, TensorFlow with where the operation was defined.
    """
    lines = (DRESSING.sub("", line).strip() for line in message.splitlines())
    return next((line for line in lines if line and not WRAPPING.match(line)), "")


def one_after_another(body: Callable[[Path, Cell, Report], None]) -> GroupBody:
    """The body of a group whose cells share nothing: what goes wrong with one of them is its failure alone."""

    def run_group(run: Path, cells: Sequence[Cell], report: Report) -> None:
        for cell in cells:
            report_of_cell = partial(report, cell=cell.id)
            with failure_noted([RunFolder(run).cell(cell.id)]):
                body(run, cell, report_of_cell)
            report_of_cell(ENDED, 1, 1)

    return run_group


def run_in_process(body: GroupBody) -> int:
    """Runs the cells named on the command line; returns the exit status: 0, or 1 where one of them did not finish.

    What `body` raises is the failure of all of them.
    """
    if os.environ.get(TIED_TO_STDIN):
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    run, cell_ids = Path(sys.argv[1]), sys.argv[2:]
    folders = [RunFolder(run).cell(cell_id) for cell_id in cell_ids]
    with failure_noted(folders):
        body(run, [folder.read_cell() for folder in folders], print_progress)
    return 0 if all(folder.rows.is_file() for folder in folders) else 1


def _end_with_stdin() -> None:
    """Waits until whoever holds the other end of standard input is gone, however that ended, and ends this process."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
