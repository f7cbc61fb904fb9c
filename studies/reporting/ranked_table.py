"""The recipes of a study of several, best first: the ranks each may have, its numbers, and those set apart."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from studies.reporting.names import name_of
from studies.reporting.numbers import plus_minus
from studies.reporting.plotting import DARK
from studies.reporting.view import View
from studies.statistics.intervals import mean_interval

EN_DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class RankedRow:
    """A recipe: its ranks in words ("2–5"; the reason of one set apart is in `apart`), and a text for each column."""

    rank: str
    tied: bool
    """Whether it may be the best: its ranks begin at 1."""
    recipe: str
    colour: str
    seeds: int
    behind: str
    means: tuple[str, ...]
    apart: str = ""

    @property
    def dark(self) -> str:
        return DARK.get(self.colour, self.colour)


def ranked_rows(view: View, columns: Sequence[tuple[str, str | None]]) -> list[RankedRow]:
    """A row for each recipe, best first, those set apart last; none where there are fewer than three to rank.

    `columns` are the metrics, with their sampler, of which the mean over seeds (pooled over frameworks) is shown.
    """
    ranked = view.ranking(*view.primary)
    if len(view.recipes) < 3 or ranked is None:
        return []
    return [_row(view, recipe, columns) for recipe in view.order]


def _row(view: View, recipe: Hashable, columns: Sequence[tuple[str, str | None]]) -> RankedRow:
    ranked, ranks = view.ranking(*view.primary), view.ranks.get(recipe)
    assert ranked is not None
    lead = ranked.leads.get(recipe)
    apart = view.apart.get(recipe, "")
    return RankedRow(
        rank=EN_DASH if ranks is None else _written(ranks),
        tied=ranks is not None and ranks.start == 1,
        recipe=name_of(recipe),
        colour=view.colour(recipe),
        seeds=view.seeds_of[recipe],
        behind=EN_DASH if lead is None else plus_minus(lead),
        means=tuple(_mean(view, recipe, *column, spread=not apart) for column in columns),
        apart=apart,
    )


def _written(ranks: range) -> str:
    return str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]}{EN_DASH}{ranks[-1]}"


def _mean(view: View, recipe: Hashable, metric: str, sampler: str | None, spread: bool) -> str:
    """The mean over seeds with its interval; without `spread`, as of cells that failed to train, the median alone."""
    table = view.values(metric, sampler)
    if recipe not in table.columns.get_level_values("recipe"):
        return EN_DASH
    by_seed = pd.DataFrame(table.xs(recipe, axis=1, level="recipe")).mean(axis=1).dropna().to_numpy()
    if not len(by_seed):
        return EN_DASH
    return plus_minus(mean_interval(by_seed if spread else np.median(by_seed)[None]))
