"""The figures of sample quality: beside its floor, and against the steps of a sampler."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from studies.reporting.contrasts import sample_metrics
from studies.reporting.names import family_name, quantity, sampler_family, sampler_name, sampler_steps, unit_of
from studies.reporting.numbers import plus_minus
from studies.reporting.plotting import (
    FAINT,
    INK,
    PAPER,
    REFERENCE_DASH,
    Panel,
    Plot,
    label_of,
    linear_axis,
    log_axis,
    rows_axis,
)
from studies.reporting.view import View, one_seed
from studies.statistics.intervals import Interval, mean_interval
from studies.store.reading import levels
from studies.store.sampler_chains import Family


def quality(view: View) -> Plot | None:
    """Every sample metric beside its floor."""
    table = quality_of_cells(view)
    if table.empty:
        return None
    panels = []
    for metric, scored in table.groupby("metric", sort=False):
        about, marks = quantity(str(metric)), _marks(view, scored)
        spoken = "; ".join(
            f"{name}: {plus_minus(value)}" if isinstance(value, Interval)
            else f"{name}, floor {label_of(value) if value is not None else 'unknown'}"
            for name, _, _, value, _ in marks
        )  # fmt: skip
        better = f", {about.direction} is better" if about.direction else ""
        panels.append(
            Panel(
                f"{about.title[0].upper()}{about.title[1:]}",
                f"{about.title}{better}. {spoken}.",
                _draw_quality(view, marks, about.direction, unit_of(about)),
                height=44 + 25 * len(marks),
            )
        )
    return Plot(
        "sample-quality",
        "Sample quality beside its floor",
        "The dashed line is the floor: what held-out real data get at the same sample size, so what a perfect model"
        " would get. Large marks are means with 95 % intervals over seeds, cut at the edge where very wide; small"
        " dots are the seeds. Samplers with different numbers of samples have different floors and are not"
        " comparable." + one_seed(view),
        panels,
        table,
        view.keys(lines=False),
    )


def quality_of_cells(view: View) -> pd.DataFrame:
    """Every cell's finite sample metrics beside their floor, but no p-values.

    Columns: metric, sampler, recipe, backend, seed, value, floor.
    """
    values = []
    for metric in view.sample_metrics:
        rows = view.of_metric(metric)
        rows = rows[np.isfinite(rows["value"])]
        for sampler in [] if quantity(metric).is_p_value else levels(rows, "sampler"):
            least = view.floor(metric, sampler)
            for recipe, backend in view.groups():
                of_cells = (rows["sampler"] == sampler) & (rows["recipe"] == recipe) & (rows["backend"] == backend)
                values += [
                    {"metric": metric, "sampler": sampler, "recipe": recipe, "backend": backend,
                     "seed": row.seed, "value": row.value, "floor": least}
                    for row in rows[of_cells].itertuples()
                ]  # fmt: skip
    return pd.DataFrame(values)


Mark = tuple[str, Hashable | None, Hashable, Interval | float | None, list[float]]
"""A line of a panel: its label; recipe, framework, interval and seeds' values; or of a sampler None, it, and floor."""


def _marks(view: View, scored: pd.DataFrame) -> list[Mark]:
    """The lines of a metric's panel: each sampler with its floor, and below it the recipes and frameworks."""
    marks: list[Mark] = []
    for sampler, of_sampler in scored.groupby("sampler", sort=False):
        least = of_sampler["floor"].iloc[0]
        marks.append((sampler_name(str(sampler)), None, sampler, None if pd.isna(least) else float(least), []))
        for (recipe, backend), of_cells in of_sampler.groupby(["recipe", "backend"], sort=False):
            interval = mean_interval(of_cells["value"].to_numpy())
            marks.append((view.name(recipe, backend), recipe, backend, interval, list(of_cells["value"])))
    return marks


def _draw_quality(view: View, marks: Sequence[tuple], direction: str | None, unit: str) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        extent: list[float] = []
        header, least = 0, None
        heads = [i for i, mark in enumerate(marks) if mark[1] is None] + [len(marks)]
        for i, (name, recipe, backend, value, seeds) in enumerate(marks):
            across = ax.get_yaxis_transform()
            if recipe is None:
                header, least = i, value
                ax.text(0, -i, name, transform=across, va="center", size=10.5, color=FAINT)
                if least is not None:
                    end = heads[heads.index(header) + 1]
                    ax.plot([least] * 2, [-header - 0.5, -end + 0.5], "--", color=INK, linewidth=1.2)
                    ax.text(
                        1,
                        -i,
                        f"floor {label_of(least)}",
                        transform=across,
                        va="center",
                        ha="right",
                        size=10.5,
                        color=FAINT,
                    )
                    extent.append(least)
                continue
            colour = view.colour(recipe)
            ax.plot(seeds, [-i] * len(seeds), ".", color=colour, markersize=5, alpha=0.5)
            if np.isfinite(value.half_width):
                ax.plot([value.low, value.high], [-i] * 2, color=colour, linewidth=2, clip_on=True)
            ax.plot(value.estimate, -i, view.marker(backend), color=colour, markersize=7, markeredgecolor=PAPER)
            extent += seeds
        low, high = min(extent), max(extent)
        margin = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
        ax.set_xlim(low - margin, high + margin)
        ax.set_ylim(-len(marks) + 0.4, 0.6)
        rows_axis(ax)
        linear_axis(ax, "x")
        if direction == "lower":
            ax.set_xlabel("← better" + (f", in {unit}" if unit else ""), loc="left")
        elif direction == "higher":
            ax.set_xlabel((f"{unit}, " if unit else "") + "better →", loc="right")
        else:
            ax.set_xlabel(unit, loc="left")

    return draw


def quality_by_steps(view: View) -> Plot | None:
    """Sample quality against the sampler's steps, where a sampler was run with at least three numbers of them."""
    tables = tables_by_steps(view)
    if not tables:
        return None
    return Plot(
        "quality-by-steps",
        "Sample quality against the sampler’s steps",
        "One network evaluation a step. Lines are means over seeds, bands from the lowest to the highest; the dotted"
        " line is the floor.",
        [_panel_by_steps(view, metric, family, mean) for (metric, family), mean in tables.items()],
        pd.concat(tables.values()),
        view.keys(),
    )


def tables_by_steps(view: View) -> dict[tuple[str, Family], pd.DataFrame]:
    """A table for every sample metric and family of chains with at least three lengths.

    Columns: recipe, backend, steps, mean, min, max (over seeds), metric, family, floor.
    """
    scored = view.rows[view.rows["sampler"].notna()].copy()
    scored["steps"] = [sampler_steps(name) for name in scored["sampler"]]
    families = [sampler_family(name) for name in scored["sampler"]]
    scored["family"] = pd.Series(families, index=scored.index, dtype=object)
    counts = scored.groupby("family")["steps"].nunique()
    scored = scored[scored["family"].isin(counts[counts >= 3].index)]
    tables = {}
    for metric in [name for name in sample_metrics(scored) if not quantity(name).is_p_value]:
        for family in levels(scored, "family"):
            of_family = scored[scored["family"] == family]
            by_steps = of_family[of_family["metric"] == metric].groupby(["recipe", "backend", "steps"], sort=False)
            mean = by_steps["value"].agg(["mean", "min", "max"]).reset_index().sort_values("steps")
            if mean.empty:
                continue
            least = of_family[of_family["metric"] == f"{metric}_floor"]["value"].mean()
            same = pd.Series([family] * len(mean), index=mean.index, dtype=object)
            tables[metric, family] = mean.assign(metric=metric, family=same, floor=least)
    return tables


def _panel_by_steps(view: View, metric: str, family: Family, mean: pd.DataFrame) -> Panel:
    about, least = quantity(metric), float(mean["floor"].iloc[0])
    spoken = "; ".join(
        f"{view.name(*key)}: {label_of(group['mean'].iloc[0])} at {group['steps'].iloc[0]} steps,"
        f" {label_of(group['mean'].iloc[-1])} at {group['steps'].iloc[-1]}"
        for key, group in mean.groupby(["recipe", "backend"], sort=False)
    )
    return Panel(
        f"{about.title[0].upper()}{about.title[1:]}: {family_name(family)}",
        f"{about.title} of {family_name(family)} against steps. {spoken}.",
        _draw_steps(view, mean, None if np.isnan(least) else least, unit_of(about)),
    )


def _draw_steps(view: View, mean: pd.DataFrame, least: float | None, unit: str) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for (recipe, backend), group in mean.groupby(["recipe", "backend"], sort=False):
            colour = view.colour(recipe)
            ax.fill_between(group["steps"], group["min"], group["max"], color=colour, alpha=0.18, linewidth=0)
            ax.plot(group["steps"], group["mean"], **view.line(recipe, backend, len(group)))
        if least is not None:
            ax.axhline(least, color=INK, linestyle=REFERENCE_DASH, linewidth=1.2)
        log_axis(ax, "x", float(mean["steps"].min()) / 1.15, float(mean["steps"].max()) * 1.15)
        linear_axis(ax, "y")
        ax.set_xlabel("steps")
        ax.set_ylabel(unit)

    return draw
