"""A cell's rows as its stages measure them: on disk when a stage ends, so that a later one cannot lose them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from studies.store import files
from studies.store.cells import Cell
from studies.store.files import COLUMNS, Row
from studies.store.folder import CellFolder


class CellRows:
    """The rows and blanks of one cell, by stage, in the order in which the stages end."""

    def __init__(self, folder: CellFolder, cell: Cell, columns: Sequence[str] = COLUMNS) -> None:
        self._folder, self._cell, self._columns = folder, cell, columns
        self._stages: dict[str, list[Row]] = {}

    def add(self, stage: str, rows: Sequence[Row]) -> None:
        """Notes what a stage has measured, and writes it.

        With the first stage of a cell that is run again, what an earlier attempt left is written over.
        """
        self._stages[stage] = list(rows)
        files.write_partial(self._folder, self._cell, self._stages, self._columns)

    def finish(self, description: Mapping[str, str]) -> None:
        """Marks the cell finished, with the rows of all stages."""
        rows = [row for stage_rows in self._stages.values() for row in stage_rows]
        files.write_finished(self._folder, self._cell, description, rows, self._columns)
