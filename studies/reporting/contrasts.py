"""The comparisons a report makes: recipe against recipe and framework against framework, paired by seed.

A difference is formed within each seed, from cells that saw the same draws, and averaged over what it is pooled over;
the seeds then carry the interval. A seed that lacks one of the cells needed is left out of that comparison and named.

Where the number of seeds was set by the spread of the first ones (`--seeds-until`), rows carry how many those were in
`attrs[FIRST_STAGE]`, and every interval takes its spread from those alone: Stein's two-stage interval. It is exact for
any comparison, not only the one that set the number, as the mean of normal values is independent of all their spreads.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from studies.reporting.names import quantity
from studies.statistics import sequential_interval
from studies.statistics.intervals import Interval, mean_interval
from studies.store.reading import FIRST_STAGE, levels
from studies.store.recipes import Recipe


@dataclass(frozen=True, eq=False)
class Contrast:
    """The difference first - second in one metric, between two recipes or two frameworks.

    `factor` says which: "recipe" or "backend". `within` is the level of the other factor that both sides have; None
    where the difference is averaged over its levels.
    """

    factor: str
    first: Hashable
    second: Hashable
    within: Hashable | None
    differences: pd.Series
    """The difference of every seed; its index holds the seeds."""
    left_out: tuple[Hashable, ...]
    """The seeds without a difference, because one of the cells it needs is missing."""
    first_stage: int | None = None
    """How many seeds set the number of seeds; None where it was fixed beforehand."""

    def interval(self, confidence: float = 0.95) -> Interval:
        differences = self.differences
        if not differences.index.is_monotonic_increasing:
            differences = differences.sort_index()
        first = 0 if self.first_stage is None else int(np.sum(differences.index < self.first_stage))
        if 2 <= first < len(differences):
            return sequential_interval(differences.to_numpy(), first=first, confidence=confidence)
        return mean_interval(differences.to_numpy(), confidence)

    @property
    def interval_name(self) -> str:
        return "95 % interval" if self.first_stage is None else "95 % two-stage interval"


def values(rows: pd.DataFrame, metric: str, sampler: str | None = None) -> pd.DataFrame:
    """The metric of every cell: one row a seed, columns (recipe, backend); NaN where a cell has no finite value.

    `rows` are of one dataset. ValueError where a cell has several values of the metric.
    """
    chosen = rows[rows["metric"] == metric]
    if sampler is not None:
        chosen = chosen[chosen["sampler"] == sampler]
    repeated = chosen.duplicated(["seed", "recipe", "backend"])
    if repeated.any():
        cell = chosen[repeated].iloc[0]
        raise ValueError(
            f"{metric}: expected one value a cell, got several for {cell['recipe']}, {cell['backend']}, seed"
            f" {cell['seed']}"
        )
    return by_cell(chosen, rows)


def by_cell(chosen: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The table that `contrast` takes, from rows with one value a cell.

    `rows` are those that `chosen` was selected from: what they know of how the seeds were chosen goes with the table.
    """
    table = chosen.pivot(index="seed", columns=["recipe", "backend"], values="value").astype(np.float64)
    table = table.replace([np.inf, -np.inf], np.nan)
    table.attrs = dict(rows.attrs)
    return table


def contrast(
    table: pd.DataFrame, factor: str, first: Hashable, second: Hashable, within: Hashable | None = None
) -> Contrast | None:
    """first - second by seed from the table of `values`; None where no seed has both sides."""
    sides = [_of_level(table, factor, level) for level in (first, second)]
    shared = [level for level in sides[0] if level in sides[1] and within in (None, level)]
    if not shared:
        return None
    apart = np.stack([sides[0][level] - sides[1][level] for level in shared], axis=1)
    # Where a framework's cells all failed, the others are compared without it.
    apart = apart[:, ~np.isnan(apart).all(axis=0)]
    complete = np.asarray(~np.isnan(apart).any(axis=1), dtype=bool)
    if not apart.size or not complete.any():
        return None
    left_out = tuple(table.index[~complete])
    mean = pd.Series(apart[complete].mean(axis=1), index=table.index[complete])
    return Contrast(factor, first, second, within, mean, left_out, table.attrs.get(FIRST_STAGE))


def _of_level(table: pd.DataFrame, factor: str, level: Hashable) -> dict[Hashable, NDArray[np.float64]]:
    """The columns of a recipe by framework, or of a framework by recipe."""
    columns = table.columns
    assert isinstance(columns, pd.MultiIndex)
    place = columns.names.index(factor)
    known, others = columns.levels[place], columns.levels[1 - place]
    if level not in known:
        return {}
    values, codes = table.to_numpy(), columns.codes
    there = np.flatnonzero(codes[place] == known.get_loc(level))
    return {others[codes[1 - place][i]]: values[:, i] for i in there}


def reference_pairs(table: pd.DataFrame, factor: str) -> list[tuple[Hashable, Hashable, Hashable | None]]:
    """What to subtract for the table's differences: (level, reference, within), where the reference is the first level.

    Each level comes first pooled (within is None), then within each level of the other factor.
    """
    order = levels_in(table, factor)
    other = "backend" if factor == "recipe" else "recipe"
    held = [None, *(levels_in(table, other) if len(levels_in(table, other)) > 1 else [])]
    return [(level, order[0], within) for level in order[1:] for within in held]


def one_factor_apart(recipes: Sequence[Recipe]) -> list[tuple[Recipe, Recipe]]:
    """The pairs (first, second) of recipes that differ in one factor alone.

    The second has the level of this factor that the first of all recipes has. Pairs whose second is the first of all
    recipes are left out: `reference_pairs` has them.
    """
    pairs = []
    for first, second in itertools.product(recipes, recipes[1:]):
        differing = first.differing(second)
        if len(differing) == 1 and second.level(differing[0]) == recipes[0].level(differing[0]):
            pairs.append((first, second))
    return pairs


def levels_in(table: pd.DataFrame, factor: str) -> list[Any]:
    return list(dict.fromkeys(table.columns.get_level_values(factor)))


def sample_metrics(rows: pd.DataFrame) -> list[str]:
    """The sample metrics that have a floor or a known direction, in the order of the rows."""
    scored = rows[rows["sampler"].notna()]
    names = [name for name in levels(scored, "metric") if not str(name).endswith("_floor")]
    return [name for name in names if f"{name}_floor" in set(scored["metric"]) or quantity(name).direction]


def main_sampler(rows: pd.DataFrame) -> str | None:
    """The sampler whose samples the verdict speaks of: the first that was drawn and scored."""
    scored = rows[rows["metric"].isin(sample_metrics(rows)) & rows["sampler"].notna()]
    return None if scored.empty else str(scored["sampler"].iloc[0])


def floor(rows: pd.DataFrame, metric: str, sampler: str) -> float | None:
    """The mean of the metric's floor over cells: what held-out real data get at the same sizes."""
    floors = rows[(rows["metric"] == f"{metric}_floor") & (rows["sampler"] == sampler)]["value"]
    return None if floors.empty else float(floors.mean())


def by_t(rows: pd.DataFrame) -> pd.DataFrame:
    """The bound spent up to and including step t, in bits/dim, for every cell: columns recipe, backend, seed, t, value.

    From `bound_at_t`, the mean per step over runs of steps: within a run the total rises in a straight line. The steps
    are the ends of every run of any cell, so that cells with different runs can be subtracted. A cell that lacks some
    of its runs, where its model gave no finite value, is left out.
    """
    spent = rows[rows["metric"] == "bound_at_t"]
    ends = np.unique(spent["t_last"].to_numpy(dtype=np.int64))
    parts = []
    for (recipe, backend, seed), cell in spent.groupby(["recipe", "backend", "seed"], sort=False):
        cell = cell.sort_values("t")
        last = cell["t_last"].to_numpy(dtype=np.float64)
        size = last - cell["t"].to_numpy(dtype=np.float64) + 1
        if size.sum() != last[-1]:
            continue
        total = np.cumsum(size * cell["value"].to_numpy())
        cumulative = np.interp(ends, np.append(0.0, last), np.append(0.0, total))
        parts.append(pd.DataFrame({"recipe": recipe, "backend": backend, "seed": seed, "t": ends, "value": cumulative}))
    columns = ["recipe", "backend", "seed", "t", "value"]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    table.attrs = dict(rows.attrs)
    return table
