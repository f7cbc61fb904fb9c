"""The tables of what a bound is worth: its error bar by source, the truth beside it, and what it is as a code."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from studies.metrics.vocabulary import title_of
from studies.reporting.names import name_of
from studies.reporting.numbers import plain, plus_minus
from studies.reporting.plotting import DARK
from studies.reporting.view import View
from studies.statistics import mean_interval


@dataclass(frozen=True)
class Column:
    """A column of the table: a metric of the cells, and how its values over seeds are written."""

    metric: str
    written: Callable[[np.ndarray], str]


def mean(values: np.ndarray) -> str:
    return plus_minus(mean_interval(values))


def mean_or_nothing(values: np.ndarray) -> str:
    """The mean of what cannot be negative; an estimate that is 0 but for its error is not written as a number."""
    return "< 0.0001" if np.all(np.abs(values) < 1e-4) else mean(values)


def typical(values: np.ndarray) -> str:
    return plain(float(np.median(values)), 2)


TRUTH = (
    Column("bound", mean),
    Column("bound_data_se", typical),
    Column("bound_step_se", typical),
    Column("bound_noise_se", typical),
    Column("bound_above_entropy", mean),
    Column("bound_above_floor", mean),
    Column("flow_decoder", mean),
    Column("flow_bound", mean),
    Column("flow_minus_bound", mean),
)
CODE = (
    Column("rate", mean),
    Column("distortion", mean_or_nothing),
    Column("rmse", mean),
)


def bound_tables(view: View) -> list[dict[str, Any]]:
    """Both tables as report.html takes them; one whose own metrics were not measured is left out."""
    tables = [
        _table(view, "How exact is the bound?", _truth_caption(view), TRUTH, "bound_noise_se"),
        _table(
            view,
            "The bound as a progressive code",
            "What a receiver pays for x₁ (rate) and then for x₀ (distortion), and how far x₀ made from x₁ is off"
            " (Ho et al. 2020, Table 4). Means over seeds ± the half width of their 95 % interval.",
            CODE,
            "rate",
        ),
    ]
    return [table for table in tables if table is not None]


def _table(view: View, title: str, caption: str, columns: tuple[Column, ...], needed: str) -> dict[str, Any] | None:
    if needed not in view.metrics:
        return None
    present = [column for column in columns if column.metric in view.metrics]
    return {
        "title": title,
        "caption": caption,
        "columns": [_heading(view, column.metric) for column in present],
        "rows": [_row(view, *key, present) for key in view.groups() if key[0] not in view.apart],
    }


def _row(view: View, recipe: Hashable, backend: Hashable, columns: list[Column]) -> dict[str, Any]:
    texts = []
    for column in columns:
        rows = view.of_group(recipe, backend)
        values = rows[rows["metric"] == column.metric]["value"].to_numpy(dtype=np.float64)
        values = values[np.isfinite(values)]
        texts.append(column.written(values) if len(values) else "–")
    colour = view.colour(recipe)
    return {
        "recipe": name_of(recipe),
        "backend": name_of(backend),
        "colour": colour,
        "dark": DARK.get(colour, colour),
        "shown": texts,
    }


def _heading(view: View, metric: str) -> dict[str, str]:
    return {"title": title_of(metric), "note": view.quantity(metric).unit}


def _truth_caption(view: View) -> str:
    """What the columns of the first table mean: those that it has."""

    def median(metric: str) -> float:
        return float(view.of_metric(metric)["value"].median())

    parts = [
        "Means over seeds ± the half width of their 95 % interval. SE: standard errors of one cell’s bound (median over"
        " seeds), by what they come from: the test set as a sample of the data, the steps t at which each example is"
        " met, and the noise drawn there."
    ]
    if "bound_above_entropy" in view.metrics:
        exact = (
            f"; with this chain of steps the exact denoiser has {plain(median('bound_floor'))}"
            if "bound_floor" in view.metrics
            else ""
        )
        parts.append(
            f"The density of the data is known: its entropy, {plain(median('entropy'))} bits/dim, is the least that a"
            f" bound can be on average{exact}."
        )
    if "bound_above_floor" in view.metrics:
        whose = "exact denoiser" if "entropy" in view.metrics else "training set’s own denoiser, on training examples"
        parts.append(
            f"Above the floor: what the network adds to the bound of the {whose}; the figure shows where in t."
        )
    if "flow_minus_bound" in view.metrics:
        error = view.of_metric("flow_minus_bound")["standard_error"].median()
        chance = (
            f" one cell’s difference has a standard error of {plain(float(error), 2)};" if np.isfinite(error) else ""
        )
        parts.append(
            f"Flow: −log p of {median('flow_examples'):.0f} test examples by the probability flow, which ends in the"
            " model’s own decoder, so that it and the bound of the same examples differ in p(x₁) alone;"
            f"{chance} the solver’s steps were doubled until an example moved by less than"
            f" {plain(median('flow_decoder_tolerance'), 2)} bits/dim"
            f" (mean {plain(median('flow_decoder_solver_change'), 1)}; {_unresolved(view)})."
        )
    return " ".join(parts)


def _unresolved(view: View) -> str:
    left = float(view.of_metric("flow_decoder_unresolved")["value"].sum())
    return "every example did" if left == 0 else f"{left:.0f} examples of all cells never did"
