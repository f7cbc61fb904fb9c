"""The figures of the samples themselves: side by side, on the way from noise, and beside their neighbours."""

# ruff: noqa: RUF001
from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from studies.reporting.names import sampler_name, sampler_steps
from studies.reporting.numbers import plain
from studies.reporting.pictures import examples, nearest_neighbours, real_and_made, trajectories
from studies.reporting.plotting import REFERENCE_DASH, Key, Panel, Plot, label_of
from studies.reporting.points import MOST_POINTS, Plane, shared_plane
from studies.reporting.strips import limits_of, note
from studies.reporting.view import View, cells_with_samples

Array = NDArray[np.float64]


def samples(view: View) -> Plot | None:
    """Samples of every recipe and framework beside real data."""
    cells = cells_with_samples(view)
    names = list(dict.fromkeys(name for _, arrays in cells for name in arrays if "/" not in name))
    if not names:
        return None
    test = view.run.reference.get("test")
    shape = cells[0][1][names[0]].shape[1:]
    plane = shared_plane(test, shape)
    panels: list[Panel] = []
    data = []
    for name in names:
        strips = [(label, colour, arrays[name]) for (label, colour), arrays in cells if name in arrays]
        panels += real_and_made(sampler_name(name), test, strips, plane)
        data += [examples(array, plane=plane).assign(sampler=name, cell=label) for label, _, array in strips]
    return Plot(
        "samples",
        "Samples side by side",
        f"Seed {view.shown_seed}. All cells start from the same noise x_T.{_layout(shape, plane)} Nothing was picked:"
        f" these are the first samples drawn.{note(shape, limits_of(test))}",
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
    train, shape = view.run.reference.get("train"), paths[0][2].shape[2:]
    plane = shared_plane(view.run.reference.get("test"), shape)
    data = [
        examples(array[k], limit=3, plane=plane).assign(cell=label, t=int(t))
        for label, _, array, steps in paths
        for k, t in enumerate(steps)
    ]
    return Plot(
        "denoising",
        "From noise to sample",
        f"The network’s guess of x₀ along the chain ({sampler_name(name)}), seed {view.shown_seed}, for the same noise"
        f" in every cell.{note(shape, limits_of(train))}",
        trajectories(train, paths, plane),
        pd.concat(data),
    )


def neighbours(view: View) -> Plot | None:
    """Each sample beside the training example nearest to it; of points, how far that is."""
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
    shown_as = (
        "How far each sample is from the nearest" if train.ndim == 2
        else "Below each sample, the nearest"
    )  # fmt: skip
    return Plot(
        "neighbours",
        "Nearest training examples",
        f"{shown_as} (root mean square over dims) of the {len(train)} training examples kept with the run. Median"
        f" distance: {written}. Samples much nearer than real test data would be copies."
        f"{note(train.shape[1:], limits_of(train))}",
        panels,
        data,
        [Key(label, colour) for label, colour, _ in drawn] + [Key("real test data", dash=REFERENCE_DASH)]
        if train.ndim == 2
        else (),
    )


def _layout(shape: tuple[int, ...], plane: Plane | None) -> str:
    """How the examples of a shape are laid out, in words."""
    if len(shape) != 1:
        return (
            " The same position is the same noise in every cell, so a column can be compared from row to row;"
            " real data are test examples, not matched to the samples."
        )
    if shape[0] == 1:
        return " Lines are samples; real test data are filled in grey."
    if plane is None or plane.share is None:
        return " Grey dots are real test data."
    return (
        f" Grey dots are real test data. Points of {shape[0]} columns are seen in the plane of the two leading"
        f" principal components of the real data, each column divided by its standard deviation:"
        f" {plain(100 * plane.share, 2)} % of that variance. What is wrong in other directions is not seen here. At"
        f" most {MOST_POINTS} samples a panel."
    )
