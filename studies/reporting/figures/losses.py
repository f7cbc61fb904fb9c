"""The figure of both losses over training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from studies.metrics.vocabulary import VOCABULARY, title_of
from studies.reporting.figures.coinciding import coinciding
from studies.reporting.plotting import Panel, Plot, label_of, linear_axis, positive_axis
from studies.reporting.view import View


def losses(view: View) -> Plot | None:
    """Epsilon MSE and posterior KL over training: both are measured in every cell, whichever it was trained on."""
    table = loss_curves(view)
    if table.empty:
        return None
    return Plot(
        "losses",
        "Both losses during training",
        "Each cell is trained on one loss; both are measured. Lines are means over seeds of the mean since the last"
        " point, bands run from the lowest seed to the highest. The KL is T times the mean over uniform t: an"
        " estimate of the training-set bound without its prior term."
        + coinciding(view, table, "mean", ["metric", "step"]),
        [_panel(view, str(metric), curves) for metric, curves in table.groupby("metric", sort=False)],
        table,
        view.keys(),
    )


def loss_curves(view: View) -> pd.DataFrame:
    """Each loss by training step, over seeds: columns recipe, backend, step, mean, min, max, count, metric."""
    tables = []
    for metric in ("train_epsilon_mse", "train_posterior_kl"):
        rows = view.of_metric(metric)
        by_step = rows[np.isfinite(rows["value"])].groupby(["recipe", "backend", "step"], sort=False)["value"]
        table = by_step.agg(["mean", "min", "max", "count"]).reset_index().sort_values("step")
        tables.append(table.assign(metric=metric))
    return pd.concat([table for table in tables if not table.empty] or tables[:1])


def _panel(view: View, metric: str, curves: pd.DataFrame) -> Panel:
    title = f"{title_of(metric)}, {VOCABULARY[metric].unit}"
    ends = "; ".join(
        f"{view.name(*key)} ends at {label_of(group['mean'].iloc[-1])}"
        for key, group in curves.groupby(["recipe", "backend"], sort=False)
    )
    return Panel(title, f"{title} against training steps. {ends}.", _draw_curves(view, curves))


def _draw_curves(view: View, summary: pd.DataFrame) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for (recipe, backend), group in summary.groupby(["recipe", "backend"], sort=False):
            colour = view.colour(recipe)
            ax.fill_between(group["step"], group["min"], group["max"], color=colour, alpha=0.18, linewidth=0)
            ax.plot(group["step"], group["mean"], **view.line(recipe, backend, len(group)))
        positive_axis(ax, summary[["min", "max"]].to_numpy())
        ax.set_xlabel("training step")
        linear_axis(ax, "x")
        ax.set_xlim(left=0)

    return draw
