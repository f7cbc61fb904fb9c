"""The figures of the samples themselves: side by side, on the way from noise, and beside their neighbours."""

# ruff: noqa: RUF001
from __future__ import annotations

import numpy as np
import pandas as pd

from studies.reporting.names import sampler_name, sampler_steps
from studies.reporting.pictures import examples, nearest_neighbours, real_and_made, trajectories
from studies.reporting.plotting import Panel, Plot, label_of
from studies.reporting.view import View, cells_with_samples


def samples(view: View) -> Plot | None:
    """Samples of every recipe and framework beside real data."""
    cells = cells_with_samples(view)
    names = list(dict.fromkeys(name for _, arrays in cells for name in arrays if "/" not in name))
    if not names:
        return None
    panels: list[Panel] = []
    data = []
    for name in names:
        drawn = [(label, colour, arrays[name]) for (label, colour), arrays in cells if name in arrays]
        panels += real_and_made(sampler_name(name), view.run.reference.get("test"), drawn)
        data += [examples(array).assign(sampler=name, cell=label) for label, _, array in drawn]
    of_points = cells[0][1][names[0]].ndim == 2
    layout = (
        " Grey dots are real test data." if of_points
        else " The same position is the same noise in every cell, so a column can be compared from row to row;"
        " real data are test examples, not matched to the samples."
    )  # fmt: skip
    return Plot(
        "samples",
        "Samples side by side",
        f"Seed {view.shown_seed}. All cells start from the same noise x_T.{layout} Nothing was picked: these are the"
        " first samples drawn.",
        panels,
        pd.concat(data),
    )


def denoising(view: View) -> Plot | None:
    """What the network makes of the same noise on the way from t = T to t = 1."""
    cells = cells_with_samples(view)
    names = [name.removesuffix("/trajectory") for _, arrays in cells for name in arrays if name.endswith("/trajectory")]
    if not names:
        return None
    name = max(dict.fromkeys(names), key=lambda sampler: sampler_steps(sampler) or 0)
    paths = [
        (label, colour, arrays[f"{name}/trajectory"], arrays[f"{name}/trajectory_steps"])
        for (label, colour), arrays in cells
        if f"{name}/trajectory" in arrays
    ]
    data = [
        examples(array[k], limit=3).assign(cell=label, t=int(t))
        for label, _, array, steps in paths
        for k, t in enumerate(steps)
    ]
    return Plot(
        "denoising",
        "From noise to sample",
        f"The network’s guess of x₀ along the chain ({sampler_name(name)}), seed {view.shown_seed}, for the same noise"
        " in every cell.",
        trajectories(view.run.reference.get("train"), paths),
        pd.concat(data),
    )


def neighbours(view: View) -> Plot | None:
    """Each sample beside the training example nearest to it."""
    train, test = view.run.reference.get("train"), view.run.reference.get("test")
    sampler = view.main_sampler
    if train is None or train[0].size < 3:
        return None
    drawn = []
    for recipe in view.recipes:
        for (label, colour), arrays in cells_with_samples(view, [key for key in view.groups() if key[0] == recipe][:1]):
            name = sampler if sampler in arrays else next((key for key in arrays if "/" not in key), None)
            if name is not None and np.all(np.isfinite(arrays[name])):
                drawn.append((label, colour, arrays[name]))
    if not drawn:
        return None
    panels, data, medians = nearest_neighbours(drawn, train, test)
    written = "; ".join(f"{label} {label_of(value)}" for label, value in medians.items())
    return Plot(
        "neighbours",
        "Nearest training examples",
        f"Below each sample, the nearest (root mean square over dims) of the {len(train)} training examples kept with"
        f" the run. Median distance: {written}. Samples much nearer than real test data would be copies.",
        panels,
        data,
    )
