"""A run's folder: every file is written whole or not at all, and what is finished is never written again."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from studies.store.cells import FACTOR_NAMES, Cell, chosen_cells

COLUMNS = (*FACTOR_NAMES, "step", "t", "t_last", "sampler", "metric", "value", "standard_error", "unit")
"""Columns of rows.csv and results.csv; what a row has no value for is empty."""

ROWS, FAILURE, RESULTS, CHECKPOINT = "rows.csv", "failed.txt", "results.csv", "checkpoint.safetensors"
SKETCHES, SEQUENTIAL = "weights_sketch.npz", "sequential.json"

Row = dict[str, Any]


def row(metric: str, value: float, unit: str, **more: Any) -> Row:
    """One measurement, of some of COLUMNS; the cell's factors are put in front of it when it is written."""
    return {"metric": metric, "value": float(value), "unit": unit, **more}


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Has `write` fill a temporary file beside `path`, then moves it there: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    write_whole(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    write_whole(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Tidy rows as CSV with exactly the columns of COLUMNS; an unknown column is an error."""
    import pandas as pd

    rows = list(rows)
    unknown = {key for row in rows for key in row} - set(COLUMNS)
    if unknown:
        raise ValueError(f"rows have the columns {', '.join(COLUMNS)}, got also {', '.join(sorted(unknown))}")
    text = pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False)
    write_text(path, text)


def cell_folder(run: Path, cell_id: str) -> Path:
    return run / "cells" / cell_id


def is_finished(run: Path, cell_id: str) -> bool:
    """Whether the cell's rows, its last file, are there."""
    return (cell_folder(run, cell_id) / ROWS).is_file()


def is_trained(run: Path, cell: Cell) -> bool:
    """Whether the cell is finished and left a network: one that diverged did not."""
    return is_finished(run, cell.id) and (cell_folder(run, cell.id) / CHECKPOINT).is_file()


def asked_cells(run: Path, selection: Sequence[str]) -> list[Cell]:
    """The run's cells that --cells, as in `chosen_cells`, asks for, finished or not."""
    recorded = sorted(run.glob("cells/*/cell.json"))
    return chosen_cells([Cell(**json.loads(path.read_text())["factors"]) for path in recorded], selection)


def failure(run: Path, cell_id: str) -> str | None:
    """The one-line reason of a failed cell, or None."""
    path = cell_folder(run, cell_id) / FAILURE
    return path.read_text().splitlines()[0] if path.is_file() else None


def first_stage(run: Path) -> int | None:
    """How many seeds set the number of the run's seeds; None where it was fixed beforehand."""
    path = run / SEQUENTIAL
    return int(json.loads(path.read_text())["first_stage"]) if path.is_file() else None


def gather_results(run: Path, cell_ids: Iterable[str]) -> Path:
    """Joins the rows of the finished cells into results.csv."""
    import pandas as pd

    frames = [pd.read_csv(cell_folder(run, cell_id) / ROWS) for cell_id in cell_ids if is_finished(run, cell_id)]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))
    for column in ("step", "t", "t_last"):
        frame[column] = frame[column].astype("Int64")
    path = run / RESULTS
    write_text(path, frame.to_csv(index=False))
    return path


def open_run(run: Path, settings_text: str, study: str) -> None:
    """Makes the run's folder, or checks that the one there is of the same study and settings.

    Seeds and cells may be added to a run.

    A ValueError in one line where the folder cannot be written, belongs to something else, or has other
    settings; nothing in it is touched then.
    """
    wanted = {"study": study, **json.loads(settings_text)}
    path = run / "settings.json"
    if path.is_file():
        try:
            there = json.loads(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise ValueError(f"{path} is not a settings file; give another folder with --out") from None
        # These change how a run runs, or how many cells it has, not what a cell of it computes.
        free = {"jobs", "threads", "together", "out", "preset", "seeds", "seeds_until", "cells", "tensorboard"}
        differing = [key for key in wanted if key not in free and there.get(key) != wanted[key]]
        if differing:
            key = differing[0]
            raise ValueError(
                f"{run} holds a run with other settings ({key} {there.get(key)!r} there, {wanted[key]!r} asked); "
                "repeat its command to continue it, or give another folder with --out"
            )
        if there != wanted:
            write_json(path, wanted)
        return
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise ValueError(f"{run} exists and holds no run; give an empty or a new folder with --out")
    try:
        write_json(path, wanted)
    except OSError as error:
        raise ValueError(f"cannot write to {run} ({error.strerror}); give another folder with --out") from None
