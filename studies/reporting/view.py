"""One dataset of a run as a report sees it: every table, contrast and ranking computed once and asked many times.

Verdict, tables and figures take a View and nothing else. It also holds the look of every recipe and framework.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from studies.metrics.vocabulary import Quantity
from studies.reporting.contrasts import (
    Contrast,
    by_t,
    contrast,
    floor,
    levels_in,
    main_sampler,
    one_factor_apart,
    reference_pairs,
    sample_metrics,
    values,
)
from studies.reporting.names import name_of, quantity
from studies.reporting.plotting import MARKERS, PALETTE, Key
from studies.reporting.ranking import Ranking, ranking
from studies.store.reading import FACTOR_COLUMNS, CellRecord, Run, levels
from studies.store.recipes import Recipe

Answer = TypeVar("Answer")


@dataclass(frozen=True, eq=False)
class View:
    """One dataset of a run: its rows, what was computed of them, and the look of every recipe and framework."""

    run: Run
    dataset: Hashable
    rows: pd.DataFrame
    _answers: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)

    def once(self, question: tuple[Any, ...], answer: Callable[[], Answer]) -> Answer:
        """What `answer` computes, which it does only when the question is asked for the first time."""
        if question not in self._answers:
            self._answers[question] = answer()
        result: Answer = self._answers[question]
        return result

    @cached_property
    def recipes(self) -> list[Recipe]:
        return levels(self.rows, "recipe")

    @cached_property
    def backends(self) -> list[Hashable]:
        return levels(self.rows, "backend")

    @cached_property
    def seeds(self) -> int:
        return int(self.rows["seed"].nunique())

    @cached_property
    def metrics(self) -> frozenset[str]:
        """The names of every metric that has rows."""
        return frozenset(self.rows["metric"])

    @cached_property
    def sample_metrics(self) -> list[str]:
        return sample_metrics(self.rows)

    @cached_property
    def main_sampler(self) -> str | None:
        return main_sampler(self.rows)

    @cached_property
    def by_t(self) -> pd.DataFrame:
        """`contrasts.by_t` of the rows."""
        return by_t(self.rows)

    def of_metric(self, metric: str) -> pd.DataFrame:
        return self.once(("rows", metric), lambda: self.rows[self.rows["metric"] == metric])

    def quantity(self, metric: str) -> Quantity:
        """How the metric is spoken of, with the unit that its rows have."""
        rows = self.of_metric(metric)
        return quantity(metric, str(rows["unit"].iloc[0]) if len(rows) else "")

    def values(self, metric: str, sampler: str | None = None) -> pd.DataFrame:
        """The metric of every cell: a row a seed, columns (recipe, backend)."""
        return self.once(("values", metric, sampler), lambda: values(self.of_metric(metric), metric, sampler))

    def floor(self, metric: str, sampler: str | None) -> float | None:
        """What held-out real data get in a sample metric; None where that was not measured."""
        if sampler is None:
            return None
        return self.once(("floor", metric, sampler), lambda: floor(self.of_metric(f"{metric}_floor"), metric, sampler))

    def contrast(
        self,
        metric: str,
        factor: str,
        first: Hashable,
        second: Hashable,
        within: Hashable | None = None,
        sampler: str | None = None,
    ) -> Contrast | None:
        """first - second by seed in the metric; None where no seed has both sides."""
        return self.once(
            ("contrast", metric, factor, first, second, within, sampler),
            lambda: contrast(self.values(metric, sampler), factor, first, second, within),
        )

    def against_reference(self, metric: str, factor: str, sampler: str | None = None) -> list[Contrast]:
        """Every level less the first, of those with values: pooled, and within each level of the other factor."""
        if metric not in self.metrics:
            return []
        table = self.values(metric, sampler).dropna(axis=1, how="all")
        compared = [
            self.contrast(metric, factor, level, reference, within, sampler)
            for level, reference, within in reference_pairs(table, factor)
        ]
        return [comparison for comparison in compared if comparison is not None]

    def one_factor_apart(self, metric: str, sampler: str | None = None) -> list[Contrast]:
        """Recipes that differ in one factor alone, as `contrasts.one_factor_apart` pairs them."""
        table = self.values(metric, sampler).dropna(axis=1, how="all")
        pairs = one_factor_apart(levels_in(table, "recipe"))
        compared = [self.contrast(metric, "recipe", *pair, sampler=sampler) for pair in pairs]
        return [comparison for comparison in compared if comparison is not None]

    def framework_contrast(self, metric: str, sampler: str | None = None) -> Contrast | None:
        """The second framework less the first, over all recipes."""
        return next(iter(self.against_reference(metric, "backend", sampler)), None)

    def ranking(self, metric: str, sampler: str | None = None) -> Ranking | None:
        """The recipes ranked by a metric; None where fewer than two have it or no direction is known."""
        return self.once(("ranking", metric, sampler), lambda: self._ranking(metric, sampler))

    def _ranking(self, metric: str, sampler: str | None) -> Ranking | None:
        if metric not in self.metrics:
            return None
        return ranking(
            self.quantity(metric),
            lambda: self.values(metric, sampler),
            lambda first, second: self.contrast(metric, "recipe", first, second, sampler=sampler),
        )

    def colour(self, recipe: Hashable) -> str:
        return PALETTE[self._place[recipe] % len(PALETTE)]

    @cached_property
    def cells(self) -> tuple[CellRecord, ...]:
        """The cells of the dataset, finished or not."""
        return tuple(cell for cell in self.run.cells if str(cell.factors.get("dataset")) == str(self.dataset))

    @cached_property
    def _place(self) -> dict[Hashable, int]:
        """Which of the recipes each is."""
        return {recipe: place for place, recipe in enumerate(self.recipes)}

    def dash(self, backend: Hashable) -> int:
        return self.backends.index(backend)

    def marker(self, backend: Hashable) -> str:
        return MARKERS[self.dash(backend) % len(MARKERS)]

    def name(self, recipe: Hashable, backend: Hashable) -> str:
        """The recipe, and the framework where there are several."""
        return f"{name_of(recipe)}, {name_of(backend)}" if len(self.backends) > 1 else name_of(recipe)

    def groups(self) -> list[tuple[Hashable, Hashable]]:
        """Every recipe and framework that has rows."""
        return self.once(("groups",), self._groups)

    def _groups(self) -> list[tuple[Hashable, Hashable]]:
        there = set(self.rows[["recipe", "backend"]].itertuples(index=False, name=None))
        return [(recipe, backend) for recipe in self.recipes for backend in self.backends if (recipe, backend) in there]

    def keys(self, dashes: bool = True) -> list[Key]:
        colours = [Key(name_of(recipe), self.colour(recipe)) for recipe in self.recipes]
        lines = [Key(name_of(backend), dash=self.dash(backend)) for backend in self.backends]
        return colours + (lines if dashes and len(lines) > 1 else [])

    @cached_property
    def shown_seed(self) -> int:
        """The first seed with the most cells: what pictures are of, so that all of them start from the same noise."""
        seeds, cells = np.unique(self.rows.drop_duplicates(["recipe", "backend", "seed"])["seed"], return_counts=True)
        return int(seeds[cells.argmax()])

    def cell(self, recipe: Hashable, backend: Hashable, seed: int | None = None) -> CellRecord | None:
        """The cell of a recipe and framework at a seed, the one that pictures show unless named; None without rows."""
        return self._cells.get((recipe, backend, self.shown_seed if seed is None else int(seed)))

    @cached_property
    def _cells(self) -> dict[tuple[Hashable, Hashable, int], CellRecord]:
        """The cells that have rows, by recipe, framework and seed."""
        records = {tuple(str(cell.factors[name]) for name in FACTOR_COLUMNS): cell for cell in reversed(self.run.cells)}
        rows = self.rows.drop_duplicates(["recipe", "backend", "seed"])
        factors = rows[list(FACTOR_COLUMNS)].astype(str).itertuples(index=False, name=None)
        keys = rows[["recipe", "backend", "seed"]].itertuples(index=False, name=None)
        return {
            (recipe, backend, int(seed)): records[of_cell]
            for (recipe, backend, seed), of_cell in zip(keys, factors, strict=True)
            if of_cell in records
        }


def views_of(run: Run) -> tuple[View, ...]:
    """A view of every dataset of the run, in the order of its rows.

    A value that is not finite, of a model that has diverged, is left out here, as one that was never measured: no mean,
    ranking or axis can hold it. `verdict.trouble` names it.
    """
    rows = finite_rows(run.rows)
    return tuple(View(run, dataset, rows[rows["dataset"] == dataset]) for dataset in levels(rows, "dataset"))


def finite_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a number for a value."""
    return rows[np.isfinite(rows["value"].astype(np.float64))]


def cells_with_samples(
    view: View, groups: Sequence[tuple[Hashable, Hashable]] | None = None
) -> list[tuple[tuple[str, str], dict[str, NDArray[np.float64]]]]:
    """((name, colour), arrays) of each recipe and framework, at the shown seed."""
    with_samples = []
    for recipe, backend in view.groups() if groups is None else groups:
        cell = view.cell(recipe, backend)
        arrays = cell.samples() if cell is not None else {}
        if arrays:
            with_samples.append(((view.name(recipe, backend), view.colour(recipe)), arrays))
    return with_samples


def one_seed(view: View) -> str:
    return " With one seed there are no intervals." if view.seeds == 1 else ""
