"""Which value is compared with which: differences between cells that share a seed.

A tidy frame has one row a value, with the columns `seed`, `metric`, `value` and any factors (`backend`,
`objective`, ...). Two levels of a factor are paired where every other factor agrees, the differences are
averaged within a unit (by default the seed), and the units are independent. A value without its partner is an
error, since leaving it out in silence would compare different sets of seeds.

Measurement error. A bound estimated from random t and noise is d_i + e_i, with d_i the seed's true difference and e_i
the estimator's error. When the errors are drawn afresh for each seed they are part of the spread of the differences, so
`mean_interval` of them already holds them; widening it by the estimator's standard errors would count them twice. What
all seeds share (the test examples) does not spread them: the interval is then conditional on those.
"""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from studies.statistics.intervals import finite_values

NAMED_IN_ERRORS = 4  # how many cells an error spells out


def paired_differences(
    frame: pd.DataFrame,
    factor: str,
    first: Hashable,
    second: Hashable,
    *,
    unit: Sequence[str] = ("seed",),
    metric: str | None = None,
) -> pd.Series:
    """first - second of `factor` for each unit, from a tidy frame; indexed by `unit`, sorted.

    Every column but `value` that varies is a factor. Values are paired where all other factors agree, then
    averaged over the factors outside `unit`: with unit ("seed",) a study of two backends gives one difference
    a seed, the mean over backends, and the seed stays the unit of replication. With ("seed", "backend") each
    backend counts as a replicate of its own, which understates the error unless backends are independent
    draws. `metric` keeps that metric's rows. Drop columns that are measurements (seconds) rather than
    factors.

    ValueError for several metrics, unknown levels, repeated cells, or unpaired leftovers, which it names.
    """
    rows = rows_of(frame, metric)
    _require_columns(rows, [factor, *unit])
    for level in (first, second):
        if level not in levels(rows, factor):
            raise ValueError(f"{factor}: expected one of {levels(rows, factor)}, got {level!r}")
    rows = rows[rows[factor].isin([first, second])]
    others = _varying(rows, besides={factor, "value", *unit})
    sides = _indexed(rows, [*unit, *others, factor]).unstack(factor)
    _refuse_gaps(sides, f"pairs of {factor}")
    differences = sides[first] - sides[second]
    if others:
        by_setting = differences.unstack(others)
        _refuse_gaps(by_setting, f"averages over {', '.join(others)}")
        differences = by_setting.mean(axis=1)
    return differences.rename(f"{first} - {second}").sort_index()


def cell_table(frame: pd.DataFrame, metric: str, factors: Sequence[str] = ("objective", "backend")) -> pd.DataFrame:
    """One metric as seeds x cells: rows are seeds, columns every combination of levels of `factors`, sorted.

    ValueError when a combination lacks a seed (it names them; `complete_seeds` leaves such seeds out) or
    holds several values because yet another column varies (it names the column).
    """
    rows = rows_of(frame, metric)
    _require_columns(rows, ["seed", *factors])
    every_cell = pd.MultiIndex.from_product([levels(rows, name) for name in factors], names=list(factors))
    by_cell = _indexed(rows, ["seed", *factors]).unstack(list(factors))
    table = pd.DataFrame(by_cell).reindex(columns=every_cell)
    _refuse_gaps(table, "complete seeds")
    return table.sort_index()


def complete_seeds(
    frame: pd.DataFrame, metric: str, factors: Sequence[str] = ("objective", "backend")
) -> tuple[pd.DataFrame, list[Any]]:
    """The rows of the seeds that have every combination of `factors`, and the list of seeds left out.

    For one metric of a study with a failed cell: the report names the seeds left out, since nothing is
    dropped in silence. A value that is not finite counts as absent. ValueError when no seed is complete.
    """
    rows = rows_of(frame, metric)
    _require_columns(rows, ["seed", *factors])
    combinations = math.prod(len(levels(rows, name)) for name in factors)
    finite = rows[np.isfinite(rows["value"])]
    held = finite.drop_duplicates(["seed", *factors]).groupby("seed").size()
    complete = set(held.index[held == combinations])
    if not complete:
        raise ValueError(
            f"{metric}: expected a seed with all {combinations} cells of {' x '.join(factors)},"
            f" the fullest has {held.max() if len(held) else 0}; select the levels that have run"
        )
    return rows[rows["seed"].isin(complete)], [seed for seed in levels(rows, "seed") if seed not in complete]


def rows_of(frame: pd.DataFrame, metric: str | None) -> pd.DataFrame:
    """The rows of `metric`, or all of them for None, when the frame must hold a single metric."""
    _require_columns(frame, ["value"] if metric is None else ["metric", "value"])
    known = levels(frame, "metric") if "metric" in frame else []
    if metric is None:
        if len(known) > 1:
            raise ValueError(f"metric: expected one to compare, got {len(known)}; choose one of {known}")
        return frame
    if metric not in known:
        raise ValueError(f"metric: expected one of {known}, got {metric!r}")
    return frame[frame["metric"] == metric]


def levels(frame: pd.DataFrame, factor: str) -> list[Any]:
    """The levels of a factor that occur, sorted (a categorical in its own order)."""
    column = frame[factor]
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.remove_unused_categories().cat.categories.tolist()
    return sorted(column.dropna().unique().tolist())


def _require_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in frame]
    if missing:
        raise ValueError(
            f"tidy values: expected the columns {', '.join(missing)} too, got {', '.join(map(str, frame))}"
        )


def _varying(rows: pd.DataFrame, besides: set[str]) -> list[str]:
    """The columns with more than one value, blanks counted as one."""
    return [str(name) for name in rows if name not in besides and rows[name].nunique(dropna=False) > 1]


def _indexed(rows: pd.DataFrame, keys: list[str]) -> pd.Series:
    """The values by `keys`; ValueError for a blank or repeated key, or a value that is not finite."""
    if rows[keys].isna().any(axis=None):
        blank = [name for name in keys if rows[name].isna().any()]
        raise ValueError(f"tidy values: expected a level in every row, got blanks in {', '.join(blank)}")
    repeated = rows.duplicated(keys)
    if repeated.any():
        same = (rows[keys] == rows.loc[repeated, keys].iloc[0]).all(axis=1)
        varying = _varying(rows[same], besides={*keys, "value"})
        cell = ", ".join(f"{name}={level}" for name, level in rows.loc[repeated, keys].iloc[0].items())
        advice = f"choose one level of {', '.join(varying)}" if varying else "keep one row a cell"
        raise ValueError(f"tidy values: expected one value for {cell}, got {int(same.sum())}; {advice}")
    finite_values(rows["value"], "value")
    return rows.set_index(keys)["value"].astype(np.float64)


def _refuse_gaps(table: pd.DataFrame, wanted: str) -> None:
    """ValueError naming the cells of `table` that hold no value."""
    holes = np.argwhere(table.isna().to_numpy())
    if not len(holes):
        return
    cells = [f"{_label(table.index, row)}, {_label(table.columns, column)}" for row, column in holes[:NAMED_IN_ERRORS]]
    more = f" and {len(holes) - NAMED_IN_ERRORS} more" if len(holes) > NAMED_IN_ERRORS else ""
    raise ValueError(
        f"tidy values: expected {wanted}, but nothing for {'; '.join(cells)}{more};"
        " run those cells or leave their seeds out (complete_seeds)"
    )


def _label(index: pd.Index, position: int) -> str:
    entry = index[position] if index.nlevels > 1 else [index[position]]
    return ", ".join(f"{name}={level}" for name, level in zip(index.names, entry, strict=True))
