"""The factors of a study, and a cell: a value of every factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FACTORS = ("dataset", "schedule", "prediction", "variance", "objective", "timesteps", "dtype", "backend", "seed")

LATER_FACTORS = {"timesteps": "uniform", "dtype": "float32"}
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
        named = [name for name in FACTORS if getattr(self, name) != LATER_FACTORS.get(name)]
        return "-".join(str(getattr(self, name)).replace(":", "_") for name in named)


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
        if factor not in FACTORS or not equals or not values:
            raise ValueError(
                f"--cells takes factor=value[,value], with a factor of {', '.join(FACTORS)}, got {words!r}"
            )
        wanted[factor] = set(values.split(","))
    return wanted
