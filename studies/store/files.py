"""What is written into a run's folder: whole or not at all, and what is finished is never written again."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backends.whole_files import clear_abandoned, is_unfinished, write_whole
from studies.store.cells import FACTOR_NAMES, TEXT_FACTORS, Cell, chosen_cells
from studies.store.folder import CellFolder, RunFolder, read_json

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (*FACTOR_NAMES, "step", "t", "t_last", "sampler", "metric", "value", "standard_error", "unit")
"""Columns of rows.csv and results.csv; what a row has no value for is empty."""
REASON, STAGE = "reason", "stage"
"""Further columns of what an unfinished cell has measured: of a blank, why; and the stage that a row is of."""

NUMBERS = ("seed", "value", "standard_error")

Row = dict[str, Any]

LATER_SETTINGS = {"scale": "none"}
"""Settings that older runs do not name, and what theirs were."""


def row(metric: str, value: float, unit: str, **more: Any) -> Row:
    """One measurement, of some of COLUMNS; the cell's factors are put in front of it when it is written."""
    return {"metric": metric, "value": float(value), "unit": unit, **more}


def blank(metric: str, reason: str, **more: Any) -> Row:
    """A measurement that could not be made, and why. No table of results has a row of it; the cell's record has."""
    return {"metric": metric, REASON: reason, **more}


def write_text(path: Path, text: str) -> None:
    write_whole(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    write_whole(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays that `write_arrays` wrote; none where there is no file. ValueError in one line for another file."""
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected arrays, got {error}; was it written to the end?") from None


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> None:
    """Tidy rows as CSV with exactly these columns; an unknown one is an error."""
    import pandas as pd

    rows = list(rows)
    unknown = {key for row in rows for key in row} - set(columns)
    if unknown:
        raise ValueError(f"rows have the columns {', '.join(columns)}, got also {', '.join(sorted(unknown))}")
    write_text(path, pd.DataFrame(rows, columns=list(columns)).to_csv(index=False))


def read_rows(path: Path) -> pd.DataFrame:
    """Rows as they were written: a factor but the seed is text, also where it looks like a number or like nothing.

    Data in 007.npz are the dataset "007", and those in nan.npz the dataset "nan"; only what is empty is missing.
    """
    import pandas as pd

    try:
        names = pd.read_csv(path, nrows=0).columns
        text = {name: str for name in names if name in TEXT_FACTORS}
        missing = {name: [""] if name in text else ["", "nan", "NaN"] for name in names}
        rows = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=missing)
    except ValueError as error:
        raise ValueError(f"{path}: expected a table of rows, got {error}; was it written to the end?") from None
    for name in (name for name in NUMBERS if name in rows and len(rows)):
        if rows[name].dtype.kind not in "iuf":
            raise ValueError(f"{path}: expected numbers in the column {name}, got others; was it written by a study?")
    return rows


def write_record(
    folder: CellFolder, cell: Cell, description: Mapping[str, str] | None = None, blanks: Sequence[Row] = ()
) -> None:
    """Which cell the folder is of, and, of one that has finished, what it ran on and the blanks of its table."""
    described = {} if description is None else {"description": dict(description)}
    left_blank = {"blanks": list(blanks)} if blanks else {}
    write_json(folder.record, {"factors": asdict(cell), **described, **left_blank})


def write_partial(
    folder: CellFolder, cell: Cell, stages: Mapping[str, Sequence[Row]], columns: Sequence[str] = COLUMNS
) -> None:
    """What the cell's stages have measured so far, blanks too, each by the name of its stage."""
    rows = [{**asdict(cell), **stage_row, STAGE: stage} for stage, rows in stages.items() for stage_row in rows]
    write_rows(folder.partial, rows, (*columns, REASON, STAGE))


def write_finished(
    folder: CellFolder,
    cell: Cell,
    description: Mapping[str, str],
    rows: Iterable[Row],
    columns: Sequence[str] = COLUMNS,
) -> None:
    """Marks the cell finished: its record, then its rows; nothing is left to go on from, and no earlier failure.

    Blanks among the rows go to the record.
    """
    rows = list(rows)
    write_record(folder, cell, description, [row for row in rows if REASON in row])
    write_rows(folder.rows, [{**asdict(cell), **row} for row in rows if REASON not in row], columns)
    for left in (folder.partial, folder.state, folder.failure):
        left.unlink(missing_ok=True)


def has_rows(folder: CellFolder) -> bool:
    """Whether anything that the cell measured is there: all of it, or what its stages did before one of them failed."""
    return folder.rows.is_file() or folder.partial.is_file()


def read_measured(folder: CellFolder) -> pd.DataFrame:
    """The rows of a cell that `has_rows`, whether it has finished or not."""
    if folder.rows.is_file():
        return read_rows(folder.rows)
    partial = read_rows(folder.partial)
    return partial[partial[REASON].isna()].drop(columns=[REASON, STAGE])


def read_blanks(folder: CellFolder) -> list[Row]:
    """The blanks of a cell: of one that has finished those of its record, else those of the stages that have ended."""
    if folder.rows.is_file() or not folder.partial.is_file():
        return list(folder.read_record().get("blanks", []))
    partial = read_rows(folder.partial)
    blanks = partial.loc[partial[REASON].notna(), ["metric", "sampler", REASON]]
    return [
        {str(name): value for name, value in row.items() if isinstance(value, str)} for row in blanks.to_dict("records")
    ]


def is_finished(run: Path, cell_id: str) -> bool:
    """Whether the cell's rows, its last file, are there."""
    return RunFolder(run).cell(cell_id).rows.is_file()


def is_trained(run: Path, cell: Cell) -> bool:
    """Whether the cell is finished and left a network: one that diverged did not."""
    return is_finished(run, cell.id) and RunFolder(run).cell(cell.id).checkpoint.is_file()


def asked_cells(run: Path, selection: Sequence[str]) -> list[Cell]:
    """The run's cells that --cells, as in `chosen_cells`, asks for, finished or not."""
    recorded = [folder for folder in RunFolder(run).every_cell() if folder.record.is_file()]
    return chosen_cells([folder.read_cell() for folder in recorded], selection)


def finished_besides(run: Path, cells: Sequence[Cell]) -> list[Cell]:
    """The run's finished cells that are not among `cells`, as `begun_besides` has them."""
    return [cell for cell in begun_besides(run, cells) if is_finished(run, cell.id)]


def begun_besides(run: Path, cells: Sequence[Cell]) -> list[Cell]:
    """The run's cells that are not among `cells`: further seeds of the same recipes, in the same order."""
    place = {replace(cell, seed=0): i for i, cell in enumerate(cells)}
    asked = set(cells)
    besides = [cell for cell in asked_cells(run, ()) if cell not in asked]
    return sorted(besides, key=lambda cell: (cell.seed, place.get(replace(cell, seed=0), len(cells))))


def failure(run: Path, cell_id: str) -> str | None:
    """The one-line reason of a failed cell, or None."""
    return reason_of(RunFolder(run).cell(cell_id))


def reason_of(folder: CellFolder) -> str | None:
    """The one-line reason that the cell of a folder failed, or None."""
    if not folder.failure.is_file():
        return None
    lines = folder.failure.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[0].strip() if lines and lines[0].strip() else "no reason was recorded"


def first_stage(run: Path) -> int | None:
    """How many seeds set the number of the run's seeds; None where it was fixed beforehand."""
    path = RunFolder(run).sequential
    if not path.is_file():
        return None
    first = read_json(path).get("first_stage")
    if type(first) is not int:
        raise ValueError(f"{path}: expected a number first_stage, got {first!r}; was it written by a study?")
    return first


def gather_results(run: Path, cell_ids: Iterable[str]) -> Path:
    """Joins what the cells have measured into results.csv, also of those that failed on the way or were stopped."""
    import pandas as pd

    folder = RunFolder(run)
    cells = [folder.cell(cell_id) for cell_id in cell_ids]
    frames = [read_measured(cell) for cell in cells if has_rows(cell)]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))
    for column in ("step", "t", "t_last"):
        frame[column] = frame[column].astype("Int64")
    write_text(folder.results, frame.to_csv(index=False))
    return folder.results


def check_settings(run: Path, settings_text: str, study: str) -> None:
    """ValueError in one line where the folder is of another study or has other settings; one without any is fine."""
    folder = RunFolder(run)
    if not folder.settings.is_file():
        return
    wanted = {"study": study, **json.loads(settings_text)}
    there = {**LATER_SETTINGS, **folder.read_settings()}
    # These change how a run runs, or how many cells it has, not what a cell of it computes.
    free = {"jobs", "threads", "together", "out", "preset", "seeds", "seeds_until", "cells", "tensorboard"}
    differing = [key for key in wanted if key not in free and there.get(key) != wanted[key]]
    differing = [key for key in differing if key in there or wanted[key]]  # what is off, a folder may be older than
    if differing:
        key = differing[0]
        raise ValueError(
            f"{run} holds a run with other settings ({key} {there.get(key)!r} there, {wanted[key]!r} asked); "
            "repeat its command to continue it, or give another folder with --out"
        )


def open_run(run: Path, settings_text: str, study: str) -> None:
    """Makes the run's folder, or checks that the one there is of the same study and settings.

    Seeds and cells may be added to a run. It keeps those it has: fewer seeds asked for are not recorded.

    A ValueError in one line where the folder cannot be written, belongs to something else, or has other
    settings; nothing in it is touched then.
    """
    check_settings(run, settings_text, study)
    wanted = {"study": study, **json.loads(settings_text)}
    folder = RunFolder(run)
    path = folder.settings
    if path.is_file():
        there = {**LATER_SETTINGS, **folder.read_settings()}
        if "seeds" in wanted:
            wanted["seeds"] = max(wanted["seeds"], there.get("seeds", 0))
        if there != wanted:
            write_json(path, wanted)
        return
    if run.is_dir():
        clear_abandoned(run)  # of a command that was killed before it had written its settings
    if run.exists() and (not run.is_dir() or any(not is_unfinished(entry) for entry in run.iterdir())):
        raise ValueError(f"{run} exists and holds no run; give an empty or a new folder with --out")
    try:
        write_json(path, wanted)
    except OSError as error:
        raise ValueError(f"cannot write to {run} ({error.strerror}); give another folder with --out") from None
