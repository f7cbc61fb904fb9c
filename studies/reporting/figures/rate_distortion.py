"""The figure of the bound read as a progressive code: distortion against rate, and both against t.

Ho et al. (2020), Fig. 5, from the rows of `studies.cell.rate_distortion`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from studies.reporting.plotting import Panel, Plot, label_of, linear_axis, log_axis
from studies.reporting.view import View

_BOTH = ("rate_at_t", "distortion_at_t")


def rate_and_distortion(view: View) -> Plot | None:
    """What the bits buy: how well x_0 is known for every rate, and at every t. None where the rows are missing."""
    curves = _curves(view.rows)
    if curves.empty:
        return None
    unit = str(view.of_metric("distortion_at_t")["unit"].iloc[0])
    ends = "; ".join(
        f"{view.name(*key)}: {label_of(group['distortion_at_t'].iloc[0])} after "
        f"{label_of(group['rate_at_t'].iloc[0])} bits/dim"
        for key, group in curves.groupby(["recipe", "backend"], sort=False)
    )
    last = int(curves["t"].max())
    panels = [
        Panel(
            "Distortion for a rate",
            f"Root mean square error of x_0 ({unit}) against bits per dim received: it falls as bits arrive. {ends}.",
            _draw(view, curves, "rate_at_t", "distortion_at_t", None),
        ),
        Panel(
            "Rate at t, bits/dim",
            "Bits per dim received once x_t is known, against t on a log scale: most arrive at small t.",
            _draw(view, curves, "t", "rate_at_t", last),
        ),
        Panel(
            f"Distortion at t ({unit})",
            "Root mean square error of x_0 made from x_t, against t, both on log scales: it grows with t.",
            _draw(view, curves, "t", "distortion_at_t", last),
        ),
    ]
    return Plot(
        "rate-distortion",
        "What the bits buy",
        "The bound read as a progressive code (Ho et al. 2020, sec. 4.3): the rate at t is all that has been sent when"
        f" x_t is known, the distortion the root mean square error ({unit}) of the x₀ made from it, not clipped. The"
        " bits left over, those of the decoder, bring the distortion from its last value to 0. Means over seeds.",
        panels,
        curves,
        view.keys(),
    )


def _curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds: columns recipe, backend, t (the middle of the run of steps), rate_at_t, distortion_at_t."""
    points = rows[rows["metric"].isin(_BOTH)]
    if points.empty:
        return pd.DataFrame(columns=["recipe", "backend", "t", *_BOTH])
    keys = ["recipe", "backend", "t", "t_last"]
    table = points.pivot_table(index=keys, columns="metric", values="value", sort=False).reset_index()
    table["t"] = np.sqrt(table["t"] * table.pop("t_last"))
    table.columns.name = None
    return table.sort_values("t", kind="stable").reset_index(drop=True)


def _draw(view: View, curves: pd.DataFrame, x: str, y: str, last: int | None) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for (recipe, backend), group in curves.groupby(["recipe", "backend"], sort=False):
            ax.plot(group[x], group[y], **view.line(recipe, backend, len(group)))
        if last is None:
            linear_axis(ax, "x")
            ax.set_xlim(left=0)
            ax.set_xlabel("rate, bits/dim")
        else:
            log_axis(ax, "x", 1, max(last, 2))
            ax.set_xlabel("t")
        positive = curves[y][np.isfinite(curves[y]) & (curves[y] > 0)]
        if y == "distortion_at_t" and len(positive) and positive.max() > positive.min():
            log_axis(ax, "y", positive.min() / 1.2, positive.max() * 1.2)
        else:
            linear_axis(ax, "y")
            ax.set_ylim(bottom=0)

    return draw
