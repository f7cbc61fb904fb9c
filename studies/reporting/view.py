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
from studies.reporting.numbers import plus_minus
from studies.reporting.plotting import DASHES, FAINT, MARKERS, PALETTE, Key, line_look
from studies.reporting.ranking import Ranking, far_behind, rank_ranges, ranking
from studies.statistics.intervals import mean_interval
from studies.statistics.multiplicity import joint_confidence
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
    def seeds_of(self) -> dict[Hashable, int]:
        """How many seeds each recipe has rows of."""
        return {recipe: int(n) for recipe, n in self.rows.groupby("recipe", sort=False)["seed"].nunique().items()}

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

    def of_group(self, recipe: Hashable, backend: Hashable) -> pd.DataFrame:
        """The rows of a recipe in a framework."""
        groups = self.once(("by group",), lambda: dict(tuple(self.rows.groupby(["recipe", "backend"], sort=False))))
        return groups[recipe, backend]

    def of_metric(self, metric: str) -> pd.DataFrame:
        return self.once(("rows", metric), lambda: self.rows[self.rows["metric"] == metric])

    def quantity(self, metric: str) -> Quantity:
        """How the metric is spoken of, with the unit that its rows have."""
        rows = self.of_metric(metric)
        return quantity(metric, str(rows["unit"].iloc[0]) if len(rows) else "")

    def values(self, metric: str, sampler: str | None = None) -> pd.DataFrame:
        """The metric of every cell: a row a seed, columns (recipe, backend)."""
        return self.once(("values", metric, sampler), lambda: values(self.of_metric(metric), metric, sampler))

    def compared(self, metric: str, sampler: str | None = None) -> pd.DataFrame:
        """`values` without the recipes set apart: those that are ranked and subtracted."""
        table = self.values(metric, sampler)
        if not self.apart:
            return table
        within = table.loc[:, ~table.columns.get_level_values("recipe").isin(list(self.apart))]
        within.attrs = dict(table.attrs)
        return within

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
            lambda: contrast(self.compared(metric, sampler), factor, first, second, within),
        )

    def against_reference(self, metric: str, factor: str, sampler: str | None = None) -> list[Contrast]:
        """Every level less the first, of those with values: pooled, and within each level of the other factor."""
        if metric not in self.metrics:
            return []
        table = self.compared(metric, sampler).dropna(axis=1, how="all")
        compared = [
            self.contrast(metric, factor, level, reference, within, sampler)
            for level, reference, within in reference_pairs(table, factor)
        ]
        return [comparison for comparison in compared if comparison is not None]

    def one_factor_apart(self, metric: str, sampler: str | None = None) -> list[Contrast]:
        """Recipes that differ in one factor alone, as `contrasts.one_factor_apart` pairs them."""
        table = self.compared(metric, sampler).dropna(axis=1, how="all")
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
            lambda: self.compared(metric, sampler),
            lambda first, second: self.contrast(metric, "recipe", first, second, sampler=sampler),
        )

    @cached_property
    def primary(self) -> tuple[str, str | None]:
        """Metric and sampler by which recipes are ranked first: the bound, or else the first metric of samples."""
        if "bound" in self.metrics or not self.sample_metrics:
            return "bound", None
        return self.sample_metrics[0], self.main_sampler

    @cached_property
    def apart(self) -> dict[Hashable, str]:
        """The recipes that are not ranked with the others, and why: a cell diverged, or the mean is far behind.

        Empty for fewer than three recipes, and where fewer than two would be left.
        """
        if len(self.recipes) < 3:
            return {}
        keys = ["recipe", "backend", "seed"]
        cells = self.rows.drop_duplicates(keys)["recipe"].value_counts()
        diverged = self.of_metric("diverged").drop_duplicates(keys)["recipe"].value_counts()
        reasons = {recipe: f"{diverged[recipe]} of {cells[recipe]} cells diverged" for recipe in diverged.index}
        sign = -1 if self.quantity(self.primary[0]).direction == "higher" else 1
        means = {recipe: sign * mean for recipe, mean in self._means.items() if recipe not in reasons}
        title = self.quantity(self.primary[0]).title
        for recipe in far_behind(means):
            written = plus_minus(mean_interval([self._means[recipe]]))
            reasons[recipe] = f"its {title} of {written} is far behind"
        return reasons if len(self.recipes) - len(reasons) >= 2 else {}

    @cached_property
    def _means(self) -> dict[Hashable, float]:
        """The mean of the primary metric over cells, by recipe; those without any value are left out."""
        if self.primary[0] not in self.metrics:
            return {}
        means = self.values(*self.primary).T.groupby(level="recipe", sort=False).mean().mean(axis=1)
        return {recipe: float(mean) for recipe, mean in means.items() if np.isfinite(mean)}

    @cached_property
    def order(self) -> list[Recipe]:
        """The recipes, best first by the primary metric; then those without a value, and those apart."""
        sign = -1 if self.quantity(self.primary[0]).direction == "higher" else 1
        return sorted(
            self.recipes, key=lambda recipe: (recipe in self.apart, sign * self._means.get(recipe, np.inf * sign))
        )

    @cached_property
    def ranks(self) -> dict[Hashable, range]:
        """The ranks each recipe may have by the primary metric, jointly at 95 %; empty where there is no ranking."""
        ranked = self.ranking(*self.primary)
        if ranked is None:
            return {}
        higher = ranked.quantity.direction == "higher"
        confidence = joint_confidence(ranked.pairs)

        def better(first: Hashable, second: Hashable) -> bool:
            sides = (first, second) if higher else (second, first)
            difference = self.contrast(self.primary[0], "recipe", *sides, sampler=self.primary[1])
            return difference is not None and difference.interval(confidence).low > 0

        return rank_ranges([recipe for recipe in self.order if recipe in ranked.means], better)

    @cached_property
    def cost_metric(self) -> str | None:
        """The seconds of training that compare cells best: the processor's, where all have them and none used a GPU.

        Otherwise those by the clock, which other load on the machine makes longer; None without either.
        """
        spent = self.of_metric("train_seconds")
        devices = [str(cell.description.get("device", "cpu")) for cell in self.run.cells if cell.finished]
        on_processor = all(device.lower().startswith("cpu") for device in devices)
        if on_processor and len(self.of_metric("train_processor_seconds")) == len(spent) > 0:
            return "train_processor_seconds"
        return "train_seconds" if len(spent) else None

    @property
    def many(self) -> bool:
        """Whether there are more recipes than hues, so that figures show the best alone."""
        return len(self.recipes) > len(PALETTE)

    @cached_property
    def leading(self) -> View:
        """The view itself; of many recipes, one of as many of the best as there are hues, best first."""
        if not self.many:
            return self
        parts = [self.rows[self.rows["recipe"] == recipe] for recipe in self.order[: len(PALETTE)]]
        rows = pd.concat(parts, ignore_index=True)
        rows.attrs = dict(self.rows.attrs)
        return View(self.run, self.dataset, rows)

    def colour(self, recipe: Hashable) -> str:
        """The recipe's hue; of many recipes those that no figure shows have none."""
        place = self._place[recipe]
        return PALETTE[place] if place < len(PALETTE) else FAINT

    @cached_property
    def cells(self) -> tuple[CellRecord, ...]:
        """The cells of the dataset, finished or not."""
        return tuple(cell for cell in self.run.cells if str(cell.factors.get("dataset")) == str(self.dataset))

    @cached_property
    def _place(self) -> dict[Hashable, int]:
        """Which of the recipes each is: of many, by their order, so that the best have the hues."""
        return {recipe: place for place, recipe in enumerate(self.order if self.many else self.recipes)}

    def dash(self, recipe: Hashable) -> Any:
        """The recipe's line style, as matplotlib takes it."""
        return DASHES[self._place[recipe] % len(DASHES)]

    def marker(self, backend: Hashable) -> str:
        return MARKERS[self.backends.index(backend) % len(MARKERS)]

    def line(self, recipe: Hashable, backend: Hashable, points: int) -> dict[str, Any]:
        """How the line of a recipe and framework is drawn, through so many points; marks only where they tell."""
        look = line_look(self._place[recipe], self.backends.index(backend), points)
        return look if len(self.backends) > 1 else {**look, "marker": None}

    def name(self, recipe: Hashable, backend: Hashable) -> str:
        """The recipe, and the framework where there are several."""
        return f"{name_of(recipe)}, {name_of(backend)}" if len(self.backends) > 1 else name_of(recipe)

    def groups(self) -> list[tuple[Hashable, Hashable]]:
        """Every recipe and framework that has rows."""
        return self.once(("groups",), self._groups)

    def _groups(self) -> list[tuple[Hashable, Hashable]]:
        there = set(self.rows[["recipe", "backend"]].itertuples(index=False, name=None))
        return [(recipe, backend) for recipe in self.recipes for backend in self.backends if (recipe, backend) in there]

    def keys(self, lines: bool = True) -> list[Key]:
        """The legend: the recipes, by line or by swatch, and the marks of the frameworks where there are several."""
        recipes = [
            Key(name_of(recipe), self.colour(recipe), self.dash(recipe) if lines else None) for recipe in self.recipes
        ]
        return recipes + self.framework_keys(hollow=lines)

    def framework_keys(self, hollow: bool = False) -> list[Key]:
        """The marks of the frameworks; none where there is one. `hollow`: as on lines, where all but one are."""
        marks = [
            Key(name_of(backend), marker=self.marker(backend), hollow=hollow and place > 0)
            for place, backend in enumerate(self.backends)
        ]
        return marks if len(marks) > 1 else []

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
