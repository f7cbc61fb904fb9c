"""One dataset of a run as the figures see it: its recipes and frameworks, their looks and names."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from studies.reporting.names import name_of
from studies.reporting.plotting import MARKERS, PALETTE, Key
from studies.store.reading import FACTOR_COLUMNS, CellRecord, Run, levels


@dataclass(frozen=True, eq=False)
class View:
    """One dataset of a run, with the look of every recipe and framework."""

    run: Run
    dataset: Hashable
    rows: pd.DataFrame

    @property
    def recipes(self) -> list[Hashable]:
        return levels(self.rows, "recipe")

    @property
    def backends(self) -> list[Hashable]:
        return levels(self.rows, "backend")

    @property
    def seeds(self) -> int:
        return int(self.rows["seed"].nunique())

    def colour(self, recipe: Hashable) -> str:
        return PALETTE[self.recipes.index(recipe) % len(PALETTE)]

    def dash(self, backend: Hashable) -> int:
        return self.backends.index(backend)

    def marker(self, backend: Hashable) -> str:
        return MARKERS[self.dash(backend) % len(MARKERS)]

    def name(self, recipe: Hashable, backend: Hashable) -> str:
        """The recipe, and the framework where there are several."""
        return f"{name_of(recipe)}, {name_of(backend)}" if len(self.backends) > 1 else name_of(recipe)

    def groups(self) -> list[tuple[Hashable, Hashable]]:
        """Every recipe and framework that has rows."""
        there = set(self.rows[["recipe", "backend"]].itertuples(index=False, name=None))
        return [(recipe, backend) for recipe in self.recipes for backend in self.backends if (recipe, backend) in there]

    def keys(self, dashes: bool = True) -> list[Key]:
        colours = [Key(name_of(recipe), self.colour(recipe)) for recipe in self.recipes]
        lines = [Key(name_of(backend), dash=self.dash(backend)) for backend in self.backends]
        return colours + (lines if dashes and len(lines) > 1 else [])

    @property
    def shown_seed(self) -> int:
        """The first seed with the most cells: what pictures are of, so that all of them start from the same noise."""
        seeds, cells = np.unique(self.rows.drop_duplicates(["recipe", "backend", "seed"])["seed"], return_counts=True)
        return int(seeds[cells.argmax()])

    def cell(self, recipe: Hashable, backend: Hashable, seed: int | None = None) -> CellRecord | None:
        """The cell of a seed, or of the shown one; None where it did not finish."""
        rows, seed = self.rows, self.shown_seed if seed is None else seed
        match = rows[(rows["recipe"] == recipe) & (rows["backend"] == backend) & (rows["seed"] == seed)]
        if match.empty:
            return None
        wanted = match.iloc[0][list(FACTOR_COLUMNS)]
        return next(
            (cell for cell in self.run.cells if all(str(cell.factors[n]) == str(wanted[n]) for n in FACTOR_COLUMNS)),
            None,
        )


def cells_with_samples(
    view: View, groups: Sequence[tuple[Hashable, Hashable]] | None = None
) -> list[tuple[tuple[str, str], dict[str, NDArray[np.float64]]]]:
    """((name, colour), arrays) of each recipe and framework, at the shown seed."""
    found = []
    for recipe, backend in view.groups() if groups is None else groups:
        cell = view.cell(recipe, backend)
        arrays = cell.samples() if cell is not None else {}
        if arrays:
            found.append(((view.name(recipe, backend), view.colour(recipe)), arrays))
    return found


def one_seed(view: View) -> str:
    return " With one seed there are no intervals." if view.seeds == 1 else ""
