"""The figure of where in t the bound is spent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from studies.reporting.contrasts import by_cell, contrast
from studies.reporting.figures.coinciding import coinciding
from studies.reporting.last_step import at_last_step
from studies.reporting.names import name_of
from studies.reporting.plotting import INK, Panel, Plot, label_of, linear_axis, log_axis, positive_axis
from studies.reporting.view import View


def spent_by_t(view: View) -> Plot | None:
    """Where in t the bound is spent, and where the recipes differ."""
    tables = tables_by_t(view)
    if not tables:
        return None
    per_step, running = tables["per step"], tables["running total"]
    last = int(per_step["t_last"].max())
    panels = [
        Panel(
            "Running total from t = 1, bits/dim",
            "The bound summed from step 1 up to t, against t on a log scale. "
            + "; ".join(
                f"{view.name(*key)}: {label_of(group['value'].iloc[0])} at t = {group['t'].iloc[0]},"
                f" {label_of(group['value'].iloc[-1])} at t = {group['t'].iloc[-1]}"
                for key, group in running.groupby(["recipe", "backend"], sort=False)
            )
            + ".",
            _draw_by_t(view, running.assign(t_last=running["t"]), last, logarithmic=False),
        )
    ]
    if (difference := tables.get("running difference")) is not None:
        reference = name_of(view.recipes[0])
        panels.append(
            Panel(
                f"Difference to {reference}, bits/dim",
                f"Running total of each recipe less that of {reference}, with 95 % intervals, against t. "
                + "; ".join(
                    f"{name_of(recipe)} ends at {label_of(group['value'].iloc[-1])}"
                    for recipe, group in difference.groupby("recipe", sort=False)
                )
                + ".",
                _draw_difference(view, difference, last),
            )
        )
    panels.append(
        Panel(
            "Bound of a single step, bits/dim",
            "The mean of the bound's term at each step, log against log: it falls as t rises.",
            _draw_by_t(view, per_step, last, logarithmic=True),
        )
    )
    if (mse := tables.get("epsilon MSE")) is not None:
        panels.append(
            Panel(
                "Test epsilon MSE at t, per dim",
                "Test epsilon MSE against t, log against log: noise is hardest to tell at small t.",
                _draw_by_t(view, mse, last, logarithmic=True),
            )
        )
    return Plot(
        "bound-by-t",
        "Where in t the bound is spent",
        f"t = 1 is the decoder term, t = T {at_last_step(view.run)}; t is on a log scale. The running total ends at the"
        " bound less its prior term; the running difference shows which steps make one bound lower than the other, with"
        f" 95 % intervals (paired by seed{', pooled over frameworks' if len(view.backends) > 1 else ''})."
        + coinciding(view, running, "value", ["t"]),
        panels,
        pd.concat([table.assign(panel=panel) for panel, table in tables.items()]),
        view.keys(),
    )


def tables_by_t(view: View) -> dict[str, pd.DataFrame]:
    """What is drawn, by panel: those that the run has the rows for; none where the bound was not measured by t."""
    per_step = _mean_at_t(view, "bound_at_t")
    if per_step.empty:
        return {}
    tables = {
        "per step": per_step,
        "running total": view.by_t.groupby(["recipe", "backend", "t"], sort=False)["value"].mean().reset_index(),
        "running difference": _running_difference(view.by_t, view),
        "epsilon MSE": _mean_at_t(view, "epsilon_mse_at_t"),
    }
    return {panel: table for panel, table in tables.items() if not table.empty}


def _mean_at_t(view: View, metric: str) -> pd.DataFrame:
    mean = (
        view.of_metric(metric).groupby(["recipe", "backend", "t", "t_last"], sort=False)["value"].mean().reset_index()
    )
    return mean.sort_values("t")


def _running_difference(total: pd.DataFrame, view: View) -> pd.DataFrame:
    """Each recipe's running total less the first one's: columns recipe, t, value, low, high."""
    parts = []
    reference = view.recipes[0]
    for t, at_t in total.groupby("t"):
        table = by_cell(at_t, total)
        for recipe in view.recipes[1:]:
            if (difference := contrast(table, "recipe", recipe, reference)) is not None:
                interval = difference.interval()
                parts.append(
                    {"recipe": recipe, "t": t, "value": interval.estimate, "low": interval.low, "high": interval.high}
                )
    return pd.DataFrame(parts)


def _draw_by_t(view: View, table: pd.DataFrame, last: int, logarithmic: bool) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for (recipe, backend), group in table.groupby(["recipe", "backend"], sort=False):
            middle = np.sqrt(group["t"] * group["t_last"])
            ax.plot(middle, group["value"], **view.line(recipe, backend, len(group)))
        log_axis(ax, "x", 1, max(last, 2))
        ax.set_xlabel("t")
        if logarithmic:
            positive_axis(ax, table["value"].to_numpy())
        else:
            linear_axis(ax, "y")
            ax.set_ylim(bottom=min(0, float(table["value"].min())))

    return draw


def _draw_difference(view: View, difference: pd.DataFrame, last: int) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        ax.axhline(0, color=INK, linewidth=1)
        for recipe, group in difference.groupby("recipe", sort=False):
            colour = view.colour(recipe)
            if np.all(np.isfinite(group[["low", "high"]])):
                ax.fill_between(group["t"], group["low"], group["high"], color=colour, alpha=0.18, linewidth=0)
            ax.plot(group["t"], group["value"], color=colour, linestyle=view.dash(recipe))
        log_axis(ax, "x", 1, max(last, 2))
        linear_axis(ax, "y")
        ax.set_xlabel("t")

    return draw
