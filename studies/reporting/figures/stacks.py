"""Parts of a whole as stacked bars: the bound by term, and what a cell costs."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from studies.metrics.vocabulary import VOCABULARY
from studies.reporting.figures.effects import draw_effects, spoken_contrasts
from studies.reporting.names import name_of
from studies.reporting.numbers import seconds
from studies.reporting.plotting import PARTS, Key, Panel, Plot, label_of, linear_axis, rows_axis
from studies.reporting.view import View

TERMS = ("bound_decoder", "bound_diffusion", "bound_prior")
STAGES = ("startup_seconds", "train_seconds", "bound_seconds", "floors_seconds", "flow_seconds", "sample_seconds")


@dataclass(frozen=True, eq=False)
class Stacks:
    """What stacked bars show: for every recipe and framework (`groups`) the parts of a whole (`metrics`).

    `parts` has shape (groups, metrics), with 0 where a group lacks a metric.
    """

    groups: list[tuple[Hashable, Hashable]]
    metrics: list[str]
    parts: NDArray[np.float64]

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {"recipe": recipe, "backend": backend, "metric": metric, "value": value}
                for (recipe, backend), row in zip(self.groups, self.parts, strict=True)
                for metric, value in zip(self.metrics, row, strict=True)
            ]
        )


def _stacks(view: View, metrics: Sequence[str], over_seeds: Callable[[NDArray[np.float64]], float]) -> Stacks | None:
    """The parts of every group, with `over_seeds` taken of each; None where the run has none of `metrics`."""
    rows = view.rows[view.rows["metric"].isin(metrics)]
    by_cell = {key: group["value"].to_numpy() for key, group in rows.groupby(["recipe", "backend", "metric"])}
    groups = [key for key in view.groups() if any((*key, metric) in by_cell for metric in metrics)]
    there = [metric for metric in metrics if metric in set(rows["metric"])]
    if not groups:
        return None
    parts = [[over_seeds(by_cell[*key, m]) if (*key, m) in by_cell else 0.0 for m in there] for key in groups]
    return Stacks(groups, there, np.array(parts))


def split_by_term(view: View) -> Plot | None:
    """The bound as decoder, diffusion and prior."""
    stacks = _stacks(view, TERMS, lambda value: float(value.mean()))
    if stacks is None:
        return None
    labels = [VOCABULARY[term].title for term in stacks.metrics]
    names = [view.name(*key) for key in stacks.groups]
    spoken = "; ".join(
        f"{name}: " + ", ".join(f"{label} {label_of(part)}" for label, part in zip(labels, row, strict=True))
        for name, row in zip(names, stacks.parts, strict=True)
    )
    panels = [
        Panel(
            "Bound by term, bits/dim",
            f"Stacked bars of the bound's terms in bits/dim. {spoken}.",
            _draw_stacks(names, stacks.parts, "bits/dim", label_of),
            height=44 + 44 * len(names),
        )
    ]
    for recipe in view.recipes[1:]:
        by_term = [(term, view.contrast(term, "recipe", recipe, view.recipes[0])) for term in stacks.metrics]
        labelled = [(VOCABULARY[term].title, contrast) for term, contrast in by_term if contrast is not None]
        if labelled:
            title = f"{name_of(recipe)} − {name_of(view.recipes[0])}"
            alt = f"Differences by term in bits/dim with 95 % intervals, {title}: {spoken_contrasts(labelled)}."
            panels.append(Panel(title, alt, draw_effects(view, labelled, None), height=30 + 36 * len(labelled)))
    return Plot(
        "bound-by-term",
        "The bound by term",
        "Means over seeds, and what each term adds to the paired difference. The decoder term is −log p(x₀ | x₁); the"
        " prior term is what is left of the data at t = T, too small to see when the schedule ends in noise.",
        panels,
        stacks.table(),
        [Key(label, PARTS[i]) for i, label in enumerate(labels)],
    )


def _draw_stacks(
    labels: Sequence[str], parts: NDArray[np.float64], unit: str, written: Callable[[float], str]
) -> Callable[[Axes], None]:
    """Horizontal bars of parts (rows, terms), each with its label above and its total at the end."""

    def draw(ax: Axes) -> None:
        # To the right of zero and, for a density's terms, to the left of it.
        sides = np.clip(parts, 0, None), np.clip(parts, None, 0)
        for widths in sides:
            starts = np.cumsum(widths, axis=1) - widths
            for i, j in np.ndindex(widths.shape):
                colour = PARTS[j % len(PARTS)]
                ax.barh(-i - 0.15, widths[i, j], 0.38, left=starts[i, j], color=colour, linewidth=0)
        for i, label in enumerate(labels):
            across = ax.get_yaxis_transform()
            ax.text(0, -i + 0.24, label, transform=across, va="center", size=10.5)
            ax.text(1, -i + 0.24, written(parts[i].sum()), transform=across, va="center", ha="right", size=10.5)
        ax.set_ylim(-len(labels) + 0.55, 0.55)
        right, left = (widths.sum(axis=1) for widths in sides)
        ax.set_xlim(1.05 * float(left.min()), 1.05 * float(right.max()) or 1.0)
        rows_axis(ax)
        ax.set_xlabel(unit, loc="right")
        linear_axis(ax, "x")

    return draw


def cost(view: View) -> Plot | None:
    """Seconds of a cell by stage."""
    stacks = _stacks(view, STAGES, lambda value: float(np.median(value)))
    if stacks is None:
        return None
    names = [view.name(*key) for key in stacks.groups]
    spoken = "; ".join(f"{name} {seconds(row.sum())}" for name, row in zip(names, stacks.parts, strict=True))
    return Plot(
        "cost",
        "What a cell costs",
        "Median seconds by the clock over seeds. Cells that run side by side share the machine, so these are costs of"
        " this run, not a benchmark.",
        [
            Panel(
                "Seconds of a cell, by stage",
                f"Stacked bars of seconds: {spoken}.",
                _draw_stacks(names, stacks.parts, "s", seconds),
                height=44 + 44 * len(names),
            )
        ],
        stacks.table(),
        [Key(_stage(stage), PARTS[i]) for i, stage in enumerate(stacks.metrics)],
    )


def _stage(metric: str) -> str:
    return "training" if metric == "train_seconds" else VOCABULARY[metric].title
