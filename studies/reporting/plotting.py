"""How figures are drawn: panels as wide as a phone, one theme, files for papers and images for a page.

A figure is a row of panels. On the page every panel is an image of its own, so that they stack on a phone and stand
side by side on a desk; in the files they are one figure. No pyplot, no global state; the same data give the same bytes.

Text stays text in the SVG and is set in the reader's sans-serif. Layout is measured in DejaVu Sans, which is wider
than the usual ones, so nothing collides.
"""

# ruff: noqa: RUF001
from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from backends.whole_files import write_whole
from studies.reporting.numbers import plain
from studies.store.files import write_text

WIDTH = 340  # of a panel, in CSS pixels; at 72 dots per inch a point is one of them

INK, FAINT, GRID, PAPER = "#1d2125", "#5f676e", "#dfe3e6", "#fefefd"
# The hues of Okabe & Ito (2008), https://jfly.uni-koeln.de/color/, blue and green darker, and purple for sky blue, so
# that no two have the same grey on paper.
PALETTE = ("#004c8c", "#d55e00", "#00795a", "#cc79a7", "#e69f00", "#5b1a6e")
# Shares of a whole: not recipes, so no hue of theirs.
PARTS = ("#39424a", "#8c96a0", "#c3cad1", "#a98f5c", "#6f5d36", "#d3bf92")
DARK = {
    INK: "#e6e9ec",
    FAINT: "#a3acb4",
    GRID: "#363c42",
    PAPER: "#14171a",
    "#004c8c": "#45a1e0",
    "#d55e00": "#f2803c",
    "#00795a": "#2fbd90",
    "#5b1a6e": "#b98be0",
    "#39424a": "#dfe4e8",
    "#8c96a0": "#8f99a3",
    "#c3cad1": "#535c65",
}
# A line style for each hue, so that lines are told apart without it.
DASHES: tuple[Any, ...] = (
    "-", (0, (4, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)), (0, (9, 2)), (0, (4, 1.5, 1.2, 1.5, 1.2, 1.5)),
)  # fmt: skip
# Of what is no recipe: a floor, a start, what is compared with.
REFERENCE_DASH = (0, (0.8, 2.4))
MARKERS = ("o", "s", "^", "D", "v", "P")
MARKER_PATHS = {
    "o": "M1 6a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    "s": "M1.5 1.5h9v9h-9z",
    "^": "M6 1l5.5 10h-11z",
    "D": "M6 0.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
    "v": "M0.5 1h11l-5.5 10z",
    "P": "M4 0.5h4v3.5h3.5v4h-3.5v3.5h-4v-3.5h-3.5v-4h3.5z",
}
MARKS_ON_A_LINE = 5


def line_look(recipe: int, framework: int, points: int) -> dict[str, Any]:
    """How matplotlib draws the line of the recipe and framework at these places, through so many points.

    The recipe has the colour and the line style, the framework the mark: filled the first, hollow the others. Marks
    stand at other points for each framework, so that both are seen where their lines coincide.
    """
    colour, every = PALETTE[recipe % len(PALETTE)], max(2, points // MARKS_ON_A_LINE)
    return {
        "color": colour,
        "linestyle": DASHES[recipe % len(DASHES)],
        "marker": MARKERS[framework % len(MARKERS)],
        "markevery": ((every // 2 + framework * every // 2) % max(1, points), every),
        "markersize": 5,
        "markerfacecolor": colour if framework == 0 else PAPER,
    }


STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelcolor": FAINT,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "diffusion-objectives",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Panel:
    """One plot: `draw` fills an Axes, `alt` says in words what there is to see; `height` and `width` in pixels."""

    title: str
    alt: str
    draw: Callable[[Axes], None]
    height: int = 250
    width: int = WIDTH


@dataclass(frozen=True)
class Key:
    """An entry of the legend: a colour (swatch), a line style (of `DASHES`, or `REFERENCE_DASH`), or a marker."""

    label: str
    colour: str = FAINT
    dash: Any = None
    marker: str | None = None
    hollow: bool = False

    @property
    def dark(self) -> str:
        return DARK.get(self.colour, self.colour)

    @property
    def dash_array(self) -> str:
        """The line style as an SVG line's `stroke-dasharray`."""
        return "none" if isinstance(self.dash, str) else " ".join(str(2 * x) for x in self.dash[1])

    @property
    def marker_path(self) -> str:
        """The marker as an SVG path in a box of 12 by 12."""
        return MARKER_PATHS[self.marker or "o"]


@dataclass(frozen=True)
class Table:
    """Numbers in words under a figure: each head, and each cell of a row after its name, has a small note or none."""

    label: str
    heads: Sequence[tuple[str, str]]
    rows: Sequence[tuple[Any, ...]]  # its name, then (text, note) for each further head


@dataclass(frozen=True, eq=False)
class Plot:
    """A figure: the name of its files, a title that says what it shows, a caption, panels and the data behind them."""

    name: str
    title: str
    caption: str
    panels: Sequence[Panel]
    data: pd.DataFrame
    keys: Sequence[Key] = field(default_factory=tuple)
    table: Table | None = None


@dataclass(frozen=True)
class Image:
    """A panel as data URIs, light and dark, with its size in pixels."""

    title: str
    alt: str
    light: str
    dark: str
    width: int
    height: int


@contextmanager
def style() -> Iterator[None]:
    with matplotlib.rc_context(STYLE):
        yield


def images(plot: Plot) -> list[Image]:
    """The images of a figure's panels, for the page."""
    return [_image(panel) for panel in plot.panels]


def save(plot: Plot, folder: Path) -> None:
    """Writes NAME.png, .pdf, .svg and .csv, each whole or not at all."""
    write_text(folder / f"{plot.name}.csv", plot.data.to_csv(index=False))
    with style():
        figure = _composite(plot)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once is enough for three files
        _write_figure(figure, folder / f"{plot.name}.svg", metadata={"Date": None})
        _write_figure(figure, folder / f"{plot.name}.pdf", metadata={"CreationDate": None})
        _write_figure(figure, folder / f"{plot.name}.png", dpi=144)


def _write_figure(figure: Figure, path: Path, **options: Any) -> None:
    def write(file: BinaryIO) -> None:
        figure.savefig(file, format=path.suffix[1:], facecolor="white", **options)

    write_whole(path, write)


def _image(panel: Panel) -> Image:
    with style():
        layout = ConstrainedLayoutEngine(w_pad=2 / 72, h_pad=2 / 72)
        figure = Figure(figsize=(panel.width / 72, panel.height / 72), layout=layout)
        panel.draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    light = _lean(buffer.getvalue())
    dark = re.sub("|".join(DARK), lambda matched: DARK[matched.group()], light)
    return Image(panel.title, panel.alt, _uri(light), _uri(dark), panel.width, panel.height)


def pixels(panel: Panel) -> NDArray[np.uint8]:
    """A panel as a picture (H, W, 3), on white."""
    with style():
        layout = ConstrainedLayoutEngine(w_pad=2 / 72, h_pad=2 / 72)
        figure = Figure(figsize=(panel.width / 72, panel.height / 72), dpi=144, layout=layout, facecolor="white")
        panel.draw(figure.subplots())
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _lean(svg: str) -> str:
    """The <svg> element without what the page does not need, its text in the reader's own font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    return re.sub(r">\s+<", "><", svg)


def _uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _composite(plot: Plot) -> Figure:
    panels = list(plot.panels)
    wide = max(panel.width for panel in panels)
    columns = min(3 * WIDTH // wide, len(panels))
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [max(panel.height for panel in row) + 24 for row in rows]
    size = (columns * wide / 72, (sum(heights) + 30) / 72)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for ax, panel in zip(axes.flat, panels, strict=False):
        panel.draw(ax)
        # About 8.2 pixels a character at size 12: a longer title is set smaller, so as not to run into its neighbour.
        ax.set_title(panel.title, size=12 * min(1, panel.width / (8.2 * len(panel.title))))
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    if plot.keys:
        handles = [_handle(key) for key in plot.keys]
        per_column = 1 if max(len(key.label) for key in plot.keys) > 20 else 2  # entries beside each other in a panel
        figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), per_column * columns))
    return figure


def _handle(key: Key) -> Patch | Line2D:
    if key.dash is not None:
        return Line2D([], [], color=key.colour, linestyle=key.dash, label=key.label)
    if key.marker is not None:
        face = PAPER if key.hollow else key.colour
        return Line2D(
            [], [], color=key.colour, linestyle="none", marker=key.marker, markerfacecolor=face, label=key.label
        )
    return Patch(color=key.colour, label=key.label)


def log_axis(ax: Axes, which: str, low: float, high: float) -> None:
    """A log axis from `low` to `high` with plain labels (0.01, 1, 1,000), few enough not to collide.

    A linear one where the values have no such range: all of them 0 or alike, or one too large for a float.
    """
    if not 0 < low < high < math.inf:
        linear_axis(ax, which)
        return
    axis = ax.xaxis if which == "x" else ax.yaxis
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    (ax.set_xlim if which == "x" else ax.set_ylim)(low, high)
    decades = math.log10(high / low)
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if decades < 0.8 else (1.0, 2.0, 5.0) if decades < 2.2 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_formatter(NullFormatter())


def linear_axis(ax: Axes, which: str, ticks: int = 5) -> None:
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def positive_axis(ax: Axes, values: NDArray[np.float64]) -> None:
    """A log y axis where all values are positive, else a linear one: the bound of a density can be negative."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low > 0 and high > low:
        log_axis(ax, "y", low / 1.1, high * 1.1)
    else:
        linear_axis(ax, "y")


def short(value: float) -> str:
    """A tick's label: 0.001, 20, 1,000, 1e−6, 2.5e−6."""
    if value == 0 or 1e-4 <= abs(value) < 1e5:
        return f"{value:,.10g}".replace("-", "−")
    digits, exponent = f"{value:.4e}".split("e")
    return f"{float(digits):g}e{int(exponent)}".replace("-", "−")


def bare(ax: Axes) -> None:
    """Hides axes and grid, under pictures."""
    ax.set_axis_off()
    ax.grid(False)


def rows_axis(ax: Axes) -> None:
    """Hides the y axis of a panel whose rows are labelled where they are drawn."""
    ax.set_yticks([])
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)


def label_of(value: float) -> str:
    return plain(value, 3)
