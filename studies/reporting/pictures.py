"""Pictures of data: images as strips, series as small lines, points as scatter plots.

Data are (n, ...), channels last, in units of [-1, 1]: (n, H, W, C) images, (n, L, C) series, (n, D) points. Points of
more than two dims are shown by their first two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from studies.reporting.plotting import FAINT, INK, PAPER, WIDTH, Panel, bare, linear_axis

ACROSS = 10  # pictures in a strip: 34 px each, still legible on a phone
LABEL = 0.55  # height of a strip's label, in pictures
MOST_POINTS = 400

Array = NDArray[np.float64]
Strip = tuple[str, str, Array]  # label, its colour, (n, ...)


def examples(array: Array, limit: int = ACROSS) -> pd.DataFrame:
    """The examples that a picture shows, a row each: their `position`, and their values flattened as x_0, x_1, ..."""
    first = array[: MOST_POINTS if array.ndim == 2 else limit]
    flat = np.asarray(first, dtype=np.float64).reshape(len(first), -1)
    table = pd.DataFrame(flat, columns=[f"x_{i}" for i in range(flat.shape[1])])
    table.insert(0, "position", np.arange(len(flat)))
    return table


def real_and_made(title: str, real: Array | None, samples: Sequence[Strip]) -> list[Panel]:
    """Panels with real data and the samples of every cell.

    Images and series come as strips, all on one panel; points as a scatter plot for each cell.
    """
    if samples[0][2].ndim == 2:
        return [_scatter(f"{label}: {title}", real, array, colour) for label, colour, array in samples]
    strips: list[Strip] = [("real test data", INK, real)] if real is not None else []
    strips += samples
    alt = f"Strips of {ACROSS} examples each, {title}, in rows: {', '.join(label for label, _, _ in strips)}."
    return [_sheet(title[0].upper() + title[1:], alt, strips)]


def trajectories(real: Array | None, chains: Sequence[tuple[str, str, Array, Array]]) -> list[Panel]:
    """Panels of the guesses x_0_hat on the way from noise to sample: one for each of the first three starting noises.

    Each of `chains` holds a label, its colour, the guesses (k, n, ...) for n noises, and the k steps they were made at.
    Points have a panel for each chain instead, with the path of every guess.
    """
    if chains[0][2].ndim == 3:
        return [
            Panel(
                label,
                f"Paths of {path.shape[1]} guesses of x0 from t = {steps[0]} to t = {steps[-1]}, {label}.",
                _draw_paths(real, path, colour),
                height=WIDTH,
            )
            for label, colour, path, steps in chains
        ]
    panels = []
    for i in range(min(3, chains[0][2].shape[1])):
        strips: list[Strip] = [(label, colour, path[:, i]) for label, colour, path, _ in chains]
        steps = [f"{t}" for t in chains[0][3]]
        alt = (
            f"The guess of x0 for noise {i + 1} at t = {', '.join(steps)}, in rows: {', '.join(s[0] for s in strips)}."
        )
        panels.append(_sheet(f"Noise {i + 1}", alt, strips, heads=steps))
    return panels


def nearest_neighbours(
    samples: Sequence[Strip], train: Array, test: Array | None
) -> tuple[list[Panel], pd.DataFrame, dict[str, float]]:
    """A panel a cell with samples above their nearest training examples; the distances; and their medians by label.

    Distance is the root mean square over dims. The medians hold that of real test data too, as what to expect.
    """
    panels, data, medians = [], [], {}
    for label, colour, array in samples:
        index, distance = _nearest(array, train)
        medians[label] = float(np.median(distance))
        strips = [(label, colour, array[:ACROSS]), ("nearest training example", INK, train[index[:ACROSS]])]
        alt = f"Samples of {label}, and below each the nearest training example; median distance {medians[label]:.3g}."
        panels.append(_sheet(label, alt, strips))
        rows = {"cell": label, "position": np.arange(len(array)), "nearest_train": index, "distance": distance}
        data.append(pd.DataFrame(rows))
    if test is not None and len(test):
        medians["real test data"] = float(np.median(_nearest(test, train)[1]))
    return panels, pd.concat(data), medians


def _nearest(points: Array, train: Array) -> tuple[NDArray[np.int64], Array]:
    a, b = points.reshape(len(points), -1).astype(np.float64), train.reshape(len(train), -1).astype(np.float64)
    squared = np.sum(a * a, axis=1)[:, None] + np.sum(b * b, axis=1) - 2 * a @ b.T
    index = np.argmin(squared, axis=1)
    return index, np.sqrt(np.mean((a - b[index]) ** 2, axis=1))  # afresh: the product form cancels near a copy


def _sheet(title: str, alt: str, strips: Sequence[Strip], heads: Sequence[str] = ()) -> Panel:
    across = max(1, min(ACROSS, min(len(strip[2]) for strip in strips)))
    is_image = strips[0][2].ndim == 4
    tall = 1.0 if not is_image else strips[0][2].shape[1] / strips[0][2].shape[2]
    pitch = LABEL + tall + 0.12
    top = LABEL if heads else 0.0
    height = top + pitch * len(strips)

    def draw(ax: Axes) -> None:
        bare(ax)
        ax.set_xlim(0, across)
        ax.set_ylim(height, 0)
        ax.set_aspect("equal", anchor="NW")
        for j, head in enumerate(heads[:across]):
            text = f"t={head}" if j == 0 else head
            ax.text(j + 0.5, top / 2, text, ha="center", va="center", size=9.5, color=FAINT)
        for i, (label, colour, array) in enumerate(strips):
            y = top + i * pitch
            ax.plot(0.16, y + LABEL / 2, "s", color=colour, markersize=6)
            ax.text(0.36, y + LABEL / 2, label, va="center", size=10.5, color=INK)
            _draw_strip(ax, array[:across], y + LABEL, tall, colour)

    return Panel(title, alt, draw, height=round(height * WIDTH / across) + 4)


def _draw_strip(ax: Axes, array: Array, y: float, tall: float, colour: str) -> None:
    if array.ndim == 4:
        for j, image in enumerate(array):
            extent = (j + 0.05, j + 0.95, y + 0.95 * tall, y + 0.05 * tall)
            ax.imshow(_pixels(image), extent=extent, interpolation="none", cmap="gray", vmin=0, vmax=1, aspect="auto")
        return
    low, high = float(np.nanmin(array)), float(np.nanmax(array))
    low, high = min(-1.0, low), max(1.0, high)
    for j, series in enumerate(array):
        x = j + 0.08 + 0.84 * np.linspace(0, 1, len(series))
        for channel in series.T:
            ax.plot(x, y + 0.05 + 0.9 * (high - channel) / (high - low), color=colour, linewidth=1.1)


def _pixels(image: Array) -> Array:
    """The image as matplotlib shows it: (H, W) or (H, W, 3), in [0, 1].

    Values are clipped for display only. Of images with a number of channels other than 3 the first is shown.
    """
    scaled = np.clip((np.nan_to_num(np.asarray(image, dtype=np.float64)) + 1) / 2, 0, 1)
    return scaled if scaled.shape[-1] == 3 else scaled[..., 0]


def _plane(points: Array) -> Array:
    """The points by their first two dims; those of one dim are put on a line."""
    return points[:, :2] if points.shape[1] > 1 else np.stack([points[:, 0], np.zeros(len(points))], axis=1)


def _scatter(title: str, real: Array | None, array: Array, colour: str) -> Panel:
    def draw(ax: Axes) -> None:
        if real is not None:
            ax.plot(*_plane(real).T, ".", color=FAINT, markersize=5, alpha=0.5, markeredgewidth=0)
        ax.plot(*_plane(array[:MOST_POINTS]).T, ".", color=colour, markersize=8, alpha=0.8, markeredgewidth=0)
        _square(ax, real if real is not None else array)

    alt = f"Scatter plot of {min(len(array), MOST_POINTS)} samples over real test data in grey: {title}."
    return Panel(title, alt, draw, height=WIDTH)


def _draw_paths(real: Array | None, path: Array, colour: str) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        if real is not None:
            ax.plot(*_plane(real).T, ".", color=FAINT, markersize=5, alpha=0.5, markeredgewidth=0)
        for i in range(path.shape[1]):
            line = _plane(path[:, i])
            ax.plot(*line.T, color=colour, linewidth=1.2, alpha=0.8)
            ax.plot(*line[-1], "o", color=colour, markersize=6, markeredgecolor=PAPER)
        _square(ax, real if real is not None else path.reshape(-1, path.shape[-1]))

    return draw


def _square(ax: Axes, around: Array) -> None:
    """Sets equal axes, a little wider than the data `around`.

    Panels with the same data then share their frame, and samples far outside are cut off rather than shrink the rest.
    """
    plane = _plane(around)
    centre = (plane.max(axis=0) + plane.min(axis=0)) / 2
    half = 0.65 * float((plane.max(axis=0) - plane.min(axis=0)).max()) or 1.0
    ax.set_xlim(centre[0] - half, centre[0] + half)
    ax.set_ylim(centre[1] - half, centre[1] + half)
    ax.set_aspect("equal")
    linear_axis(ax, "x")
    linear_axis(ax, "y")
