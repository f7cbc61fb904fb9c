"""The figures of sample quality: beside its floor, and against the steps of a sampler."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from studies.reporting.contrasts import sample_metrics
from studies.reporting.names import family_name, name_of, quantity, sampler_family, sampler_name, sampler_steps, unit_of
from studies.reporting.numbers import plus_minus
from studies.reporting.plotting import (
    DASHES,
    FAINT,
    INK,
    PAPER,
    Key,
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


def quality(view: View) -> Plot | None:
    """Every sample metric beside its floor."""
    panels, data = [], []
    for metric in view.sample_metrics:
        about = quantity(metric)
        if about.is_p_value:
            continue
        chosen = view.of_metric(metric)
        chosen = chosen[np.isfinite(chosen["value"])]
        samplers = levels(chosen, "sampler")
        marks: list[tuple[str, Hashable | None, Hashable, Interval | float | None, list[float]]] = []
        for sampler in samplers:
            least = view.floor(metric, sampler)
            marks.append((sampler_name(sampler), None, sampler, least, []))
            for recipe, backend in view.groups():
                of_cell = chosen[
                    (chosen["sampler"] == sampler) & (chosen["recipe"] == recipe) & (chosen["backend"] == backend)
                ]
                if of_cell.empty:
                    continue
                interval = mean_interval(of_cell["value"].to_numpy())
                marks.append((view.name(recipe, backend), recipe, backend, interval, list(of_cell["value"])))
                for row in of_cell.itertuples():
                    data.append(
                        {"metric": metric, "sampler": sampler, "recipe": recipe, "backend": backend,
                         "seed": row.seed, "value": row.value, "floor": least}
                    )  # fmt: skip
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
    if not panels:
        return None
    return Plot(
        "sample-quality",
        "Sample quality beside its floor",
        "The dashed line is the floor: what held-out real data get at the same sample size, so what a perfect model"
        " would get. Large marks are means with 95 % intervals over seeds, cut at the edge where very wide; small"
        " dots are the seeds. Samplers with different numbers of samples have different floors and are not"
        " comparable." + one_seed(view),
        panels,
        pd.DataFrame(data),
        view.keys(dashes=False)
        + ([Key(name_of(b), marker=view.marker(b)) for b in view.backends] if len(view.backends) > 1 else []),
    )


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
    scored = view.rows[view.rows["sampler"].notna()].copy()
    if scored.empty:
        return None
    scored["steps"] = [sampler_steps(name) for name in scored["sampler"]]
    families = [sampler_family(name) for name in scored["sampler"]]
    scored["family"] = pd.Series(families, index=scored.index, dtype=object)
    counts = scored.groupby("family")["steps"].nunique()
    scored = scored[scored["family"].isin(counts[counts >= 3].index)]
    panels, data = [], []
    for metric in sample_metrics(scored):
        about = quantity(metric)
        if about.is_p_value:
            continue
        for family in levels(scored, "family"):
            chosen = scored[(scored["metric"] == metric) & (scored["family"] == family)]
            mean = chosen.groupby(["recipe", "backend", "steps"], sort=False)["value"].agg(["mean", "min", "max"])
            mean = mean.reset_index().sort_values("steps")
            floors = scored[(scored["metric"] == f"{metric}_floor") & (scored["family"] == family)]["value"]
            data.append(mean.assign(metric=metric, family=family, floor=floors.mean()))
            panels.append(
                Panel(
                    f"{about.title[0].upper()}{about.title[1:]}: {family_name(family)}",
                    f"{about.title} of {family_name(family)} against steps. "
                    + "; ".join(
                        f"{view.name(*key)}: {label_of(group['mean'].iloc[0])} at {group['steps'].iloc[0]} steps,"
                        f" {label_of(group['mean'].iloc[-1])} at {group['steps'].iloc[-1]}"
                        for key, group in mean.groupby(["recipe", "backend"], sort=False)
                    )
                    + ".",
                    _draw_steps(view, mean, float(floors.mean()) if len(floors) else None, unit_of(about)),
                )
            )
    if not panels:
        return None
    return Plot(
        "quality-by-steps",
        "Sample quality against the sampler’s steps",
        "One network evaluation a step. Lines are means over seeds, bands from the lowest to the highest; the dashed"
        " line is the floor.",
        panels,
        pd.concat(data),
        view.keys(),
    )


def _draw_steps(view: View, mean: pd.DataFrame, least: float | None, unit: str) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for (recipe, backend), group in mean.groupby(["recipe", "backend"], sort=False):
            colour = view.colour(recipe)
            ax.fill_between(group["steps"], group["min"], group["max"], color=colour, alpha=0.18, linewidth=0)
            ax.plot(
                group["steps"], group["mean"], color=colour, marker=view.marker(backend), markersize=5,
                linestyle=DASHES[view.dash(backend) % len(DASHES)],
            )  # fmt: skip
        if least is not None:
            ax.axhline(least, color=INK, linestyle="--", linewidth=1.2)
        log_axis(ax, "x", float(mean["steps"].min()) / 1.15, float(mean["steps"].max()) * 1.15)
        linear_axis(ax, "y")
        ax.set_xlabel("steps")
        ax.set_ylabel(unit)

    return draw
