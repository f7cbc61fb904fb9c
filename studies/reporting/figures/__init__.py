"""The figures of a report, one idea a module: what each shows, the data behind it, and its words.

Colour and line style tell recipes apart, marks tell frameworks apart. Every figure is left out where its rows or
arrays are missing; nothing is drawn from anything but the run's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from studies.reporting.figures.by_t import spent_by_t
from studies.reporting.figures.conditional import conditional
from studies.reporting.figures.drift import drift
from studies.reporting.figures.effects import effects
from studies.reporting.figures.floors import above_floor
from studies.reporting.figures.gain import gain
from studies.reporting.figures.glance import glance
from studies.reporting.figures.losses import losses
from studies.reporting.figures.multiples import multiples
from studies.reporting.figures.quality import quality, quality_by_steps
from studies.reporting.figures.rate_distortion import rate_and_distortion
from studies.reporting.figures.samples import denoising, neighbours, samples
from studies.reporting.figures.schedule import learned_schedules
from studies.reporting.figures.stacks import cost, split_by_term
from studies.reporting.figures.table2 import table2
from studies.reporting.figures.tables_of_numbers import first_moments, in_pairs, marginals
from studies.reporting.names import name_of
from studies.reporting.plotting import Plot, save
from studies.reporting.view import View

OF_ALL = (glance, multiples)
"""What speaks of all recipes even where they are many; the other figures then show the best."""
MAKERS = (
    glance, effects, gain, table2, multiples, losses, drift, spent_by_t, split_by_term, above_floor,
    rate_and_distortion, learned_schedules, samples, marginals, in_pairs, first_moments, conditional, quality,
    quality_by_steps, denoising, neighbours, cost,
)  # fmt: skip
"""In the order of the report; each makes its figure of a View, or None."""


def figures_of(views: Sequence[View]) -> list[Plot]:
    """Every figure the run has the data for, in the order of the report."""
    plots = []
    for view in views:
        for make in MAKERS:
            plot = make(view) if make in OF_ALL else _of_leading(make, view)
            if plot is not None and len(views) > 1:
                title = f"{plot.title} ({name_of(view.dataset)})"
                plot = replace(plot, name=f"{plot.name}-{view.dataset}", title=title)
            if plot is not None:
                plots.append(plot)
    return plots


def _of_leading(make: Callable[[View], Plot | None], view: View) -> Plot | None:
    plot = make(view.leading)
    if plot is None or not view.many:
        return plot
    few, all_of_them = len(view.leading.recipes), len(view.recipes)
    return replace(plot, caption=f"The {few} best of {all_of_them} recipes. {plot.caption}")


def write_figures(plots: Sequence[Plot], folder: Path) -> None:
    """Every figure as png, pdf, svg and csv in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        save(plot, folder)
