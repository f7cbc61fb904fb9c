"""The figures of a report, one idea a module: what each shows, the data behind it, and its words.

Colour tells recipes apart, line style and marker tell frameworks apart. Every figure is left out where its rows or
arrays are missing; nothing is drawn from anything but the run's folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from studies.harness.figures.by_t import spent_by_t
from studies.harness.figures.conditional import conditional
from studies.harness.figures.drift import drift
from studies.harness.figures.effects import effects
from studies.harness.figures.floors import above_floor
from studies.harness.figures.gain import gain
from studies.harness.figures.losses import losses
from studies.harness.figures.quality import quality, quality_by_steps
from studies.harness.figures.rate_distortion import rate_and_distortion
from studies.harness.figures.samples import denoising, neighbours, samples
from studies.harness.figures.schedule import learned_schedules
from studies.harness.figures.stacks import cost, split_by_term
from studies.harness.figures.table2 import table2
from studies.harness.figures.view import View
from studies.harness.plotting import Plot, save
from studies.harness.reading import Run, levels
from studies.harness.wording import name_of

MAKERS = (
    effects, gain, table2, losses, drift, spent_by_t, split_by_term, above_floor, rate_and_distortion,
    learned_schedules, samples, conditional, quality, quality_by_steps, denoising, neighbours, cost,
)  # fmt: skip
"""In the order of the report; each makes its figure of a View, or None."""


def figures_of(run: Run) -> list[Plot]:
    """Every figure the run has the data for, in the order of the report."""
    plots = []
    datasets = levels(run.rows, "dataset")
    for dataset in datasets:
        view = View(run, dataset, run.rows[run.rows["dataset"] == dataset])
        for make in MAKERS:
            plot = make(view)
            if plot is not None and len(datasets) > 1:
                plot = replace(plot, name=f"{plot.name}-{dataset}", title=f"{plot.title} ({name_of(dataset)})")
            if plot is not None:
                plots.append(plot)
    return plots


def write_figures(plots: Sequence[Plot], folder: Path) -> None:
    """Every figure as png, pdf, svg and csv in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        save(plot, folder)
