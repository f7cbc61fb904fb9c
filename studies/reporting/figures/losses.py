"""The figure of both losses over training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from studies.metrics.vocabulary import VOCABULARY, title_of
from studies.reporting.plotting import DASHES, Panel, Plot, label_of, linear_axis, positive_axis
from studies.reporting.view import View


def losses(view: View) -> Plot | None:
    """Epsilon MSE and posterior KL over training: both are measured in every cell, whichever it was trained on."""
    panels, data = [], []
    for metric in ("train_epsilon_mse", "train_posterior_kl"):
        title = f"{title_of(metric)}, {VOCABULARY[metric].unit}"
        curves = view.of_metric(metric)
        curves = curves[np.isfinite(curves["value"])]
        if curves.empty:
            continue
        summary = curves.groupby(["recipe", "backend", "step"], sort=False)["value"].agg(
            ["mean", "min", "max", "count"]
        )
        summary = summary.reset_index().sort_values("step")
        data.append(summary.assign(metric=metric))
        ends = "; ".join(
            f"{view.name(*key)} ends at {label_of(group['mean'].iloc[-1])}"
            for key, group in summary.groupby(["recipe", "backend"], sort=False)
        )
        panels.append(Panel(title, f"{title} against training steps. {ends}.", _draw_curves(view, summary)))
    if not panels:
        return None
    return Plot(
        "losses",
        "Both losses during training",
        "Each cell is trained on one loss; both are measured. Lines are means over seeds of the mean since the last"
        " point, bands run from the lowest seed to the highest. The KL is T times the mean over uniform t: an"
        " estimate of the training-set bound without its prior term.",
        panels,
        pd.concat(data),
        view.keys(),
    )


def _draw_curves(view: View, summary: pd.DataFrame) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for (recipe, backend), group in summary.groupby(["recipe", "backend"], sort=False):
            colour = view.colour(recipe)
            ax.fill_between(group["step"], group["min"], group["max"], color=colour, alpha=0.18, linewidth=0)
            ax.plot(group["step"], group["mean"], color=colour, linestyle=DASHES[view.dash(backend) % len(DASHES)])
        positive_axis(ax, summary[["min", "max"]].to_numpy())
        ax.set_xlabel("training step")
        linear_axis(ax, "x")
        ax.set_xlim(left=0)

    return draw
