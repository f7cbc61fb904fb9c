"""Pictures of data of any shape: images and series as strips, points as scatter plots and histograms.

Data are (n, ...), channels last, near units of [-1, 1]: (n, H, W, C) images, (n, L, C) series, (n, D) points. The
sizes of what is drawn are in `reporting.strips` and `reporting.points`; tables hold what is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from studies.reporting import points
from studies.reporting.plotting import INK, Panel
from studies.reporting.points import Line, Plane, plane_of
from studies.reporting.strips import Strip, across, drawn, limits_of, pictures_in, sheets

NEIGHBOURS_AT_ONCE = 2**22  # values: 32 MiB of float64

Array = NDArray[np.float64]


def examples(array: Array, limit: int | None = None, plane: Plane | None = None) -> pd.DataFrame:
    """The examples that a picture shows, a row each: their `position`, and what is drawn of each as x_0, x_1, ...

    `limit`: how many; None: as many as a strip has. Points are those of a scatter plot, in its `plane`.
    """
    if array.ndim == 2:
        return points.coordinates(array, plane)
    first = drawn(array[: across(array.shape[1:]) if limit is None else limit])
    flat = np.asarray(first, dtype=np.float64).reshape(len(first), -1)
    table = pd.DataFrame(flat, columns=[f"x_{i}" for i in range(flat.shape[1])])
    table.insert(0, "position", np.arange(len(flat)))
    return table


def real_and_made(title: str, real: Array | None, samples: Sequence[Strip], plane: Plane | None = None) -> list[Panel]:
    """Panels with real data and the samples of every cell.

    Images and series come as strips, all on one panel where they fit; points as a scatter plot for each cell, in
    `plane` or that of what there is, and of one column as a histogram.
    """
    first = samples[0][2]
    if first.ndim == 2 and first.shape[1] == 1:
        return [
            points.histogram(f"{label}: {title}", real, [Line(label, colour, "-", array)], 0)
            for label, colour, array in samples
        ]
    if first.ndim == 2:
        plane = plane or plane_of(first if real is None else real)
        return [points.scatter(f"{label}: {title}", real, array, colour, plane) for label, colour, array in samples]
    strips: list[Strip] = [("real test data", INK, real)] if real is not None else []
    about = f"Strips of {pictures_in([*strips, *samples])} each, {title}"
    heading = title[0].upper() + title[1:]
    return sheets(heading, about, [*strips, *samples], limits_of(real), repeated=len(strips))


def trajectories(
    real: Array | None, chains: Sequence[tuple[str, str, Array, Array]], plane: Plane | None = None
) -> list[Panel]:
    """Panels of the guesses x_0_hat on the way from noise to sample: one for each of the first three starting noises.

    Each of `chains` holds a label, its colour, the guesses (k, n, ...) for n noises, and the k steps they were made at.
    Points have a panel for each chain instead, with the path of every guess, in `plane` or that of what there is.
    """
    first = chains[0][2]
    if first.ndim == 3:
        if first.shape[2] > 1:
            plane = plane or plane_of(first.reshape(-1, first.shape[2]) if real is None else real)
        return [points.paths(label, real, path, steps, colour, plane) for label, colour, path, steps in chains]
    panels = []
    for i in range(min(3, first.shape[1])):
        strips: list[Strip] = [(label, colour, path[:, i]) for label, colour, path, _ in chains]
        steps = [f"{t}" for t in chains[0][3]]
        about = f"The guess of x0 for noise {i + 1} at t = {', '.join(steps)}"
        panels += sheets(f"Noise {i + 1}", about, strips, limits_of(real), heads=[f"t={steps[0]}", *steps[1:]])
    return panels


def nearest_neighbours(
    samples: Sequence[Strip], train: Array, test: Array | None
) -> tuple[list[Panel], pd.DataFrame, dict[str, float]]:
    """What is nearest to samples in the training set: panels; the distances; and their medians by label.

    Images and series have a panel a cell with samples above their nearest training examples; points one panel with the
    distances of all cells. Distance is the root mean square over dims. The medians hold that of real test data too, as
    what to expect.
    """
    panels, data, medians, lines = [], [], {}, []
    for label, colour, array in samples:
        index, distance = _nearest(array, train)
        medians[label] = float(np.median(distance))
        lines.append((label, colour, distance))
        if train.ndim > 2:
            beside: list[Strip] = [(label, colour, array), ("nearest training example", INK, train[index])]
            about = f"Samples, and below each the nearest training example; median distance {medians[label]:.3g}"
            panels += sheets(label, about, beside, limits_of(train))
        rows = {"cell": label, "position": np.arange(len(array)), "nearest_train": index, "distance": distance}
        data.append(pd.DataFrame(rows))
    expected = None if test is None or not len(test) else _nearest(test, train)[1]
    if expected is not None:
        medians["real test data"] = float(np.median(expected))
    if train.ndim == 2:
        panels = [points.distances(lines, expected)]
    return panels, pd.concat(data), medians


def _nearest(array: Array, train: Array) -> tuple[NDArray[np.int64], Array]:
    """The training example nearest to each of `array`, and how far it is: the root mean square over dims.

    A few examples at a time, so that large images take no more memory than they have.
    """
    flat, others = array.reshape(len(array), -1), train.reshape(len(train), -1)
    squares = np.concatenate([np.sum(part**2, axis=1) for part in _parts(others)])
    index, distance = [], []
    for part in _parts(flat):
        product = np.concatenate([part @ other.T for other in _parts(others)], axis=1)
        nearest = np.argmin(squares - 2 * product, axis=1)
        index.append(nearest)
        # Afresh: the product form cancels near a copy.
        distance.append(np.sqrt(np.mean((part - others[nearest]) ** 2, axis=1)))
    return np.concatenate(index), np.concatenate(distance)


def _parts(flat: Array) -> Iterator[Array]:
    """The rows in float64, so many at a time that there are not much more than NEIGHBOURS_AT_ONCE values."""
    size = max(1, NEIGHBOURS_AT_ONCE // flat.shape[1])
    for start in range(0, len(flat), size):
        yield flat[start : start + size].astype(np.float64)
