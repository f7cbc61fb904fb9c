"""The figure of what lies between two test examples, and the table of how near each came back to itself."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from studies.reporting.names import sampler_name
from studies.reporting.numbers import count
from studies.reporting.pictures import examples
from studies.reporting.plotting import FAINT, INK, PAPER, WIDTH, Panel, Plot, Table, label_of
from studies.reporting.points import Plane, frame, plane_of, say_outside
from studies.reporting.strips import Strip, limits_of, note, sheets
from studies.reporting.view import View
from studies.samplers.interpolation import Interpolations
from studies.store.sampler_chains import Chain

EVERY = 2  # of the mixes has a picture: with the two examples, eight in a strip

Drawn = tuple[str, str, Interpolations]  # label of a cell, its colour, what it made


def interpolations(view: View) -> Plot | None:
    """Pairs of test examples encoded, mixed and decoded, by every recipe and framework that was asked to."""
    drawn: list[Drawn] = []
    for recipe, backend in view.groups():
        cell = view.cell(recipe, backend)
        arrays = cell.interpolations() if cell is not None else {}
        if arrays:
            drawn.append((view.name(recipe, backend), view.colour(recipe), Interpolations.of_arrays(arrays)))
    if not drawn:
        return None
    pairs, steps = drawn[0][2].ends.astype(np.float64), drawn[0][2].steps
    test, shape = view.run.reference.get("test"), drawn[0][2].ends.shape[2:]
    plane = plane_of(pairs.reshape(-1, *shape) if test is None else test) if len(shape) == 1 else None
    return Plot(
        "interpolations",
        "Between two test examples",
        f"Seed {view.shown_seed}. {count(len(pairs), 'pair')} of the first test examples, encoded as x_T by DDIM run"
        f" backwards ({sampler_name(Chain('ddim', steps).name)}), mixed on the great circle between their latents and"
        " decoded by DDIM (Song et al. 2021, sec. 5.3). No noise is added, so all cells take the same examples and what"
        " is between them is each model’s own. A good model comes back to both examples, and each step between them"
        f" looks like data. {_layout(len(shape))}{note(shape, limits_of(test))}",
        _planar(drawn, test, plane) if plane is not None else _strips(drawn, test),
        pd.concat([_rows(label, made_by, plane) for label, _, made_by in drawn]),
        table=_table(drawn),
    )


def _layout(axes: int) -> str:
    if axes == 1:
        return "Grey dots are real test data, hollow ones the examples of each pair, joined by the way between them."
    return "Outermost are the examples themselves, next to each what it is decoded as (0 and 1), and the mixes between."


def _strips(drawn: Sequence[Drawn], test: NDArray[np.float64] | None) -> list[Panel]:
    panels, first = [], drawn[0][2]
    mixes = np.arange(0, len(first.shares), EVERY)
    heads = ["data", *(f"{share:.2g}" for share in first.shares[mixes]), "data"]
    for i in range(len(first.ends)):
        strips: list[Strip] = [
            (label, colour, np.concatenate([of.ends[i, :1], of.decoded[i, mixes], of.ends[i, 1:]]))
            for label, colour, of in drawn
        ]
        about = f"Pair {i + 1}: the first example, decoded mixes from 0 to 1, and the second example"
        panels += sheets(f"Pair {i + 1}", about, strips, limits_of(test), heads=heads)
    return panels


def _planar(drawn: Sequence[Drawn], test: NDArray[np.float64] | None, plane: Plane) -> list[Panel]:
    return [
        Panel(
            label,
            f"The way between the examples of {count(len(of.ends), 'pair')} by {label}, over real test data.",
            _draw(of, colour, test, plane),
            height=WIDTH,
        )
        for label, colour, of in drawn
    ]


def _draw(of: Interpolations, colour: str, test: NDArray[np.float64] | None, plane: Plane) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        if test is not None:
            ax.plot(*plane(test).T, ".", color=FAINT, markersize=5, alpha=0.4, markeredgewidth=0)
        for pair, way in zip(of.ends.astype(np.float64), of.decoded.astype(np.float64), strict=True):
            ax.plot(*plane(way).T, ".-", color=colour, markersize=7, linewidth=1.2, markeredgecolor=PAPER)
            ax.plot(*plane(pair).T, "o", color=INK, markersize=9, markerfacecolor="none")
        frame(ax, of.ends.reshape(-1, of.ends.shape[-1]).astype(np.float64) if test is None else test, plane)
        say_outside(ax, plane(of.decoded.reshape(-1, of.decoded.shape[-1]).astype(np.float64)), "mix", "mixes")

    return draw


def _rows(label: str, of: Interpolations, plane: Plane | None) -> pd.DataFrame:
    """What is drawn, a row a picture: the examples of a pair at `share` 0 and 1 as "data", what is decoded as such."""
    tables = []
    for i in range(len(of.ends)):
        for what, array, shares in (("data", of.ends[i], [0.0, 1.0]), ("decoded", of.decoded[i], of.shares)):
            table = examples(array, limit=len(array), plane=plane).drop(columns="position")
            table.insert(0, "share", shares)
            tables.append(table.assign(cell=label, pair=i + 1, what=what))
    return pd.concat(tables)


def _table(drawn: Sequence[Drawn]) -> Table:
    rows = [
        (label, (label_of(float(np.median(of.round_trip))), ""), (label_of(float(of.round_trip.max())), ""))
        for label, _, of in drawn
    ]
    unit = "root mean square over dims"
    return Table(
        "How far encoded examples come back from themselves",
        (("Encoded and decoded", ""), ("Median error", unit), ("Largest error", unit)),
        rows,
    )
