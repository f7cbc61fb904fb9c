"""A recipe: what a study compares, a level of each factor that is compared, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

SEPARATOR = " · "
"""Between the levels of a recipe where it is written as text."""


@dataclass(frozen=True, order=True)
class Recipe:
    """A level of each of `factors`, in their order; those of one run have the same factors and sort by their levels."""

    factors: tuple[str, ...]
    levels: tuple[str, ...]

    def __str__(self) -> str:
        """What files hold: "cosine · x_0 · posterior_kl"."""
        return SEPARATOR.join(self.levels)

    def level(self, factor: str) -> str:
        return self.levels[self.factors.index(factor)]

    def differing(self, other: Recipe) -> tuple[str, ...]:
        """The factors in which two recipes of the same factors have different levels."""
        levels = zip(self.factors, self.levels, other.levels, strict=True)
        return tuple(factor for factor, here, there in levels if here != there)


def recipes_of(rows: pd.DataFrame, factors: Sequence[str]) -> pd.Series:
    """The recipe of every row by `factors`; equal ones are one object, which makes comparing them fast."""
    names, known = tuple(factors), dict[tuple[str, ...], Recipe]()
    levels = rows[list(names)].astype(str).itertuples(index=False, name=None)
    return pd.Series([known.setdefault(each, Recipe(names, each)) for each in levels], index=rows.index, dtype=object)
