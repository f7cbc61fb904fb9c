"""The figure of how far the losses lie above the oracle's floor, by t, from the rows of `studies.cell.floors`."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from studies.reporting.plotting import INK, REFERENCE_DASH, Key, Panel, Plot, label_of, log_axis
from studies.reporting.view import View
from studies.statistics.intervals import mean_interval

DECADES = 6
"""Losses smaller than the largest by more are cut off."""
KNOWN = (
    "The floor is the loss of the exact denoiser of the density that the data were drawn from; losses are means over"
    " fresh draws from it. No network can be below the floor, and with enough data, size and training every one would"
    " come down to it."
)
OF_TRAINING_SET = (
    "The floor is the loss of the training set’s own denoiser, the exact minimiser of the training loss, and the losses"
    " here are those on training examples: a test loss may lie on either side of this floor. Where the floor is close"
    " to 0 it can be reached only by memorising the training set, so a gap there is no fault; at large t the gap is"
    " what training has left undone."
)


def above_floor(view: View) -> Plot | None:
    """The losses and their floor, and the difference for each loss. None where the rows are missing."""
    tables = tables_above_floor(view)
    if not tables:
        return None
    loss, floor, mse = (tables[name] for name in ("loss", "floor", "epsilon MSE above its floor"))
    panels = [
        Panel(
            "Epsilon MSE and its floor, per dim",
            f"Epsilon MSE of every recipe and its floor against t, log against log. {_ends(view, loss)}.",
            _draw(view, loss, floor),
        ),
        Panel(
            "Epsilon MSE above its floor, per dim",
            f"Epsilon MSE less its floor against t, with 95 % intervals, log against log. {_ends(view, mse)}.",
            _draw(view, mse),
        ),
    ]
    if (kl := tables.get("KL above its floor")) is not None:
        later = kl[kl["t"] > 1]
        panels.append(
            Panel(
                "KL of a step above its floor, bits/dim",
                "The bound’s term of a single step less its floor, from t = 2 on, with 95 % intervals, log against log."
                f" {_ends(view, later)}.",
                _draw(view, later),
            )
        )
    known = "entropy" in view.metrics
    return Plot(
        "above-floor",
        "How far above the least possible loss, by t",
        f"{KNOWN if known else OF_TRAINING_SET} Lines are means over seeds, bands their 95 % intervals."
        " Of the KL the decoder’s term, t = 1, is left out.",
        panels,
        pd.concat([table.assign(panel=name) for name, table in tables.items()], ignore_index=True),
        [*view.keys(), Key("floor", INK, dash=REFERENCE_DASH)],
    )


def tables_above_floor(view: View) -> dict[str, pd.DataFrame]:
    """The loss, its floor, and how far above it, by t: tables as of `_by_t` by name; none where rows are missing.

    Of the KL there is none where the run knows it only at t = 1, which is not drawn.
    """
    mse, kl = (_by_t(view, f"{loss}_above_floor_at_t") for loss in ("epsilon_mse", "bound"))
    floor = _by_t(view, "epsilon_mse_floor_at_t")
    if mse.empty or floor.empty:
        return {}
    keys = ["recipe", "backend", "t", "t_last"]
    loss = mse.merge(floor[[*keys, "value"]], on=keys, suffixes=("", "_floor"))
    loss = loss.assign(value=loss["value"] + loss["value_floor"], low=np.nan, high=np.nan)
    tables = {"loss": loss, "floor": floor, "epsilon MSE above its floor": mse}
    return tables | ({"KL above its floor": kl} if (kl["t"] > 1).any() else {})


def _by_t(view: View, metric: str) -> pd.DataFrame:
    """Means over seeds and their intervals: columns recipe, backend, t, t_last, value, low, high, standard_error."""
    parts = []
    keys = ["recipe", "backend", "t", "t_last"]
    for key, rows in view.of_metric(metric).groupby(keys, sort=False):
        finite = rows[np.isfinite(rows["value"])]
        if finite.empty:
            continue
        interval = mean_interval(finite["value"].to_numpy())
        whole = np.isfinite(interval.half_width)
        parts.append(
            {
                **dict(zip(keys, key, strict=True)),
                "value": interval.estimate,
                "low": interval.low if whole else np.nan,
                "high": interval.high if whole else np.nan,
                "standard_error": float(np.sqrt(np.mean(finite["standard_error"] ** 2) / len(finite))),
            }
        )
    columns = [*keys, "value", "low", "high", "standard_error"]
    return pd.DataFrame(parts, columns=columns).sort_values("t", kind="stable").reset_index(drop=True)


def _ends(view: View, table: pd.DataFrame) -> str:
    """Every line in words: its values at its first and at its last step."""
    return "; ".join(
        f"{view.name(*key)}: {label_of(group['value'].iloc[0])} at t = {group['t'].iloc[0]:.0f},"
        f" {label_of(group['value'].iloc[-1])} at t = {group['t_last'].iloc[-1]:.0f}"
        for key, group in table.groupby(["recipe", "backend"], sort=False)
    )


def _draw(view: View, table: pd.DataFrame, floor: pd.DataFrame | None = None) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        top = float(table["value"].max())
        least = max(top * 10.0**-DECADES, np.finfo(float).tiny)
        lowest = top
        for (recipe, backend), group in table.groupby(["recipe", "backend"], sort=False):
            middle, colour = np.sqrt(group["t"] * group["t_last"]), view.colour(recipe)
            visible = group["value"].where(group["value"] > least)
            lowest = min(lowest, float(visible.min()) if visible.notna().any() else top)
            ax.fill_between(middle, group["low"].clip(least), group["high"], color=colour, alpha=0.18, linewidth=0)
            ax.plot(middle, visible, **view.line(recipe, backend, len(group)))
        for colour, group in _floors(view, floor):
            below = group["value"].clip(least / 10)  # off the axis, where the line leaves it
            ax.plot(np.sqrt(group["t"] * group["t_last"]), below, color=colour, linestyle=REFERENCE_DASH)
        log_axis(ax, "x", 1, max(int(table["t_last"].max()), 2))
        log_axis(ax, "y", lowest / (1.3 if floor is None else 5), top * 1.3)
        ax.set_xlabel("t")

    return draw


def _floors(view: View, floor: pd.DataFrame | None) -> list[tuple[str, pd.DataFrame]]:
    """The colour and the values of every floor to draw.

    A floor depends on the schedule alone, so that recipes of one schedule share a line.
    """
    if floor is None:
        return []
    by_recipe = [
        (view.colour(recipe), group[group["backend"] == group["backend"].iloc[0]])
        for recipe, group in floor.groupby("recipe", sort=False)
    ]
    return by_recipe if view.rows["schedule"].nunique() > 1 else [(INK, by_recipe[0][1])]
