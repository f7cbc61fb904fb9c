"""Images and series as strips of small pictures under each other, of a size that no shape of data can break.

Every limit on the size of a picture stands here. Images (n, H, W, C) are averaged over areas to at most MOST_SIDE
pixels a side, and those more than MOST_ASPECT times as long one way as the other are stretched to that. Of series
(n, L, C) longer than MOST_LINE, the lowest and highest value of each stretch is drawn. A sheet that would be higher
than TALLEST goes on in another panel.
"""

# ruff: noqa: RUF001
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from studies.reporting.numbers import count
from studies.reporting.plotting import FAINT, INK, WIDTH, Panel, bare, label_of

ACROSS = 10  # pictures in a strip: 34 px each, still legible on a phone
LABEL = 0.55  # height of a strip's label, in pictures of such a strip
GAP = 0.12  # between strips, likewise
MOST_SIDE = 64  # pixels of a picture, nearly two for each it has on the page
MOST_ASPECT = 4  # how many times a picture is as high as wide, or as wide as high
MOST_LINE = 200  # values of a series
MOST_CHANNELS = 4  # of an image, side by side where they are no colours
TALLEST = 1400  # of a panel, in CSS pixels: at two dots each, and three panels beside each other, 2040 x 2800

Array = NDArray[np.float64]
Strip = tuple[str, str, Array]  # label, its colour, (n, ...)
Limits = tuple[float, float]  # the values at the dark and at the light end


def across(shape: Sequence[int]) -> int:
    """How many pictures of examples of that shape a strip has: half as many of those much wider than high."""
    return ACROSS if _aspect(shape) >= 0.5 else ACROSS // 2


def drawn(array: Array) -> Array:
    """The examples (n, ...) with the values that a picture of each is drawn from: fewer where they are many."""
    if array.ndim == 4:
        array = array if array.shape[3] == 3 else array[..., :MOST_CHANNELS]
        for axis in (1, 2):
            array = _averaged(array, axis)
    elif array.ndim == 3 and array.shape[1] > MOST_LINE:
        array = _envelope(array)
    return array


def note(shape: Sequence[int], limits: Limits = (-1.0, 1.0)) -> str:
    """What is not in a picture of an example of that shape as it is in the data, in words; empty for most shapes."""
    words = []
    if len(shape) == 3:
        height, width, channels = shape
        if max(height, width) > MOST_SIDE:
            sides = " × ".join(str(min(side, MOST_SIDE)) for side in (height, width))
            words.append(f"Images of {height} × {width} pixels are averaged over areas to {sides}.")
        if _aspect(shape) in (MOST_ASPECT, 1 / MOST_ASPECT):
            long, short = ("high", "wide") if _aspect(shape) > 1 else ("wide", "high")
            words.append(f"Pictures of {height} × {width} are squeezed to {MOST_ASPECT} times as {long} as {short}.")
        if channels not in (1, 3):
            few = min(channels, MOST_CHANNELS)
            which = f"The first {few} of {channels}" if channels > few else f"The {few}"
            words.append(f"{which} channels stand side by side in grey.")
        if limits != (-1.0, 1.0):
            words.append(f"Black is {label_of(limits[0])} and white {label_of(limits[1])}.")
    elif len(shape) == 2 and shape[0] > MOST_LINE:
        words.append(f"Of the {shape[0]:,} values of a series, the lowest and highest of {MOST_LINE // 2} stretches.")
    return "".join(f" {sentence}" for sentence in words)


def limits_of(real: Array | None) -> Limits:
    """What is drawn black and white: -1 and 1, and further out where real data are."""
    if real is None or not real.size:
        return -1.0, 1.0
    return min(-1.0, float(real.min())), max(1.0, float(real.max()))


def sheets(
    title: str, about: str, strips: Sequence[Strip], limits: Limits, heads: Sequence[str] = (), repeated: int = 0
) -> list[Panel]:
    """Panels with the strips under each other; one where they fit, and as many as it takes of TALLEST otherwise.

    The first `repeated` strips stand on every panel. `heads` are written over the pictures of a strip, all of which
    are then drawn; without them a strip has `across` pictures. `about` begins the alternative text.
    """
    shape = strips[0][2].shape[1:]
    columns = len(heads) or min(across(shape), min(len(array) for _, _, array in strips))
    units = max(columns, ACROSS // 2)  # of the width; a few pictures are not blown up
    label, gap = LABEL * units / ACROSS, GAP * units / ACROSS
    tall = _aspect(shape)
    pitch, top = label + tall + gap, label if heads else 0.0
    first, rest = list(strips[:repeated]), list(strips[repeated:])
    room = max(1, int((TALLEST * units / WIDTH - top) / pitch) - repeated)
    parts = [first + rest[i : i + room] for i in range(0, len(rest), room)] or [first]
    panels = []
    for i, part in enumerate(parts):
        height = top + pitch * len(part)
        name = title if len(parts) == 1 else f"{title}, {i + 1} of {len(parts)}"
        alt = f"{about}, in rows: {', '.join(words for words, _, _ in part)}."

        def draw(ax: Axes, part: Sequence[Strip] = part, height: float = height) -> None:
            bare(ax)
            ax.set_xlim(0, units)
            ax.set_ylim(height, 0)
            ax.set_aspect("equal", anchor="NW")
            for j, head in enumerate(heads):
                ax.text(j + 0.5, top / 2, head, ha="center", va="center", size=9.5, color=FAINT)
            for k, (words, colour, array) in enumerate(part):
                y = top + k * pitch
                ax.plot(0.16 * units / ACROSS, y + label / 2, "s", color=colour, markersize=6)
                ax.text(0.36 * units / ACROSS, y + label / 2, words, va="center", size=10.5, color=INK)
                _draw_strip(ax, drawn(array[:columns]), y + label, tall, colour, limits)

        panels.append(Panel(name, alt, draw, height=round(height * WIDTH / units) + 4))
    return panels


def pictures_in(strips: Sequence[Strip]) -> str:
    """How many pictures a strip of these has, in words."""
    shown_each = min(across(strips[0][2].shape[1:]), min(len(array) for _, _, array in strips))
    return count(shown_each, "example")


def _aspect(shape: Sequence[int]) -> float:
    """Height over width of a picture, within MOST_ASPECT either way; a series' is a square."""
    if len(shape) != 3:
        return 1.0
    height, width, channels = shape
    rows, columns = _tiles(channels)
    return min(MOST_ASPECT, max(1 / MOST_ASPECT, height * rows / (width * columns)))


def _tiles(channels: int) -> tuple[int, int]:
    """Rows and columns of the channels of an image that are drawn."""
    few = 1 if channels in (1, 3) else min(channels, MOST_CHANNELS)
    columns = math.ceil(math.sqrt(few))
    return math.ceil(few / columns), columns


def _averaged(array: Array, axis: int) -> Array:
    """The mean over MOST_SIDE equal lengths of a longer axis, values at their edges by the share within."""
    size = array.shape[axis]
    if size <= MOST_SIDE:
        return array
    ends = np.arange(MOST_SIDE + 1) * size / MOST_SIDE
    index = np.arange(size)
    overlap = np.minimum(ends[1:, None], index + 1) - np.maximum(ends[:-1, None], index)
    weights = np.clip(overlap, 0, None) * MOST_SIDE / size
    whole = np.nan_to_num(np.asarray(array, dtype=np.float64))  # one NaN would spread over the picture
    return np.moveaxis(np.tensordot(weights, whole, axes=(1, axis)), 0, axis)


def _envelope(array: Array) -> Array:
    """The lowest and the highest of each of MOST_LINE / 2 stretches along a series, after each other."""
    ends = np.rint(np.linspace(0, array.shape[1], MOST_LINE // 2 + 1)).astype(int)
    lows, highs = (edge.reduceat(array, ends[:-1], axis=1) for edge in (np.minimum, np.maximum))
    return np.stack([lows, highs], axis=2).reshape(len(array), -1, array.shape[2])


def _draw_strip(ax: Axes, array: Array, y: float, tall: float, colour: str, limits: Limits) -> None:
    if array.ndim == 4:
        for j, image in enumerate(array):
            extent = (j + 0.05, j + 0.95, y + 0.95 * tall, y + 0.05 * tall)
            pixels = _pixels(image, limits)
            ax.imshow(pixels, extent=extent, interpolation="none", cmap="gray", vmin=0, vmax=1, aspect="auto")
        return
    finite = array[np.isfinite(array)]
    low, high = float(finite.min(initial=-1.0)), float(finite.max(initial=1.0))
    marker = "o" if array.shape[1] == 1 else ""
    for j, series in enumerate(array):
        x = j + 0.08 + 0.84 * (np.linspace(0, 1, len(series)) if len(series) > 1 else np.array([0.5]))
        for channel in series.T:
            height = np.where(np.isfinite(channel), y + 0.05 + 0.9 * (high - channel) / (high - low), np.nan)
            ax.plot(x, height, color=colour, linewidth=1.1, marker=marker, markersize=4)


def _pixels(image: Array, limits: Limits) -> Array:
    """The image as matplotlib shows it, in [0, 1] and clipped for display only: (H, W, 3), or grey (H, W).

    Where the channels are no colours, the first few stand side by side in grey, with a line of paper between.
    """
    low, high = limits
    scaled = np.clip((np.nan_to_num(np.asarray(image, dtype=np.float64)) - low) / (high - low), 0, 1)
    height, width, channels = scaled.shape
    if channels in (1, 3):
        return scaled if channels == 3 else scaled[..., 0]
    rows, columns = _tiles(channels)
    thick = (max(1, 2 * rows * height // MOST_SIDE), max(1, 2 * columns * width // MOST_SIDE))
    sheet = np.full((rows * (height + thick[0]) - thick[0], columns * (width + thick[1]) - thick[1]), np.nan)
    for i in range(min(channels, MOST_CHANNELS)):
        top, left = (i // columns) * (height + thick[0]), (i % columns) * (width + thick[1])
        sheet[top : top + height, left : left + width] = scaled[..., i]
    return sheet
