"""A run's folder: the name of every file in it, for those who write and those who read.

RUN/settings.json and RUN/cells/CELL_ID/cell.json say what the run and a cell are; no other module opens them to read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.store.cells import Cell

NAMED_BY = {
    "objectives": "compare_objectives",
    "dpm_solver_up_to": "compare_samplers",
    "noise_draws": "compare_estimators",
    "block_seconds": "compare_throughput",
}
"""A setting that no other kind of study has, and its study: of folders from before the name was recorded."""


@dataclass(frozen=True)
class CellFolder:
    """RUN/cells/CELL_ID, and the files of a cell in it."""

    path: Path

    @property
    def id(self) -> str:
        """The cell's, as `Cell.id`."""
        return self.path.name

    @property
    def record(self) -> Path:
        """The cell's factors and, once it has finished, what it ran on."""
        return self.path / "cell.json"

    @property
    def rows(self) -> Path:
        """All that was measured; the last file of a cell, so that it is finished where this is."""
        return self.path / "rows.csv"

    @property
    def partial(self) -> Path:
        """What a cell that has not finished has measured, every stage's rows from when it ends; gone when it has."""
        return self.path / "partial.csv"

    @property
    def failure(self) -> Path:
        """Why the cell failed: the reason as one line, then the traceback."""
        return self.path / "failed.txt"

    @property
    def state(self) -> Path:
        """What an interrupted training goes on from; gone when the cell has finished."""
        return self.path / "state.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The averaged weights; none where training diverged."""
        return self.path / "checkpoint.safetensors"

    @property
    def measured(self) -> Path:
        """Which network of a finished run was measured here (`store.measured`)."""
        return self.path / "checkpoint.sha256"

    @property
    def sketches(self) -> Path:
        """Sketches of the weights in training (`cell.drift`)."""
        return self.path / "weights_sketch.npz"

    @property
    def samples(self) -> Path:
        """The samples of each chain by name."""
        return self.path / "samples.npz"

    @property
    def interpolations(self) -> Path:
        """Pairs of test examples encoded, mixed and decoded; only where that was asked for."""
        return self.path / "interpolations.npz"

    @property
    def log(self) -> Path:
        """Whatever the cell's process printed beside its reports."""
        return self.path / "log.txt"

    def read_record(self) -> dict[str, Any]:
        """What `record` holds, as `read_json` gives it."""
        return read_json(self.record)

    def read_cell(self) -> Cell:
        """The cell that the folder is of. ValueError in one line where its record does not say."""
        try:
            cell = Cell(**self.read_record()["factors"])
        except (ValueError, KeyError, TypeError):
            cell = None
        if cell is None or not cell.is_typed():
            raise ValueError(f"{self.record} is not the record of a cell; remove {self.path} to run it anew")
        return cell


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, or of a study of a finished run, and the files in it."""

    path: Path

    @property
    def settings(self) -> Path:
        """The study's name and settings; a folder is a run's where this is."""
        return self.path / "settings.json"

    @property
    def environment(self) -> Path:
        """The command, versions, processor and commit of the run's beginning."""
        return self.path / "environment.json"

    @property
    def sequential(self) -> Path:
        """How the number of seeds was chosen, where it was not fixed beforehand."""
        return self.path / "sequential.json"

    @property
    def reference(self) -> Path:
        """Real examples for the report's pictures, and the digest of the data."""
        return self.path / "reference.npz"

    @property
    def results(self) -> Path:
        """The rows of all finished cells."""
        return self.path / "results.csv"

    @property
    def figures(self) -> Path:
        """The folder of the report's figures."""
        return self.path / "figures"

    @property
    def page(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def cells(self) -> Path:
        """The folder of the cells' folders."""
        return self.path / "cells"

    def cell(self, cell_id: str) -> CellFolder:
        return CellFolder(self.cells / cell_id)

    def every_cell(self) -> list[CellFolder]:
        """The folders of all cells begun, by name."""
        return [CellFolder(path) for path in sorted(self.path.glob("cells/*"))]

    def events(self, cell_id: str) -> Path:
        """The folder of a cell's TensorBoard events."""
        return self.path / "tensorboard" / cell_id

    def check(self) -> None:
        """A ValueError in one line where the folder is no run's."""
        if not self.settings.is_file():
            raise ValueError(
                f"{self.path}: expected a run's folder with settings.json in it; give the folder a study wrote"
            )

    def study(self) -> str:
        """The name of the study that the folder is of. ValueError in one line where it does not say."""
        self.check()
        try:
            settings = self.read_settings()
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise ValueError(f"{self.settings} is not a settings file; give the folder a study wrote") from None
        name = settings.get("study") or next((study for key, study in NAMED_BY.items() if key in settings), None)
        if not isinstance(name, str):
            raise ValueError(f"{self.settings} does not say which study it is of; give the folder a study wrote")
        return name

    def read_settings(self) -> dict[str, Any]:
        """What `settings` holds, as `read_json` gives it."""
        return read_json(self.settings)

    def read_environment(self) -> dict[str, Any]:
        """What `environment` holds, as `read_json` gives it."""
        return read_json(self.environment)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file. ValueError in one line where the file holds something else; OSError where there is none.

    A number of thousands of digits, or lists in lists in lists, are not what a study writes either.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}; was it written to the end?") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}; was it written by a study?")
    return content
