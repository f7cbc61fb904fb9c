"""The factors of a study, and a cell: a value of every factor.

FACTORS is the one list of what cells can differ in: columns, folder names, grids, recipes, pairing keys and headings
are made from it. A new factor is an entry here, a field of `Cell`, a field of the settings that gives its values, and
the code that uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Factor:
    """One thing that cells can differ in."""

    name: str
    """The field of a cell and the column of its rows."""
    setting: str
    """The field of the settings that gives its values."""
    heading: str
    """Over a column of recipes in a report."""
    plural: str
    """Its values when they are counted: 2 objectives."""
    before: str | None = None
    """What every cell had before the factor was one: the value of rows and folders that do not name it."""
    in_recipe: bool = True
    """Whether its values are among what a study compares; the others are what a comparison is made within."""
    shares_program: bool = False
    """Whether cells that differ in it can train together as one program."""


FACTORS = (
    Factor("dataset", "dataset", "Dataset", "datasets", in_recipe=False),
    Factor("schedule", "schedules", "Schedule", "schedules"),
    Factor("prediction", "predictions", "Prediction", "predictions"),
    Factor("variance", "variances", "Variance", "variances"),
    Factor("objective", "objectives", "Objective", "objectives", shares_program=True),
    Factor("timesteps", "timesteps", "Steps drawn", "ways to draw t", before="uniform"),
    Factor("dtype", "dtypes", "Precision", "precisions", before="float32"),
    Factor("backend", "backends", "Framework", "backends", in_recipe=False),
    Factor("seed", "seeds", "Seed", "seeds", in_recipe=False, shares_program=True),
)
"""In the order of columns and folder names."""

FACTOR_NAMES = tuple(factor.name for factor in FACTORS)

TEXT_FACTORS = tuple(name for name in FACTOR_NAMES if name != "seed")

LATER_FACTORS = {factor.name: factor.before for factor in FACTORS if factor.before is not None}
"""Factors that older runs do not have, and the value that their cells are of."""


@dataclass(frozen=True)
class Cell:
    """One training run: a value of every factor."""

    dataset: str
    schedule: str
    prediction: str
    variance: str
    objective: str
    backend: str
    seed: int
    timesteps: str = LATER_FACTORS["timesteps"]
    dtype: str = LATER_FACTORS["dtype"]

    @property
    def id(self) -> str:
        """The name of the cell's folder; of LATER_FACTORS it has those with another value."""
        named = [name for name in FACTOR_NAMES if getattr(self, name) != LATER_FACTORS.get(name)]
        return "-".join(str(getattr(self, name)).replace(":", "_") for name in named)

    def is_typed(self) -> bool:
        """Whether the seed is a number and every other factor text, which a file may have otherwise."""
        return type(self.seed) is int and all(isinstance(getattr(self, name), str) for name in TEXT_FACTORS)


def chosen_cells(cells: Sequence[Cell], selection: Sequence[str]) -> list[Cell]:
    """The cells that have one of the values asked for in every factor named, as in "seed=0,1"."""
    wanted = wanted_factors(selection)
    for factor, values in wanted.items():
        there = {str(getattr(cell, factor)) for cell in cells}
        unknown = sorted(values - there)
        if unknown:
            raise ValueError(f"--cells {factor}={unknown[0]}: no such cell; the run has {', '.join(sorted(there))}")
    return [cell for cell in cells if all(str(getattr(cell, factor)) in values for factor, values in wanted.items())]


def wanted_factors(selection: Sequence[str]) -> dict[str, set[str]]:
    """The values asked for of each factor named in a selection such as "seed=0,1"."""
    wanted = {}
    for words in selection:
        factor, equals, values = words.partition("=")
        if factor not in FACTOR_NAMES or not equals or not values:
            raise ValueError(
                f"--cells takes factor=value[,value], with a factor of {', '.join(FACTOR_NAMES)}, got {words!r}"
            )
        wanted[factor] = set(values.split(","))
    return wanted
