"""A run's folder: the name of every file in it, for those who write and those who read.

RUN/settings.json and RUN/cells/CELL_ID/cell.json say what the run and a cell are; no other module opens them to read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.store.cells import Cell


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
    def sketches(self) -> Path:
        """Sketches of the weights in training (`cell.drift`)."""
        return self.path / "weights_sketch.npz"

    @property
    def samples(self) -> Path:
        """The samples of each chain by name."""
        return self.path / "samples.npz"

    @property
    def log(self) -> Path:
        """Whatever the cell's process printed beside its reports."""
        return self.path / "log.txt"

    def read_record(self) -> dict[str, Any]:
        """What `record` holds; the errors of opening and reading JSON go out as they are, ValueError for no object."""
        return _read_json(self.record)

    def read_cell(self) -> Cell:
        """The cell that the folder is of. ValueError in one line where its record does not say."""
        try:
            return Cell(**self.read_record()["factors"])
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
            raise ValueError(f"{self.record} is not the record of a cell; remove {self.path} to run it anew") from None


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
        """The rows of all cells: of those that failed on the way, what they had measured."""
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

    def read_settings(self) -> dict[str, Any]:
        """What `settings` holds, with errors as of `CellFolder.read_record`."""
        return _read_json(self.settings)

    def read_environment(self) -> dict[str, Any]:
        """What `environment` holds, with errors as of `read_settings`."""
        return _read_json(self.environment)


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}; was it written by a study?")
    return content
