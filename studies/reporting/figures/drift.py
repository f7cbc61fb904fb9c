"""The figure of how far apart the weights drift: between frameworks, and between recipes, from the same start."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from studies.reporting.names import name_of
from studies.reporting.numbers import listed
from studies.reporting.plotting import FAINT, REFERENCE_DASH, Key, Panel, Plot, label_of, log_axis
from studies.reporting.view import View, one_seed
from studies.store.reading import CellRecord


def drift(view: View) -> Plot | None:
    """Relative distance of the weights by training step. None where no two frameworks of a seed have sketches."""
    table = _distances(view)
    if table.empty or not (table["between"] == "frameworks").any():
        return None
    lines = table.groupby(["between", "what", "step"], sort=False, as_index=False).agg(
        mean=("distance", _mean), low=("distance", "min"), high=("distance", "max")
    )
    first, *others = view.backends
    spoken = "; ".join(
        f"{_line_name(*key)} {label_of(line['mean'].iloc[0])} at step {line['step'].iloc[0]} and"
        f" {label_of(line['mean'].iloc[-1])} at step {line['step'].iloc[-1]}"
        for key, line in lines.groupby(["between", "what"], sort=False)
    )
    keys = [Key(f"frameworks, {name_of(recipe)}", view.colour(recipe), view.dash(recipe)) for recipe in view.recipes]
    if (table["between"] == "recipes").any():
        keys.append(Key("recipes, same framework", dash=REFERENCE_DASH))
    return Plot(
        "weights-drift",
        "How far the weights drift apart",
        f"Relative distance |w − w′| / √(|w| |w′|) of two cells of a seed, which start from the same weights and see"
        f" the same draws. In colour: {name_of(first)} against {listed([name_of(backend) for backend in others])}, one"
        " recipe; in grey: two recipes, one framework. What parts frameworks is rounding, which training multiplies."
        " Lines are geometric means, bands from the lowest to the highest, measured on random sketches of the weights,"
        " to about 2 %." + one_seed(view),
        [
            Panel(
                "Relative distance of the weights",
                f"Relative distance of weights against training steps, log against log. {spoken}.",
                _draw(view, lines),
                height=300,
            )
        ],
        table,
        keys,
    )


def _mean(values: pd.Series) -> float:
    """The geometric mean, as distances are drawn on a log axis."""
    return float(np.exp(np.log(values).mean()))


def _line_name(between: Hashable, what: Hashable) -> str:
    return f"between frameworks, {name_of(what)}:" if between == "frameworks" else f"between {what}:"


def _distances(view: View) -> pd.DataFrame:
    """The distance of every pair of cells compared, by training step; steps at which it is 0 are left out.

    Columns: between ("frameworks" or "recipes"), what (the recipe of both, or the names of the two), seed, step and
    distance.
    """
    parts = []
    for seed in sorted(view.rows["seed"].unique()):
        cells = {key: cell for key in view.groups() if (cell := view.cell(*key, seed)) is not None}
        for recipe in view.recipes:
            of_recipe = [cells[recipe, backend] for backend in view.backends if (recipe, backend) in cells]
            parts += [_pair("frameworks", recipe, seed, of_recipe[0], other) for other in of_recipe[1:]]
        for backend in view.backends:
            there = [recipe for recipe in view.recipes if (recipe, backend) in cells]
            for recipe in there[1:]:
                what = f"{name_of(there[0])} and {name_of(recipe)}"
                parts.append(_pair("recipes", what, seed, cells[there[0], backend], cells[recipe, backend]))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["between"])


def _pair(between: str, what: Hashable, seed: int, cell: CellRecord, other: CellRecord) -> pd.DataFrame:
    steps, first, second = _shared([cell, other])
    table = pd.DataFrame({"between": between, "what": what, "seed": seed, "step": steps})
    table["distance"] = distance(first, second) if len(steps) else np.array([])
    return table[table["distance"] > 0]


def _shared(cells: Sequence[CellRecord]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps both cells have a sketch of, and the sketches; none where the networks have different sizes."""
    arrays = [cell.sketches() for cell in cells]
    if not all(arrays) or arrays[0]["parameters"] != arrays[1]["parameters"]:
        return np.array([], np.int64), np.empty((0, 1)), np.empty((0, 1))
    steps = np.intersect1d(arrays[0]["steps"], arrays[1]["steps"])
    first, second = (of_cell["sketches"][np.isin(of_cell["steps"], steps)] for of_cell in arrays)
    return steps, first, second


def _draw(view: View, lines: pd.DataFrame) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for (between, what), line in lines.groupby(["between", "what"], sort=False):
            of_recipe = between == "frameworks"
            colour = view.colour(what) if of_recipe else FAINT
            ax.fill_between(line["step"], line["low"], line["high"], color=colour, alpha=0.18, linewidth=0)
            style = view.dash(what) if of_recipe else REFERENCE_DASH
            ax.plot(line["step"], line["mean"], color=colour, linestyle=style)
        log_axis(ax, "x", 1, float(lines["step"].max()))
        log_axis(ax, "y", float(lines["low"].min()) / 2, float(lines["high"].max()) * 2)
        ax.set_xlabel("training step")

    return draw


def distance(sketch: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative distance |w - w'| / sqrt(|w| |w'|) of the networks behind sketches (..., BUCKETS)."""
    norms = np.linalg.norm(sketch, axis=-1) * np.linalg.norm(other, axis=-1)
    return np.linalg.norm(sketch - other, axis=-1) / np.sqrt(norms)
