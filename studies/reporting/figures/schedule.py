"""The figure of learned schedules: log SNR and beta by t, as learned against where they started.

From schedule.csv in the cells' folders (`studies.plan.schedules`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from studies.plan.schedules import FILE
from studies.reporting.plotting import FAINT, REFERENCE_DASH, Key, Panel, Plot, label_of, linear_axis, log_axis
from studies.reporting.view import View


def learned_schedules(view: View) -> Plot | None:
    """What the learned schedules became, a line a seed; None where no cell has learned one."""
    curves = _curves(view)
    if curves.empty:
        return None
    spoken = "; ".join(
        f"{view.name(recipe, backend)}: from {label_of(ends['log_snr'].iloc[0])} to "
        f"{label_of(ends['log_snr'].iloc[-1])}, at the start of training {label_of(ends['start_log_snr'].iloc[0])} to "
        f"{label_of(ends['start_log_snr'].iloc[-1])}"
        for (recipe, backend), group in curves.groupby(["recipe", "backend"], sort=False)
        for ends in [group[group["seed"] == group["seed"].iloc[0]]]
    )
    with_curves = set(curves["recipe"])
    keys = [key for key, recipe in zip(view.keys(), view.recipes, strict=False) if recipe in with_curves]
    panels = [
        Panel(
            "log SNR at t",
            f"log SNR against t, falling from left to right; the dotted line is the start. {spoken}.",
            _draw(view, curves, "log_snr"),
        ),
        Panel(
            "Variance added at t, β",
            "beta against t, both on log scales; the dotted line is the start.",
            _draw(view, curves, "beta"),
        ),
        Panel(
            "Change of log SNR at t",
            "How far log SNR has moved from its start, against t on a log scale; zero is the start.",
            _draw(view, curves, "change"),
        ),
    ]
    return Plot(
        "learned-schedule",
        "What the learned schedule became",
        "The forward schedule trained with the network by the same bound (Sohl-Dickstein et al. 2015, sec. 2.4.1;"
        " Kingma et al. 2021), by the moving average of its parameters. Dotted: where it started. One line a seed.",
        panels,
        curves,
        [*keys, *view.framework_keys(hollow=True), Key("start", FAINT, dash=REFERENCE_DASH)],
    )


def _curves(view: View) -> pd.DataFrame:
    """The learned schedules of all cells as one table: recipe, backend, seed, and the columns of schedule.csv."""
    tables = []
    for recipe, backend in view.groups():
        for seed in sorted(view.rows["seed"].unique()):
            cell = view.cell(recipe, backend, seed)
            if cell is not None and (cell.folder / FILE).is_file():
                table = pd.read_csv(cell.folder / FILE)
                of_table = pd.Series([recipe] * len(table), dtype=object)
                tables.append(table.assign(recipe=of_table, backend=str(backend), seed=seed))
    if not tables:
        return pd.DataFrame()
    curves = pd.concat(tables, ignore_index=True)
    return curves.assign(change=curves["log_snr"] - curves["start_log_snr"])


def _draw(view: View, curves: pd.DataFrame, what: str) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for (recipe, backend, _), line in curves.groupby(["recipe", "backend", "seed"], sort=False):
            ax.plot(line["t"], line[what], **view.line(recipe, backend, len(line)), linewidth=1.3)
        for _, line in curves.drop_duplicates(["recipe", "t"]).groupby("recipe", sort=False):
            start = np.zeros(len(line)) if what == "change" else line[f"start_{what}"]
            ax.plot(line["t"], start, color=FAINT, linestyle=REFERENCE_DASH, linewidth=1.3)
        log_axis(ax, "x", 1, max(int(curves["t"].max()), 2))
        ax.set_xlabel("t")
        if what == "beta":
            values = np.concatenate([curves["beta"], curves["start_beta"]])
            log_axis(ax, "y", values.min() / 1.3, min(1.0, values.max() * 1.3))
        else:
            linear_axis(ax, "y")

    return draw
