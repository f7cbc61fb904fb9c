"""A run read back from its folder: settings, environment, rows, which cells finished, failed or are missing.

Everything a report says comes from here, so that a report can be made again anywhere the folder is copied to.
A study varies some factors and holds the others; which ones is read from the data. A *recipe* is one combination of
the varying factors that are `in_recipe`, which the dataset, the backend and the seed are not: what the study compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from studies.store.cells import FACTOR_NAMES, FACTORS, LATER_FACTORS
from studies.store.files import (
    COLUMNS,
    LATER_SETTINGS,
    REASON,
    first_stage,
    read_arrays,
    read_blanks,
    read_rows,
    reason_of,
)
from studies.store.folder import CellFolder, RunFolder
from studies.store.recipes import recipes_of

RUN = "run"
"""The run's name: a factor of reports that set several runs side by side."""
FACTOR_COLUMNS = (RUN, *FACTOR_NAMES)
IN_RECIPE = (RUN, *(factor.name for factor in FACTORS if factor.in_recipe))
PREFERRED_UNITS = ("bits/dim", "per dim")
FIRST_STAGE = "first_stage"
"""Attribute of rows whose number of seeds was set by the spread of the first ones: how many those were."""


@dataclass(frozen=True)
class Blank:
    """A measurement that could not be made, and why; `sampler` is None for one that no chain was drawn for."""

    metric: str
    sampler: str | None
    reason: str


@dataclass(frozen=True)
class CellRecord:
    """One cell's folder: its factors, its description, how it ended, and what could not be measured."""

    folder: Path
    factors: dict[str, Any]
    description: dict[str, Any]
    failure: str | None
    finished: bool
    blanks: tuple[Blank, ...] = ()

    @property
    def id(self) -> str:
        return self.folder.name

    def samples(self) -> dict[str, NDArray[np.float64]]:
        """The arrays of samples.npz by name; empty where the cell has none."""
        return read_arrays(CellFolder(self.folder).samples)

    def interpolations(self) -> dict[str, NDArray[np.float64]]:
        """The arrays of `samplers.interpolation.Interpolations`; empty where the cell has none."""
        return read_arrays(CellFolder(self.folder).interpolations)

    def sketches(self) -> dict[str, NDArray[np.float64]]:
        """The arrays of `drift.as_arrays`; empty where the cell has none."""
        return read_arrays(CellFolder(self.folder).sketches)


@dataclass(frozen=True, eq=False)
class Run:
    """A run, or several set side by side: `rows` has every column of FACTOR_COLUMNS, `recipe`, and the values."""

    name: str
    folder: Path
    settings: dict[str, Any]
    environment: dict[str, Any]
    rows: pd.DataFrame
    cells: tuple[CellRecord, ...]
    reference: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[CellRecord, ...]:
        return tuple(cell for cell in self.cells if cell.failure is not None)

    @property
    def unfinished(self) -> tuple[CellRecord, ...]:
        return tuple(cell for cell in self.cells if cell.failure is None and not cell.finished)


def read_run(folder: Path) -> Run:
    """The run in `folder`. Raises a ValueError in one line where the folder holds no run or an unreadable one."""
    folder = Path(folder)
    files = RunFolder(folder)
    files.check()
    cells = tuple(_read_cell(cell) for cell in files.every_cell() if cell.record.is_file())
    table = files.results
    rows = result_rows(folder) if table.is_file() else pd.DataFrame(columns=list(COLUMNS))
    rows = with_recipes(_one_unit(rows).assign(**{RUN: folder.resolve().name}))
    if (first := first_stage(folder)) is not None:
        rows.attrs[FIRST_STAGE] = first
    return Run(
        name=folder.resolve().name,
        folder=folder,
        settings=files.read_settings(),
        environment=files.read_environment() if files.environment.is_file() else {},
        rows=rows,
        cells=tuple(replace(cell, factors={RUN: folder.resolve().name, **cell.factors}) for cell in cells),
        reference=read_arrays(files.reference),
    )


def read_results(folder: Path) -> Run:
    """The run in `folder`, to report on. Raises as `read_run`, and where no cell has finished."""
    run = read_run(folder)
    if run.rows.empty:
        raise ValueError(f"{folder} has no results yet; run its study's command to the end first")
    return run


def result_rows(run: Path) -> pd.DataFrame:
    """The rows of a run's results.csv, of which each has every factor. ValueError where it has not all of COLUMNS."""
    table = RunFolder(run).results
    rows = with_later_factors(read_rows(table))
    missing = [name for name in COLUMNS if name not in rows.columns]
    if missing:
        raise ValueError(f"{table}: expected the columns {', '.join(COLUMNS)}; missing {', '.join(missing)}")
    return rows


def with_later_factors(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with a value of every factor, also where they were written before a factor was one.

    In a run that was added to later, only some rows lack it.
    """
    before = {name: rows[name].fillna(value) if name in rows else value for name, value in LATER_FACTORS.items()}
    return rows.assign(**before)


def side_by_side(runs: Sequence[Run]) -> Run:
    """Several runs as one, with `run` as a factor. ValueError when two have the same name."""
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise ValueError(f"expected runs in folders of different names, got {', '.join(names)}; rename one")
    return Run(
        name=" and ".join(names) if len(names) < 3 else f"{len(names)} runs",
        folder=runs[0].folder.parent,
        settings=_agreed([run.settings for run in runs]),
        environment=_agreed([run.environment for run in runs]),
        rows=with_recipes(pd.concat([run.rows.drop(columns="recipe") for run in runs], ignore_index=True)),
        cells=tuple(cell for run in runs for cell in run.cells),
        reference=runs[0].reference if len({_data_of(run) for run in runs}) == 1 else {},
    )


def _data_of(run: Run) -> tuple[str, str]:
    """What the run's examples are of, and how they were scaled."""
    return str(run.settings.get("dataset")), str(run.settings.get("scale", LATER_SETTINGS["scale"]))


def varying_factors(rows: pd.DataFrame) -> list[str]:
    """The factors with more than one level, in the order of FACTOR_COLUMNS."""
    return [name for name in FACTOR_COLUMNS if name in rows and rows[name].nunique(dropna=False) > 1]


def recipe_factors(rows: pd.DataFrame) -> list[str]:
    """The factors whose combinations are the recipes; the objective alone when nothing but it could be named."""
    return [name for name in varying_factors(rows) if name in IN_RECIPE] or ["objective"]


def with_recipes(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with the column `recipe`: a `Recipe` of the `recipe_factors`."""
    return rows.assign(recipe=recipes_of(rows, recipe_factors(rows)))


def levels(rows: pd.DataFrame, factor: str) -> list[Any]:
    """The levels of a factor in the order they first appear."""
    return list(dict.fromkeys(rows[factor]))


def _read_cell(folder: CellFolder) -> CellRecord:
    cell = folder.read_record()
    factors, description = cell.get("factors") or {}, cell.get("description") or {}
    if not (isinstance(factors, dict) and isinstance(description, dict)):
        raise ValueError(f"{folder.record} is not the record of a cell; remove {folder.path} to run it anew")
    factors = {**LATER_FACTORS, **factors}
    failure = reason_of(folder)
    return CellRecord(
        folder=folder.path,
        factors={name: factors.get(name) for name in FACTOR_NAMES},
        description=description,
        failure=failure,
        finished=folder.rows.is_file() and failure is None,
        blanks=tuple(Blank(row["metric"], row.get("sampler"), row[REASON]) for row in read_blanks(folder)),
    )


def _one_unit(rows: pd.DataFrame) -> pd.DataFrame:
    """A metric written in several units (nats and bits) is kept in one, so that no value counts twice."""
    keep = pd.Series(True, index=rows.index)
    for metric, group in rows.groupby("metric"):
        units = list(dict.fromkeys(group["unit"].dropna()))
        if len(units) > 1:
            unit = next((name for name in PREFERRED_UNITS if name in units), units[0])
            keep &= (rows["metric"] != metric) | (rows["unit"] == unit)
    return rows[keep].reset_index(drop=True)


def _agreed(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The entries that all records share."""
    return {key: value for key, value in records[0].items() if all(other.get(key) == value for other in records[1:])}
