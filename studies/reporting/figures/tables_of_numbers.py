"""The figures of points, tables of numbers: the marginal of every column, columns in pairs, and the first moments."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from studies.metrics.moments import MomentErrors, Moments, errors_between, moments
from studies.reporting.names import sampler_name
from studies.reporting.numbers import count
from studies.reporting.plotting import FAINT, INK, Key, Panel, Plot, Table, label_of, linear_axis, rows_axis
from studies.reporting.points import MOST_PAIRED, Line, bins_of, coordinates, histogram, leading_columns, pairs, shares
from studies.reporting.view import View, cells_with_samples

MOST_MARGINALS = 12  # columns with a histogram
MOST_LINES = 6  # recipes and frameworks in one panel
MOST_CORRELATED = 300  # columns whose correlations are compared
MOST_MARKS = 400  # in the row of a recipe and framework

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Drawn:
    """The samples (n, D) of one recipe and framework, and its look."""

    recipe: Hashable
    backend: Hashable
    label: str
    colour: str
    samples: Array


def marginals(view: View) -> Plot | None:
    """A histogram of every column, or of those of the largest variance: test data, and the samples of every recipe."""
    test, cells, sampler = _points(view)
    if test is None or not cells or test.shape[1] < 3:  # fewer are seen whole in the samples
        return None
    columns, few = leading_columns(test, MOST_MARGINALS), cells[:MOST_LINES]
    lines = [Line(cell.label, cell.colour, view.dash(cell.recipe), cell.samples) for cell in few]
    data = []
    least = min(len(cell.samples) for cell in few)
    for column in columns:
        edges = bins_of(test[:, column], least)
        for label, array in [("real test data", test), *((cell.label, cell.samples) for cell in cells)]:
            bins = {"column": column, "cell": label, "bin_from": edges[:-1], "bin_to": edges[1:]}
            data.append(pd.DataFrame({**bins, "share": shares(array[:, column], edges)}))
    return Plot(
        "marginals",
        "Every column by itself" if len(columns) == test.shape[1] else "Leading columns by themselves",
        f"Seed {view.shown_seed}, {sampler}. {_which(columns, test.shape[1])} Grey is filled by {len(test)} real test"
        " examples, lines are samples; the outermost bins hold all that is beyond them. A line above the grey where"
        " grey is low is a value that samples take too often, one below it a value they miss."
        f"{_of_cells(cells)}",
        [histogram(f"column {column}", test, lines, int(column)) for column in columns],
        pd.concat(data),
        [Key(cell.label, cell.colour, view.dash(cell.recipe)) for cell in few],
    )


def in_pairs(view: View) -> Plot | None:
    """The leading columns against each other, real data and samples, a panel a recipe and framework."""
    test, cells, sampler = _points(view)
    if test is None or not cells or test.shape[1] < 3:
        return None
    columns = leading_columns(test, MOST_PAIRED)
    names = {f"x_{i}": f"column_{column}" for i, column in enumerate(columns)}
    data = [
        coordinates(array[:, columns], None).rename(columns=names).assign(cell=label)
        for label, array in [("real test data", test), *((cell.label, cell.samples) for cell in cells)]
    ]
    return Plot(
        "pairs",
        "Columns in pairs",
        f"Seed {view.shown_seed}, {sampler}. {_which(columns, test.shape[1])} Grey dots are real test data. Frames are"
        " those of the real data, each column on its own scale; samples outside are cut off. Samples where there is no"
        " grey, or grey without samples, is structure that each column by itself does not show.",
        [pairs(cell.label, test, cell.samples, cell.colour, [int(column) for column in columns]) for cell in cells],
        pd.concat(data),
    )


def first_moments(view: View) -> Plot | None:
    """How far means, deviations, skewness and correlations of samples are from the test data's, column by column."""
    test, cells, sampler = _points(view)
    train = view.run.reference.get("train")
    if test is None or not cells or len(test) < 2:
        return None
    columns = np.sort(leading_columns(test, MOST_CORRELATED))
    of_test = moments(test[:, columns])
    if not of_test.varies.any():
        return None
    compared = [] if train is None else [Drawn(None, None, f"training data ({len(train)})", FAINT, train)]
    of_cells = [(cell, moments(cell.samples[:, columns].astype(np.float64))) for cell in [*compared, *cells]]
    errors = [(cell, errors_between(of_cell, of_test)) for cell, of_cell in of_cells]
    panels = [_panel(part, [(cell, part.of(error)) for cell, error in errors]) for part in _PARTS]
    still = int(np.sum(~of_test.varies))
    return Plot(
        "moments",
        "Moments of every column",
        f"Seed {view.shown_seed}, {sampler}, against {len(test)} real test examples. A mark is a column, or, of"
        " correlations, a pair of columns; the dashed line is no error. As far as the training data are off, it is"
        " chance (less of it with more samples, more with fewer). Read from the left: a mean that is off is a shifted"
        " column; a factor below 1 a column with too little spread, as of samples that miss its rare values; skewness"
        " that is off, a wrong shape; correlations that are off, columns that are right by themselves and wrong"
        " together. The table has the mark that is farthest off. Triangles at the edge are beyond it."
        f"{_left_out(still, len(columns))}{_most_correlated(test.shape[1])}",
        [panel for panel in panels if panel is not None],
        pd.concat([_rows(cell, columns, of_cell, of_test) for cell, of_cell in of_cells]),
        table=_table([(cell.label, error) for cell, error in errors], columns),
    )


def _points(view: View) -> tuple[Array | None, list[Drawn], str]:
    """Real test data (m, D), the finite samples of every cell by one sampler, and its name in words; of points alone.

    The sampler is the one that the verdict speaks of, or the first that a cell has.
    """
    test = view.run.reference.get("test")
    if test is None or test.ndim != 2:
        return None, [], ""
    drawn, named = [], ""
    for recipe, backend in view.groups():
        for (label, colour), arrays in cells_with_samples(view, [(recipe, backend)]):
            sampler = view.main_sampler
            name = sampler if sampler in arrays else next((key for key in arrays if "/" not in key), None)
            if name is not None and len(arrays[name]) > 1 and np.all(np.isfinite(arrays[name])):
                drawn.append(Drawn(recipe, backend, label, colour, arrays[name].astype(np.float64)))
                named = named or sampler_name(name)
    return test.astype(np.float64), drawn, named


def _which(columns: NDArray[np.int64], width: int) -> str:
    if len(columns) == width:
        return f"All {count(width, 'column')}, counted from 0." if width > 1 else "The one column."
    return f"The {len(columns)} of {width:,} columns, counted from 0, of the largest variance in the test data."


def _of_cells(cells: list[Drawn]) -> str:
    if len(cells) <= MOST_LINES:
        return ""
    return f" The first {MOST_LINES} of {len(cells)} recipes and frameworks are drawn; the data have all."


def _most_correlated(width: int) -> str:
    if width <= MOST_CORRELATED:
        return ""
    return f" Of {width:,} columns, the {MOST_CORRELATED} of the largest variance in the test data are compared."


def _left_out(still: int, columns: int) -> str:
    if not still:
        return ""
    return f" Left out: {still} of {count(columns, 'column')}, constant in the test data."


@dataclass(frozen=True)
class Part:
    """A moment as a panel shows it: its errors, in `words`, of what; `ratio` where no error is 1 rather than 0."""

    title: str
    words: str
    of: Callable[[MomentErrors], Array]
    ratio: bool = False


_PARTS = (
    Part("Mean", "samples − test data, in standard deviations", lambda errors: errors.mean),
    Part("Standard deviation", "samples ÷ test data", lambda errors: errors.deviation, ratio=True),
    Part("Skewness", "samples − test data", lambda errors: errors.skewness),
    Part("Correlation", "samples − test data", lambda errors: errors.correlation),
)


def _panel(part: Part, rows: list[tuple[Drawn, Array]]) -> Panel | None:
    """A row of marks a cell; None where there is nothing to compare, as of correlations of one column."""
    zero = 1.0 if part.ratio else 0.0
    off = [np.abs(values[np.isfinite(values)] - zero) for _, values in rows]
    if not any(len(sizes) for sizes in off):
        return None
    largest = np.array([sizes.max() for sizes in off if len(sizes)])
    reach = 1.15 * min(largest.max(), 5 * float(np.median(largest))) or 0.1

    def draw(ax: Axes) -> None:
        ax.axvline(zero, color=INK, linestyle="--", linewidth=1.1)
        across = ax.get_yaxis_transform()
        for i, (cell, values) in enumerate(rows):
            finite = np.sort(values[np.isfinite(values)])
            finite = finite[np.unique(np.linspace(0, len(finite) - 1, min(len(finite), MOST_MARKS)).astype(int))]
            within = finite[np.abs(finite - zero) <= reach]
            alpha = 0.25 if len(finite) > 100 else 0.6
            ax.plot(within, [-i] * len(within), "|", color=cell.colour, markersize=9, markeredgewidth=1.4, alpha=alpha)
            for side, marker in ((-1, "<"), (1, ">")):
                if np.any(side * (finite - zero) > reach):
                    ax.plot(zero + side * reach, -i, marker, color=cell.colour, markersize=6)
            ax.text(0, -i + 0.32, cell.label, transform=across, size=9.5, color=FAINT, va="bottom")
        low = max(zero - 1.03 * reach, -0.03 * reach) if part.ratio else zero - 1.03 * reach  # no ratio is below 0
        ax.set_xlim(low, zero + 1.03 * reach)
        ax.set_ylim(-len(rows) + 0.4, 0.95)
        rows_axis(ax)
        linear_axis(ax, "x")
        ax.set_xlabel(part.words)

    spoken = "; ".join(
        f"{cell.label} {label_of(float(sizes.max()))}" for (cell, _), sizes in zip(rows, off, strict=True) if len(sizes)
    )
    alt = f"{part.title} of every column, {part.words}; farthest off: {spoken}."
    return Panel(part.title, alt, draw, height=44 + 34 * len(rows))


def _rows(cell: Drawn, columns: NDArray[np.int64], of_cell: Moments, of_test: Moments) -> pd.DataFrame:
    """The moments behind the marks, a row a column; of correlations, the error that is largest in the column."""
    errors = errors_between(of_cell, of_test)
    off = np.full((len(columns), len(columns)), np.nan)
    off[np.triu_indices(len(columns), 1)] = np.abs(errors.correlation)
    off = np.fmax(off, off.T)
    return pd.DataFrame(
        {
            "cell": cell.label, "column": columns, "mean": of_cell.mean, "test_mean": of_test.mean,
            "standard_deviation": of_cell.deviation, "test_standard_deviation": of_test.deviation,
            "skewness": of_cell.skewness, "test_skewness": of_test.skewness,
            "mean_error_in_deviations": errors.mean, "deviation_factor": errors.deviation,
            "skewness_error": errors.skewness, "largest_correlation_error": np.fmax.reduce(off, axis=1),
        }
    )  # fmt: skip


def _table(errors: list[tuple[str, MomentErrors]], columns: NDArray[np.int64]) -> Table:
    """The largest errors of every cell, and in which column."""
    heads = (
        ("Samples", ""),
        ("Mean", "largest error, in standard deviations"),
        ("Standard deviation", "factor farthest from 1"),
        ("Skewness", "largest error"),
        ("Correlation", "largest error"),
        ("Correlation", "root mean square error"),
    )
    rows = []
    for label, error in errors:
        with np.errstate(divide="ignore"):
            factor = np.abs(np.log(error.deviation))
        rows.append(
            (
                label,
                _largest(error.mean, np.abs(error.mean), columns),
                _largest(error.deviation, factor, columns),
                _largest(error.skewness, np.abs(error.skewness), columns),
                _largest(error.correlation, np.abs(error.correlation), None),
                _root_mean_square(error.correlation),
            )
        )
    return Table("Moments of samples against those of the test data", heads, tuple(rows))


def _largest(values: Array, size: Array, columns: NDArray[np.int64] | None) -> tuple[str, str]:
    """The value of the largest size, and its column in words; the pair of a correlation stays unnamed."""
    if not np.any(~np.isnan(size)):
        return "–", ""
    place = int(np.nanargmax(size))
    where = f"column {columns[place]}" if columns is not None and len(columns) > 1 else ""
    return label_of(float(values[place])), where


def _root_mean_square(values: Array) -> tuple[str, str]:
    finite: Any = values[np.isfinite(values)]
    return (label_of(float(np.sqrt(np.mean(finite**2)))), "") if len(finite) else ("–", "")
