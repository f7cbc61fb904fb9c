"""Pictures of tables of numbers, points (n, D): scatter plots, histograms, pairs of columns, and paths of guesses.

Two columns are drawn against each other as they are. One is a histogram. Three and more are drawn in the plane of the
two leading principal components of the standardised real data, and by their leading columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from studies.metrics.moments import moments
from studies.reporting.numbers import count
from studies.reporting.plotting import (
    FAINT,
    GRID,
    INK,
    PAPER,
    REFERENCE_DASH,
    WIDTH,
    Panel,
    linear_axis,
    log_axis,
    short,
)

MOST_POINTS = 400
MOST_BINS = 24
MOST_PAIRED = 4  # columns drawn in pairs: six panels in the width of one

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Line:
    """Samples (n, D) that are drawn as a line: their label and look."""

    label: str
    colour: str
    dash: Any
    samples: Array


@dataclass(frozen=True, eq=False)
class Plane:
    """Two coordinates of points (n, D): `(points - origin) @ axes`.

    `share`: how much of the variance of the standardised columns two principal components carry; None where the
    coordinates are the first two of the points.
    """

    origin: Array
    axes: Array
    share: float | None

    def __call__(self, points: Array) -> Array:
        centred = np.asarray(points, dtype=np.float64) - self.origin
        return np.where(np.isfinite(centred).all(axis=-1, keepdims=True), centred, np.nan) @ self.axes


def plane_of(real: Array) -> Plane:
    """The plane that points like the real data (n, D), D > 1, are drawn in."""
    width = real.shape[1]
    if width == 2:
        return Plane(np.zeros(2), np.eye(2), None)
    finite = np.asarray(real[np.all(np.isfinite(real), axis=1)], dtype=np.float64)
    about = moments(finite) if len(finite) else None
    if about is None or about.varies.sum() < 2:
        return Plane(np.zeros(width), np.eye(width)[:, :2], None)
    scale = np.where(about.varies, about.deviation, np.inf)
    _, values, directions = np.linalg.svd((finite - about.mean) / scale, full_matrices=False)
    axes = directions[:2].T
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])  # one of two signs, whatever the solver takes
    share = float(np.sum(values[:2] ** 2) / np.sum(values**2))
    return Plane(about.mean, axes / scale[:, None], share)


def shared_plane(real: Array | None, shape: Sequence[int]) -> Plane | None:
    """The plane that all pictures of points of several columns share; None for other data, or without real data."""
    return plane_of(real) if real is not None and len(shape) == 1 and shape[0] > 1 else None


def leading_columns(real: Array, most: int) -> NDArray[np.int64]:
    """All columns in their order where they are few, and else the `most` of the largest variance, that first."""
    if real.shape[1] <= most:
        return np.arange(real.shape[1])
    return np.argsort(-np.var(np.asarray(real, dtype=np.float64), axis=0), kind="stable")[:most]


def coordinates(array: Array, plane: Plane | None) -> pd.DataFrame:
    """What a scatter plot shows, a row each point: its `position` and x_0, x_1, ..., or coordinates in a plane."""
    first = np.asarray(array[:MOST_POINTS], dtype=np.float64)
    own = plane is None or plane.share is None
    names = [f"x_{i}" for i in range(first.shape[1])] if own else ["component_1", "component_2"]
    table = pd.DataFrame(first if own or plane is None else plane(first), columns=names)
    table.insert(0, "position", np.arange(len(first)))
    return table


def scatter(title: str, real: Array | None, array: Array, colour: str, plane: Plane) -> Panel:
    """Samples over real data, in a plane."""

    def draw(ax: Axes) -> None:
        if real is not None:
            ax.plot(*plane(real).T, ".", color=FAINT, markersize=5, alpha=0.5, markeredgewidth=0)
        ax.plot(*plane(array[:MOST_POINTS]).T, ".", color=colour, markersize=8, alpha=0.8, markeredgewidth=0)
        frame(ax, real if real is not None else array, plane)
        say_outside(ax, plane(array[:MOST_POINTS]), "sample")

    alt = f"Scatter plot of {min(len(array), MOST_POINTS)} samples over real test data in grey: {title}."
    return Panel(title, alt, draw, height=WIDTH)


def paths(label: str, real: Array | None, path: Array, steps: Array, colour: str, plane: Plane | None) -> Panel:
    """The way of guesses (k, n, D) made at k steps: in a plane, or without one, of a single column, against steps."""
    alt = f"Paths of {path.shape[1]} guesses of x0 from t = {steps[0]} to t = {steps[-1]}, {label}."
    draw = _draw_line(real, path, steps, colour) if plane is None else _draw_paths(real, path, colour, plane)
    return Panel(label, alt, draw, height=WIDTH)


def _draw_paths(real: Array | None, path: Array, colour: str, plane: Plane) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        if real is not None:
            ax.plot(*plane(real).T, ".", color=FAINT, markersize=5, alpha=0.5, markeredgewidth=0)
        for i in range(path.shape[1]):
            line = plane(path[:, i])
            ax.plot(*line.T, color=colour, linewidth=1.2, alpha=0.8)
            ax.plot(*line[-1], "o", color=colour, markersize=6, markeredgecolor=PAPER)
        frame(ax, real if real is not None else path.reshape(-1, path.shape[-1]), plane)
        say_outside(ax, plane(path[-1]), "end")

    return draw


def _draw_line(real: Array | None, path: Array, steps: Array, colour: str) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        place = np.arange(len(steps))
        for i in range(path.shape[1]):
            ax.plot(place, path[:, i, 0], color=colour, linewidth=1.2, alpha=0.8)
            ax.plot(place[-1], path[-1, i, 0], "o", color=colour, markersize=6, markeredgecolor=PAPER)
        if real is not None:
            beside = np.full(len(real), len(steps) - 0.4)
            ax.plot(beside, real[:, 0], "_", color=FAINT, markersize=9, alpha=0.5)
        ax.set_xticks(place, [short(float(t)) for t in steps])
        ax.set_xlabel("t")
        ax.set_ylim(*_around((real if real is not None else path)[..., 0].ravel()))
        linear_axis(ax, "y")

    return draw


def frame(ax: Axes, around: Array, plane: Plane) -> None:
    """Sets axes a little wider than the data `around`: equal ones, but for principal components.

    Panels with the same data then share their frame, and samples far outside are cut off rather than shrink the rest.
    """
    flat = plane(around)
    flat = flat[np.all(np.isfinite(flat), axis=1)]
    if plane.share is not None:
        ax.set_xlim(*_around(flat[:, 0]))
        ax.set_ylim(*_around(flat[:, 1]))
        ax.set_xlabel("component 1")
        ax.set_ylabel("component 2")
    elif len(flat):
        centre = (flat.max(axis=0) + flat.min(axis=0)) / 2
        half = 0.65 * float((flat.max(axis=0) - flat.min(axis=0)).max()) or 1.0
        ax.set_xlim(centre[0] - half, centre[0] + half)
        ax.set_ylim(centre[1] - half, centre[1] + half)
        ax.set_aspect("equal")
    linear_axis(ax, "x")
    linear_axis(ax, "y")


def say_outside(ax: Axes, flat: Array, noun: str, plural: str | None = None) -> None:
    """Writes into the corner how many of the points (n, 2) are outside the frame, where any are: cut off, not lost."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    inside = (flat[:, 0] >= left) & (flat[:, 0] <= right) & (flat[:, 1] >= bottom) & (flat[:, 1] <= top)
    if outside := int(np.sum(~inside)):
        words = f"{outside} of {count(len(flat), noun, plural)} outside"
        ax.text(0.98, 0.98, words, transform=ax.transAxes, ha="right", va="top", size=9.5, color=FAINT)


def _around(values: Array) -> tuple[float, float]:
    """An axis a little wider than the finite values."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return -1.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    margin = 0.15 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _around_most(values: Array) -> tuple[float, float]:
    """An axis a quarter wider on either side than the middle 99 % of the finite values; a few far ones do not count."""
    finite = values[np.isfinite(values)]
    low, high = (float(edge) for edge in np.quantile(finite, [0.005, 0.995])) if len(finite) else (0.0, 0.0)
    margin = 0.25 * (high - low)
    return (low - margin, high + margin) if margin else _around(values)


def bins_of(real: Array, values: int) -> Array:
    """Edges of the bins of one column (n,): a bin a value where there are few values, else even ones.

    The even ones are as many as so many values can fill, and span what `_around_most` says.
    """
    distinct = np.unique(np.asarray(real[np.isfinite(real)], dtype=np.float64))
    if 1 < len(distinct) <= MOST_BINS // 2:
        middles = (distinct[1:] + distinct[:-1]) / 2
        return np.concatenate([[2 * distinct[0] - middles[0]], middles, [2 * distinct[-1] - middles[-1]]])
    number = 3 if len(distinct) < 2 else int(np.clip(np.rint(3 * values ** (1 / 3)), 6, MOST_BINS))
    return np.linspace(*_around_most(real), number + 1)


def shares(values: Array, edges: Array) -> Array:
    """The share of all values (n,) in each bin; what is beyond the outermost bins counts in them, NaN nowhere."""
    inside = np.clip(np.asarray(values, dtype=np.float64), edges[0], edges[-1])
    counts, _ = np.histogram(inside[~np.isnan(inside)], bins=edges)
    return counts / max(1, len(values))


def histogram(title: str, real: Array | None, lines: Sequence[Line], column: int) -> Panel:
    """One column of real data, filled, and of samples, as lines."""
    least = min(len(line.samples) for line in lines)
    edges = bins_of((lines[0].samples if real is None else real)[:, column], least)

    def draw(ax: Axes) -> None:
        if real is not None:
            ax.stairs(shares(real[:, column], edges), edges, fill=True, color=GRID)
            ax.stairs(shares(real[:, column], edges), edges, color=FAINT, linewidth=0.8)
        for line in lines:
            share = shares(line.samples[:, column], edges)
            ax.stairs(share, edges, color=line.colour, linewidth=1.5, linestyle=line.dash)
        ax.set_xlim(edges[0], edges[-1])
        ax.set_ylim(bottom=0)
        linear_axis(ax, "x")
        linear_axis(ax, "y", 4)
        ax.set_ylabel("share")

    words = ", ".join(line.label for line in lines)
    return Panel(title, f"Histograms of {title}: real test data filled in grey, as lines {words}.", draw, height=200)


def pairs(label: str, real: Array, array: Array, colour: str, columns: Sequence[int]) -> Panel:
    """Every two of a few columns against each other, samples over real data: a triangle of scatter plots."""
    names = [f"column {column}" for column in columns]

    def draw(ax: Axes) -> None:
        ax.set_axis_off()
        ax.grid(False)
        size = len(columns) - 1
        first = np.asarray(array[:MOST_POINTS, columns], dtype=np.float64)
        low, high = np.array([_around_most(real[:, column]) for column in columns]).T
        if outside := int(np.sum(~np.all((first >= low) & (first <= high), axis=1))):
            words = f"{outside} of {count(len(first), 'sample')} outside\nin some column"
            ax.text(0.98, 0.98, words, transform=ax.transAxes, ha="right", va="top", size=9.5, color=FAINT)
        for i, j in ((row, column) for row in range(size) for column in range(row + 1)):
            left, bottom = 0.08 + 0.93 * j / size, 0.09 + 0.91 * (size - 1 - i) / size
            inset = ax.inset_axes((left, bottom, 0.85 / size, 0.82 / size))
            of_x, of_y = columns[int(j)], columns[int(i) + 1]
            inset.plot(real[:, of_x], real[:, of_y], ".", color=FAINT, markersize=4, alpha=0.45, markeredgewidth=0)
            inset.plot(first[:, j], first[:, i + 1], ".", color=colour, markersize=5, alpha=0.6, markeredgewidth=0)
            inset.set_xlim(low[j], high[j])
            inset.set_ylim(low[i + 1], high[i + 1])
            inset.set_xticks([])
            inset.set_yticks([])
            if i == size - 1:
                inset.set_xlabel(names[j], size=9.5)
            if j == 0:
                inset.set_ylabel(names[i + 1], size=9.5)

    alt = f"Samples of {label} over real test data in grey, {', '.join(names)} in pairs."
    return Panel(label, alt, draw, height=WIDTH)


def distances(lines: Sequence[tuple[str, str, Array]], real: Array | None) -> Panel:
    """How far samples are from the training example nearest to each: the share nearer than a distance."""
    everything = np.concatenate([distance for _, _, distance in lines] + ([] if real is None else [real]))
    above = everything[everything > 0]

    def draw(ax: Axes) -> None:
        rest = [] if real is None else [("", INK, real)]
        for label, colour, distance in [*lines, *rest]:
            ranked = np.sort(distance)
            share = np.arange(1, len(ranked) + 1) / len(ranked)
            ax.step(ranked, share, where="post", color=colour, linestyle="-" if label else REFERENCE_DASH)
        if len(above) and above.max() > 10 * above.min():
            log_axis(ax, "x", max(above.min(), 1e-4 * above.max()) / 1.2, above.max() * 1.2)
        else:
            linear_axis(ax, "x")
        ax.set_ylim(0, 1)
        linear_axis(ax, "y")
        ax.set_xlabel("distance to the nearest training example")
        ax.set_ylabel("share of samples nearer")

    words = ", ".join(label for label, _, _ in lines)
    alt = f"Share of samples nearer than a distance to their nearest training example: {words}; dotted, real test data."
    return Panel("Distance to the nearest training example", alt, draw)
