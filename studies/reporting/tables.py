"""The tables of a report: cells, paired differences, shares of the variance, and what the sample metrics mean."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from studies.metrics.registry import METRICS
from studies.reporting.blanks import blank_metrics, blanks_of
from studies.reporting.bound_table import bound_tables
from studies.reporting.contrasts import Contrast
from studies.reporting.names import difference_name, name_of, quantity, sampler_name
from studies.reporting.numbers import count, listed, plain, plus_minus, seconds
from studies.reporting.plotting import DARK, FAINT, GRID, PALETTE, PARTS
from studies.reporting.ranked_table import ranked_rows
from studies.reporting.view import View
from studies.statistics import (
    complete_seeds,
    joint_confidence,
    mean_interval,
    probability_of_improvement,
    variance_split,
)
from studies.statistics.outliers import outlying
from studies.store.cells import FACTORS
from studies.store.reading import FIRST_STAGE, RUN, recipe_factors
from studies.store.recipes import SEPARATOR

MOST_SAMPLE_COLUMNS = 3
MOST_RANKED_COLUMNS = 4
SHARES = (PALETTE[0], PALETTE[2], FAINT, PALETTE[3], PARTS[3], PARTS[1], GRID)  # in the order of the terms
HEADINGS = {RUN: "Run", **{factor.name: factor.heading for factor in FACTORS}}
APART = "stands apart"


def _columns(view: View) -> list[tuple[str, str | None]]:
    """Metric and sampler of every column of the tables."""
    sampler = view.main_sampler
    scored = [name for name in view.sample_metrics if not quantity(name).is_p_value] if sampler else []
    wanted: list[tuple[str, str | None]] = [
        (metric, None) for metric in ("bound", "epsilon_mse") if metric in view.metrics
    ]
    return wanted + [(metric, sampler) for metric in scored[:MOST_SAMPLE_COLUMNS]]


def _column(view: View, metric: str, sampler: str | None) -> dict[str, Any]:
    """The title of a metric's column, and the notes below it: unit, which way is better, and a floor if it has one."""
    about, least = view.quantity(metric), view.floor(metric, sampler)
    unit = about.unit if sampler is None and about.unit not in ("", "1") else ""
    better = {"lower": "↓ better", "higher": "↑ better"}.get(about.direction or "", "")
    parts = [unit, better, f"floor {plain(least, 3)}" if least is not None else ""]
    title = (about.title[0].upper() + about.title[1:]).replace(" = ", "\u00a0=\u00a0")
    return {"title": title, "notes": [part for part in parts if part]}


def dataset_tables(view: View) -> dict[str, Any]:
    """The tables of one dataset: cells, paired differences, and what moves the bound."""
    columns = _columns(view)
    factors = recipe_factors(view.run.rows)
    sampler = view.main_sampler
    drawn = f" Samples: {sampler_name(sampler)}." if sampler else ""
    differences = _differences(view, columns)
    ranked_columns = [column for column in columns if column[0] != "epsilon_mse" or len(columns) <= MOST_RANKED_COLUMNS]
    ranked_columns = ranked_columns[:MOST_RANKED_COLUMNS]
    return {
        "folded": view.many,
        "ranked": ranked_rows(view, ranked_columns),
        "ranked_columns": [_column(view, *column) for column in ranked_columns],
        "ranked_caption": _ranked_caption(view),
        "title": name_of(view.dataset) if view.run.rows["dataset"].nunique() > 1 else "",
        "caption": "Means over seeds ± the half width of their 95 % interval (Student’s t). Seeds share their draws, so"
        " cells are better compared by the paired differences below than by these intervals." + drawn,
        "recipe_heading": SEPARATOR.join(HEADINGS[name] for name in factors),
        "columns": [_column(view, *column) for column in columns] + _cost_column(view),
        "cells": [_cell_row(view, key, columns) for key in view.groups()],
        "difference_columns": [_column(view, *column) for column in columns],
        "differences": differences,
        "differences_caption": "First minus second by seed, then the mean ± the half width of its"
        f" {'two-stage ' if FIRST_STAGE in view.rows.attrs else ''}95 % interval. Bold: the interval excludes zero;"
        " with *: so does one widened to hold jointly over the pooled differences of this table (Bonferroni)."
        " P(better): the probability that the first is better on a new seed, a 95 % interval that assumes no"
        " distribution (Clopper–Pearson)."
        + (" One seed gives no intervals." if view.seeds == 1 else "")
        + _about_seeds_apart(differences),
        "bound_tables": bound_tables(view),
        **_split(view),
    }


def _ranked_caption(view: View) -> str:
    title = view.quantity(view.primary[0]).title
    frameworks = ", pooled over frameworks" if len(view.backends) > 1 else ""
    caption = (
        f"Best {title} first: means over seeds ± the half width of their 95 % interval{frameworks}. Behind: how far"
        " from the best, by differences within seeds, with intervals widened to hold jointly (Bonferroni over all"
        " pairs). Rank: the ranks that these intervals leave possible; recipes beside the bar cannot be told from the"
        " best."
    )
    return caption + (" Those set apart are not ranked: one number for them is a median." if view.apart else "")


def _about_seeds_apart(differences: list[dict[str, Any]]) -> str:
    """A sentence for where a note says that a seed stands apart; nothing where none does."""
    notes = [note for row in differences for cell in row["shown"] for note in cell["notes"]]
    if not any(note.endswith(APART) for note in notes):
        return ""
    return (
        " A seed stands apart where its difference is farther from the others’ than normal ones are in 95 % of all sets"
        " of so many seeds (Grubbs): a recipe may fail now and then, and the interval is then too short."
    )


def _cost_column(view: View) -> list[dict[str, Any]]:
    measured_by = {"train_seconds": "by the clock", "train_processor_seconds": "on the processor"}
    metric = view.cost_metric
    return [] if metric is None else [{"title": "Training", "notes": ["median", measured_by[metric]]}]


def _cell_row(view: View, key: tuple[Hashable, Hashable], columns: Sequence[tuple[str, str | None]]) -> dict[str, Any]:
    recipe, backend = key
    of_cell = view.of_group(recipe, backend)
    texts = []
    for column in columns:
        table = view.values(*column)
        by_seed = table[key].dropna() if key in table else pd.Series(dtype=float)
        fewer = f" ({count(len(by_seed), 'seed')})" if len(by_seed) < of_cell["seed"].nunique() else ""
        alone = recipe in view.apart  # of cells that failed to train a median says enough
        of_cells = np.median(by_seed)[None] if alone and len(by_seed) else by_seed.to_numpy()
        texts.append(plus_minus(mean_interval(of_cells)) + fewer if len(by_seed) else "–")
    spent = of_cell[of_cell["metric"] == view.cost_metric]["value"]
    if _cost_column(view):
        texts.append(seconds(float(spent.median())) if len(spent) else "–")
    return {
        "recipe": name_of(recipe),
        "backend": name_of(backend),
        "seeds": int(of_cell["seed"].nunique()),
        "shown": texts,
        "colour": view.colour(recipe),
        "dark": DARK.get(view.colour(recipe), view.colour(recipe)),
    }


def _differences(view: View, columns: Sequence[tuple[str, str | None]]) -> list[dict[str, Any]]:
    """Rows of the difference table: every contrast that any column has.

    In one order: against the first recipe, of frameworks, and of recipes that differ in one factor. Of many recipes
    pooled ones alone.
    """
    contrasts: dict[tuple, dict[tuple, Contrast]] = {}
    for metric, sampler in columns:
        for contrast in (
            *view.against_reference(metric, "recipe", sampler),
            *view.against_reference(metric, "backend", sampler),
            *view.one_factor_apart(metric, sampler),
        ):
            if view.many and contrast.within is not None:
                continue
            key = (contrast.factor, contrast.first, contrast.second, contrast.within)
            contrasts.setdefault(key, {})[metric, sampler] = contrast
    rows = []
    pooled = sum(len(by_column) for (*_, within), by_column in contrasts.items() if within is None)
    for (_, first, second, within), by_column in contrasts.items():
        texts = [
            _difference(by_column[column], column[0], pooled)
            if column in by_column
            else {"text": "–", "mark": "", "resolved": False, "notes": []}
            for column in columns
        ]
        rows.append(
            {
                "name": difference_name(first, second),
                "within": "pooled" if within is None else name_of(within),
                "pooled": within is None,
                "shown": texts,
            }
        )
    return rows


def _difference(contrast: Contrast, metric: str, comparisons: int) -> dict[str, Any]:
    """One cell of the difference table: the difference, and whether its interval excludes zero.

    It is marked where that also holds jointly with the other pooled `comparisons` of the table.
    """
    interval, direction, notes = contrast.interval(), quantity(metric).direction, []
    jointly = contrast.within is None and contrast.interval(joint_confidence(comparisons)).excludes_zero
    if contrast.left_out:
        notes.append(f"without seed {', '.join(map(str, contrast.left_out))}")
    apart = outlying(contrast.differences)
    if apart is not None:
        notes.append(f"seed {contrast.differences.index[apart]} {APART}")
    if contrast.within is None and contrast.factor == "recipe" and direction and interval.n > 1:
        nothing = np.zeros(interval.n)
        better = probability_of_improvement(contrast.differences, nothing, lower_is_better=direction == "lower")
        notes.append(f"P(better) {better.low:.2f} to {better.high:.2f}")
    return {
        "text": plus_minus(interval, signed=True),
        "mark": "\u00a0*" if jointly else "",
        "resolved": interval.excludes_zero,
        "notes": notes,
    }


def _split(view: View) -> dict[str, Any]:
    """Shares of the bound's variance over the study, where every recipe ran in every framework with several seeds."""
    nothing: dict[str, Any] = {"split": [], "split_caption": ""}
    if "bound" not in view.metrics:
        return nothing
    table = view.values("bound")
    balanced = table.shape[1] == len(view.recipes) * len(view.backends) and len(table.dropna()) > 1
    if not balanced:
        return nothing
    complete, left_out = complete_seeds(view.rows, "bound", ("recipe", "backend"))
    cells = complete[["recipe", "backend", "seed", "metric", "value"]]
    split = variance_split(cells, "bound", ("recipe", "backend"))
    factors = recipe_factors(view.run.rows)
    noun = factors[0] if len(factors) == 1 else "recipe"
    shares = []
    for i, row in enumerate(split.to_dict("records")):
        name = str(row["term"]).replace("recipe", noun).replace("backend", "framework").replace(" x ", " × ")
        share, colour = float(row["share"]), SHARES[i % len(SHARES)]
        words = {"name": name, "percent": round(100 * share, 2), "text": _percent(share)}
        shares.append({**words, "colour": colour, "dark": DARK.get(colour, colour)})
    caption = (
        "Shares of the test bound’s variance over the cells of this study, from expected mean squares with the seed"
        " as a random factor. What is shared by all cells of a seed (“seed”) drops out of the paired differences; the"
        " interactions with the seed are what limits them."
    )
    if left_out:
        caption += f" Without the incomplete seeds: {listed([str(seed) for seed in left_out])}."
    return {"split": shares, "split_caption": caption}


def _percent(share: float) -> str:
    return (
        f"{100 * share:.0f} %"
        if share >= 0.1 or share == 0
        else f"{100 * share:.1f} %"
        if share >= 0.001
        else "< 0.1 %"
    )


ARROWS = {"lower": "↓", "higher": "↑"}


def metric_notes(view: View, sampler: str | None = None) -> dict[str, Any]:
    """What the sample metrics mean: the rows and the caption of a table on the page. Without samples it has no rows.

    Floors are those of one sampler, as samplers may differ in how many samples were scored: of the main one unless
    another is named.
    """
    sampler = sampler or view.main_sampler
    names = [*(view.sample_metrics if sampler else []), *blank_metrics(view.cells)]
    known = [METRICS[name] for name in dict.fromkeys(names) if name in METRICS]
    notes = []
    for metric in known:
        least = view.floor(metric.name, sampler)
        notes.append(
            {
                "title": metric.title[0].upper() + metric.title[1:],
                "unit": "" if metric.unit == "1" else metric.unit,
                "better": "≈" if metric.best_inside else ARROWS[metric.direction],
                "ideal": f"{metric.ideal:g}",
                "floor": "–" if least is None else plain(least, 3),
                "bias": metric.bias_note.replace(" x ", " × ").replace("-0", "−0").replace("^(-", "^(−"),
                "blank": blanks_of(view.cells, metric.name),
            }
        )
    drawn = f" ({sampler_name(sampler)}{_sizes(view, sampler)})" if sampler else ""
    caption = (
        "Ideal: what two endless sets from one distribution get. Floor: what held-out training data get against test"
        f" data at the sample size used{drawn}; its distance from the ideal is the bias there."
    )
    return {"rows": notes, "caption": caption}


def _sizes(view: View, sampler: str | None) -> str:
    """How many samples and how many test examples were compared, where the run says so and all cells agree."""
    sizes = {}
    for letter, metric in (("N", "scored_samples"), ("M", "scored_reference")):
        rows = view.of_metric(metric)
        values = rows[rows["sampler"] == sampler]["value"].unique()
        sizes[letter] = f"{letter} = {values[0]:.0f}" if len(values) == 1 else ""
    return f"; {sizes['N']} samples, {sizes['M']} of test" if all(sizes.values()) else ""
