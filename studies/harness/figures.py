"""The figures of a report: what each shows, the data behind it, and its words.

Colour tells recipes apart, line style and marker tell frameworks apart. Every figure is left out where its rows or
arrays are missing; nothing is drawn from anything but the run's folder.
"""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from studies.harness.contrasts import (
    Contrast,
    against_reference,
    by_t,
    contrast,
    floor,
    levels_in,
    main_sampler,
    sample_metrics,
    values,
)
from studies.harness.pictures import examples, nearest_neighbours, real_and_made, trajectories
from studies.harness.plotting import (
    DASHES,
    FAINT,
    INK,
    MARKERS,
    PALETTE,
    PAPER,
    PARTS,
    Key,
    Panel,
    Plot,
    label_of,
    linear_axis,
    log_axis,
    save,
)
from studies.harness.reading import FACTORS, CellRecord, Run, levels
from studies.harness.statistics.intervals import Interval, mean_interval
from studies.harness.wording import (
    family_name,
    name_of,
    plus_minus,
    quantity,
    sampler_family,
    sampler_name,
    sampler_steps,
    seconds,
)

TERMS = {"bound_decoder": "decoder, t = 1", "bound_diffusion": "diffusion, t > 1", "bound_prior": "prior, t = T"}
FITS = 44  # characters of label and number beside each other in a panel
STAGES = {
    "startup_seconds": "start-up",
    "train_seconds": "training",
    "bound_seconds": "bound",
    "sample_seconds": "samples",
}


@dataclass(frozen=True, eq=False)
class View:
    """One dataset of a run, with the look of every recipe and framework."""

    run: Run
    dataset: Hashable
    rows: pd.DataFrame

    @property
    def recipes(self) -> list[Hashable]:
        return levels(self.rows, "recipe")

    @property
    def backends(self) -> list[Hashable]:
        return levels(self.rows, "backend")

    @property
    def seeds(self) -> int:
        return int(self.rows["seed"].nunique())

    def colour(self, recipe: Hashable) -> str:
        return PALETTE[self.recipes.index(recipe) % len(PALETTE)]

    def dash(self, backend: Hashable) -> int:
        return self.backends.index(backend)

    def marker(self, backend: Hashable) -> str:
        return MARKERS[self.dash(backend) % len(MARKERS)]

    def name(self, recipe: Hashable, backend: Hashable) -> str:
        """The recipe, and the framework where there are several."""
        return f"{name_of(recipe)}, {name_of(backend)}" if len(self.backends) > 1 else name_of(recipe)

    def groups(self) -> list[tuple[Hashable, Hashable]]:
        """Every recipe and framework that has rows."""
        there = set(self.rows[["recipe", "backend"]].itertuples(index=False, name=None))
        return [(recipe, backend) for recipe in self.recipes for backend in self.backends if (recipe, backend) in there]

    def keys(self, dashes: bool = True) -> list[Key]:
        colours = [Key(name_of(recipe), self.colour(recipe)) for recipe in self.recipes]
        lines = [Key(name_of(backend), dash=self.dash(backend)) for backend in self.backends]
        return colours + (lines if dashes and len(lines) > 1 else [])

    @property
    def shown_seed(self) -> int:
        """The first seed with the most cells: what pictures are of, so that all of them start from the same noise."""
        seeds, cells = np.unique(self.rows.drop_duplicates(["recipe", "backend", "seed"])["seed"], return_counts=True)
        return int(seeds[cells.argmax()])

    def cell(self, recipe: Hashable, backend: Hashable) -> CellRecord | None:
        """The cell of the shown seed; None where it did not finish."""
        rows = self.rows
        match = rows[(rows["recipe"] == recipe) & (rows["backend"] == backend) & (rows["seed"] == self.shown_seed)]
        if match.empty:
            return None
        wanted = match.iloc[0][list(FACTORS)]
        return next(
            (cell for cell in self.run.cells if all(str(cell.factors[n]) == str(wanted[n]) for n in FACTORS)), None
        )


def figures_of(run: Run) -> list[Plot]:
    """Every figure the run has the data for, in the order of the report."""
    plots = []
    datasets = levels(run.rows, "dataset")
    for dataset in datasets:
        view = View(run, dataset, run.rows[run.rows["dataset"] == dataset])
        for make in MAKERS:
            plot = make(view)
            if plot is not None and len(datasets) > 1:
                name = f"{plot.name}-{dataset}"
                plot = Plot(name, f"{plot.title} ({name_of(dataset)})", plot.caption, plot.panels, plot.data, plot.keys)
            if plot is not None:
                plots.append(plot)
    return plots


def write_figures(plots: Sequence[Plot], folder: Path) -> None:
    """Every figure as png, pdf, svg and csv in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        save(plot, folder)


def effects(view: View) -> Plot | None:
    """The differences with their intervals: recipe against recipe above, framework against framework below."""
    sampler, metrics = main_sampler(view.rows), sample_metrics(view.rows)
    wanted: list[tuple[str, str | None]] = [("bound", None)]
    wanted += [(metrics[0], sampler)] if sampler else [("epsilon_mse", None)]
    panels, data = [], []
    for metric, drawn_by in wanted:
        if not (view.rows["metric"] == metric).any():
            continue
        table = values(view.rows, metric, drawn_by).dropna(axis=1, how="all")
        found = against_reference(table, "recipe", levels_in(table, "recipe"))
        found += against_reference(table, "backend", levels_in(table, "backend"))
        if len(view.recipes) > 2:
            found = [one for one in found if one.within is None]  # the table has the rest
        if not found:
            continue
        about = quantity(metric)
        unit = f" ({about.unit})" if about.unit not in ("", "1") and drawn_by is None else ""
        better = {"lower": " Below zero, the first is better.", "higher": " Above zero, the first is better."}
        labelled = [(_contrast_name(one, several=len(view.recipes) > 2), one) for one in found]
        panels.append(
            Panel(
                f"{about.title[0].upper()}{about.title[1:]}{unit}",
                f"Differences in {about.title} with 95 % intervals:"
                f" {_spoken(labelled)}.{better.get(about.direction or '', '')}",
                _draw_effects(view, labelled, about.direction),
                height=46 + 36 * len(found),
            )
        )
        data += [row | {"metric": metric, "sampler": drawn_by} for one in found for row in _contrast_rows(one)]
    if not panels:
        return None
    return Plot(
        "effects",
        "How sure are the differences?",
        "Bars are 95 % intervals (Student’s t, paired by seed); small dots are the seeds. Coloured rows compare"
        " recipes, grey rows frameworks, on one scale. A bar that crosses the zero line is a difference not resolved."
        + (f" Recipes are shown less the {name_of(view.recipes[0])}." if len(view.recipes) > 2 else "")
        + _one_seed(view),
        panels,
        pd.DataFrame(data),
    )


def _contrast_rows(one: Contrast) -> list[dict[str, object]]:
    interval = one.interval()
    within = "pooled" if one.within is None else one.within
    same = {"factor": one.factor, "first": one.first, "second": one.second, "within": within}
    ends = {"low": interval.low, "high": interval.high}
    return [{**same, "seed": seed, "difference": value, **ends} for seed, value in one.differences.items()]


def _contrast_name(one: Contrast, several: bool = False) -> str:
    """ "posterior KL − epsilon MSE, Keras"; with several recipes less one, that one is left to the caption."""
    shared = several and one.factor == "recipe"
    names = name_of(one.first) if shared else f"{name_of(one.first)} − {name_of(one.second)}"
    return f"{names}, {name_of(one.within)}" if one.within is not None else names


def _spoken(labelled: Sequence[tuple[str, Contrast]]) -> str:
    return "; ".join(f"{label} {plus_minus(one.interval(), signed=True)}" for label, one in labelled)


def _draw_effects(
    view: View, labelled: Sequence[tuple[str, Contrast]], direction: str | None
) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for i, (label, one) in enumerate(labelled):
            y, interval = -i - 0.16, one.interval()
            colour = view.colour(one.first) if one.factor == "recipe" else FAINT
            bounds = (interval.low, interval.high) if np.isfinite(interval.half_width) else (interval.estimate,) * 2
            thick = 4.5 if one.within is None else 2
            ax.plot([0, 0], [y - 0.17, y + 0.17], color=INK, linewidth=1.2)  # beside the bars only, clear of the words
            ax.plot(bounds, [y] * 2, color=colour, linewidth=thick, solid_capstyle="butt")
            ax.plot(one.differences, [y - 0.11] * len(one.differences), ".", color=colour, markersize=4, alpha=0.7)
            marker = view.marker(one.within) if one.factor == "recipe" and one.within is not None else "o"
            ax.plot(interval.estimate, y, marker, color=colour, markersize=7, markeredgecolor=PAPER)
            weight = "bold" if one.within is None else "normal"
            across, text = ax.get_yaxis_transform(), plus_minus(interval, signed=True)
            size = min(10.5, 10.5 * FITS / (len(label) + len(text)))
            ax.text(0, y + 0.36, label, transform=across, va="center", size=size, weight=weight)
            ax.text(1, y + 0.36, text, transform=across, va="center", ha="right", size=10.5, weight=weight)
        ax.set_ylim(-len(labelled) + 0.55, 0.55)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.margins(x=0.08)
        linear_axis(ax, "x", 4)
        better = {"lower": "← first is better", "higher": "first is better →"}
        if direction:
            ax.set_xlabel(better[direction], loc="left" if direction == "lower" else "right")

    return draw


def losses(view: View) -> Plot | None:
    """Both losses over training, whichever was trained."""
    titles = {"train_epsilon_mse": "Epsilon MSE, per dim", "train_posterior_kl": "Posterior KL, bits/dim"}
    panels, data = [], []
    for metric, title in titles.items():
        curves = view.rows[(view.rows["metric"] == metric) & np.isfinite(view.rows["value"])]
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
        _positive_axis(ax, summary[["min", "max"]].to_numpy())
        ax.set_xlabel("training step")
        linear_axis(ax, "x")
        ax.set_xlim(left=0)

    return draw


def _positive_axis(ax: Axes, shown: NDArray[np.float64]) -> None:
    """A log y axis where all values are positive, as for any loss but a density's."""
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    if low > 0 and high > low:
        log_axis(ax, "y", low / 1.1, high * 1.1)
    else:
        linear_axis(ax, "y")


def spent_by_t(view: View) -> Plot | None:
    """Where in t the bound is spent, and where the recipes differ."""
    per_step = _mean_at_t(view.rows, "bound_at_t")
    if per_step.empty:
        return None
    total = by_t(view.rows)
    running = total.groupby(["recipe", "backend", "t"], sort=False)["value"].mean().reset_index()
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
    difference = _running_difference(total, view)
    data = [per_step.assign(panel="per step"), running.assign(panel="running total")]
    if not difference.empty:
        reference = name_of(view.recipes[0])
        data.append(difference.assign(panel="running difference"))
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
    mse = _mean_at_t(view.rows, "epsilon_mse_at_t")
    if not mse.empty:
        data.append(mse.assign(panel="epsilon MSE"))
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
        "t = 1 is the decoder term, t = T pure noise; t is on a log scale. The running total ends at the bound less its"
        " prior term; the running difference shows which steps make one bound lower than the other, with 95 % intervals"
        f" (paired by seed{', pooled over frameworks' if len(view.backends) > 1 else ''}).",
        panels,
        pd.concat(data),
        view.keys(),
    )


def _mean_at_t(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    found = rows[rows["metric"] == metric]
    mean = found.groupby(["recipe", "backend", "t", "t_last"], sort=False)["value"].mean().reset_index()
    return mean.sort_values("t")


def _running_difference(total: pd.DataFrame, view: View) -> pd.DataFrame:
    """Each recipe's running total less the first one's: columns recipe, t, value, low, high."""
    parts = []
    reference = view.recipes[0]
    for t, at_t in total.groupby("t"):
        table = at_t.pivot(index="seed", columns=["recipe", "backend"], values="value")
        for recipe in view.recipes[1:]:
            if (one := contrast(table, "recipe", recipe, reference)) is not None:
                interval = one.interval()
                parts.append(
                    {"recipe": recipe, "t": t, "value": interval.estimate, "low": interval.low, "high": interval.high}
                )
    return pd.DataFrame(parts)


def _draw_by_t(view: View, table: pd.DataFrame, last: int, logarithmic: bool) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for (recipe, backend), group in table.groupby(["recipe", "backend"], sort=False):
            middle = np.sqrt(group["t"] * group["t_last"])
            style = DASHES[view.dash(backend) % len(DASHES)]
            ax.plot(middle, group["value"], color=view.colour(recipe), linestyle=style)
        log_axis(ax, "x", 1, max(last, 2))
        ax.set_xlabel("t")
        if logarithmic:
            _positive_axis(ax, table["value"].to_numpy())
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
            ax.plot(group["t"], group["value"], color=colour)
        log_axis(ax, "x", 1, max(last, 2))
        linear_axis(ax, "y")
        ax.set_xlabel("t")

    return draw


@dataclass(frozen=True, eq=False)
class Stacks:
    """Parts of a whole for each recipe and framework: `parts` has shape (groups, metrics), 0 where there is none."""

    groups: list[tuple[Hashable, Hashable]]
    metrics: list[str]
    parts: NDArray[np.float64]

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {"recipe": recipe, "backend": backend, "metric": metric, "value": value}
                for (recipe, backend), row in zip(self.groups, self.parts, strict=True)
                for metric, value in zip(self.metrics, row, strict=True)
            ]
        )


def _stacks(view: View, metrics: Sequence[str], over_seeds: Callable[[NDArray[np.float64]], float]) -> Stacks | None:
    """The metrics that occur, summed up over seeds; None where none does."""
    found = view.rows[view.rows["metric"].isin(metrics)]
    by_cell = {key: group["value"].to_numpy() for key, group in found.groupby(["recipe", "backend", "metric"])}
    groups = [key for key in view.groups() if any((*key, metric) in by_cell for metric in metrics)]
    there = [metric for metric in metrics if metric in set(found["metric"])]
    if not groups:
        return None
    parts = [[over_seeds(by_cell[*key, m]) if (*key, m) in by_cell else 0.0 for m in there] for key in groups]
    return Stacks(groups, there, np.array(parts))


def split_by_term(view: View) -> Plot | None:
    """The bound as decoder, diffusion and prior."""
    stacks = _stacks(view, list(TERMS), lambda value: float(value.mean()))
    if stacks is None:
        return None
    labels = [TERMS[term] for term in stacks.metrics]
    names = [view.name(*key) for key in stacks.groups]
    spoken = "; ".join(
        f"{name}: " + ", ".join(f"{label} {label_of(part)}" for label, part in zip(labels, row, strict=True))
        for name, row in zip(names, stacks.parts, strict=True)
    )
    panels = [
        Panel(
            "Bound by term, bits/dim",
            f"Stacked bars of the bound's terms in bits/dim. {spoken}.",
            _draw_stacks(names, stacks.parts, "bits/dim", label_of),
            height=44 + 44 * len(names),
        )
    ]
    for recipe in view.recipes[1:]:
        found = [
            (term, contrast(values(view.rows, term), "recipe", recipe, view.recipes[0])) for term in stacks.metrics
        ]
        labelled = [(TERMS[term], one) for term, one in found if one is not None]
        if labelled:
            title = f"{name_of(recipe)} − {name_of(view.recipes[0])}"
            alt = f"Differences by term in bits/dim with 95 % intervals, {title}: {_spoken(labelled)}."
            panels.append(Panel(title, alt, _draw_effects(view, labelled, None), height=30 + 36 * len(labelled)))
    return Plot(
        "bound-by-term",
        "The bound by term",
        "Means over seeds, and what each term adds to the paired difference. The decoder term is −log p(x₀ | x₁); the"
        " prior term is what is left of the data at t = T, too small to see when the schedule ends in noise.",
        panels,
        stacks.table(),
        [Key(label, PARTS[i]) for i, label in enumerate(labels)],
    )


def _draw_stacks(
    labels: Sequence[str], parts: NDArray[np.float64], unit: str, written: Callable[[float], str]
) -> Callable[[Axes], None]:
    """Horizontal bars of parts (rows, terms), each with its label above and its total at the end."""

    def draw(ax: Axes) -> None:
        # To the right of zero and, for a density's terms, to the left of it.
        sides = np.clip(parts, 0, None), np.clip(parts, None, 0)
        for widths in sides:
            starts = np.cumsum(widths, axis=1) - widths
            for i, j in np.ndindex(widths.shape):
                colour = PARTS[j % len(PARTS)]
                ax.barh(-i - 0.15, widths[i, j], 0.38, left=starts[i, j], color=colour, linewidth=0)
        for i, label in enumerate(labels):
            across = ax.get_yaxis_transform()
            ax.text(0, -i + 0.24, label, transform=across, va="center", size=10.5)
            ax.text(1, -i + 0.24, written(parts[i].sum()), transform=across, va="center", ha="right", size=10.5)
        ax.set_ylim(-len(labels) + 0.55, 0.55)
        right, left = (widths.sum(axis=1) for widths in sides)
        ax.set_xlim(1.05 * float(left.min()), 1.05 * float(right.max()) or 1.0)
        ax.set_yticks([])
        ax.grid(False, axis="y")
        ax.spines["left"].set_visible(False)
        ax.set_xlabel(unit, loc="right")
        linear_axis(ax, "x")

    return draw


def quality(view: View) -> Plot | None:
    """Every sample metric beside its floor."""
    panels, data = [], []
    for metric in sample_metrics(view.rows):
        about = quantity(metric)
        if about.is_p_value:
            continue
        chosen = view.rows[(view.rows["metric"] == metric) & np.isfinite(view.rows["value"])]
        samplers = levels(chosen, "sampler")
        marks: list[tuple[str, Hashable | None, Hashable, Interval | float | None, list[float]]] = []
        for sampler in samplers:
            least = floor(view.rows, metric, sampler)
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
                _draw_quality(view, marks, about.direction),
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
        " comparable." + _one_seed(view),
        panels,
        pd.DataFrame(data),
        view.keys(dashes=False)
        + ([Key(name_of(b), marker=view.marker(b)) for b in view.backends] if len(view.backends) > 1 else []),
    )


def _draw_quality(view: View, marks: Sequence[tuple], direction: str | None) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        shown: list[float] = []
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
                    shown.append(least)
                continue
            colour = view.colour(recipe)
            ax.plot(seeds, [-i] * len(seeds), ".", color=colour, markersize=5, alpha=0.5)
            if np.isfinite(value.half_width):
                ax.plot([value.low, value.high], [-i] * 2, color=colour, linewidth=2, clip_on=True)
            ax.plot(value.estimate, -i, view.marker(backend), color=colour, markersize=7, markeredgecolor=PAPER)
            shown += seeds
        low, high = min(shown), max(shown)
        margin = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
        ax.set_xlim(low - margin, high + margin)
        ax.set_ylim(-len(marks) + 0.4, 0.6)
        ax.set_yticks([])
        ax.grid(False, axis="y")
        ax.spines["left"].set_visible(False)
        linear_axis(ax, "x")
        if direction:
            text, side = {"lower": ("← better", "left"), "higher": ("better →", "right")}[direction]
            ax.set_xlabel(text, loc=side)  # type: ignore[arg-type]

    return draw


def quality_by_steps(view: View) -> Plot | None:
    """Sample quality against the sampler's steps, where a sampler was run with at least three numbers of them."""
    scored = view.rows[view.rows["sampler"].notna()].copy()
    if scored.empty:
        return None
    scored["steps"] = [sampler_steps(name) for name in scored["sampler"]]
    scored["family"] = [sampler_family(name) for name in scored["sampler"]]
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
                    _draw_steps(view, mean, float(floors.mean()) if len(floors) else None),
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


def _draw_steps(view: View, mean: pd.DataFrame, least: float | None) -> Callable[[Axes], None]:
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

    return draw


def samples(view: View) -> Plot | None:
    """Samples of every recipe and framework beside real data."""
    cells = _cells_with_samples(view)
    names = list(dict.fromkeys(name for _, arrays in cells for name in arrays if "/" not in name))
    if not names:
        return None
    panels: list[Panel] = []
    data = []
    for name in names:
        made = [(label, colour, arrays[name]) for (label, colour), arrays in cells if name in arrays]
        panels += real_and_made(sampler_name(name), view.run.reference.get("test"), made)
        data += [examples(array).assign(sampler=name, cell=label) for label, _, array in made]
    of_points = cells[0][1][names[0]].ndim == 2
    layout = (
        " Grey dots are real test data." if of_points
        else " The same position is the same noise in every cell, so a column can be compared from row to row;"
        " real data are test examples, not matched to the samples."
    )  # fmt: skip
    return Plot(
        "samples",
        "Samples side by side",
        f"Seed {view.shown_seed}. All cells start from the same noise x_T.{layout} Nothing was picked: these are the"
        " first samples drawn.",
        panels,
        pd.concat(data),
    )


def denoising(view: View) -> Plot | None:
    """What the network makes of the same noise on the way from t = T to t = 1."""
    cells = _cells_with_samples(view)
    names = [name.removesuffix("/trajectory") for _, arrays in cells for name in arrays if name.endswith("/trajectory")]
    if not names:
        return None
    name = max(dict.fromkeys(names), key=lambda one: sampler_steps(one) or 0)
    made = [
        (label, colour, arrays[f"{name}/trajectory"], arrays[f"{name}/trajectory_steps"])
        for (label, colour), arrays in cells
        if f"{name}/trajectory" in arrays
    ]
    data = [
        examples(array[k], limit=3).assign(cell=label, t=int(t))
        for label, _, array, steps in made
        for k, t in enumerate(steps)
    ]
    return Plot(
        "denoising",
        "From noise to sample",
        f"The network’s guess of x₀ along the chain ({sampler_name(name)}), seed {view.shown_seed}, for the same noise"
        " in every cell.",
        trajectories(view.run.reference.get("train"), made),
        pd.concat(data),
    )


def neighbours(view: View) -> Plot | None:
    """Each sample beside the training example nearest to it."""
    train, test = view.run.reference.get("train"), view.run.reference.get("test")
    sampler = main_sampler(view.rows)
    if train is None or train[0].size < 3:
        return None
    made = []
    for recipe in view.recipes:
        for (label, colour), arrays in _cells_with_samples(
            view, [key for key in view.groups() if key[0] == recipe][:1]
        ):
            name = sampler if sampler in arrays else next((key for key in arrays if "/" not in key), None)
            if name is not None and np.all(np.isfinite(arrays[name])):
                made.append((label, colour, arrays[name]))
    if not made:
        return None
    panels, data, medians = nearest_neighbours(made, train, test)
    written = "; ".join(f"{label} {label_of(value)}" for label, value in medians.items())
    return Plot(
        "neighbours",
        "Nearest training examples",
        f"Below each sample, the nearest (root mean square over dims) of the {len(train)} training examples kept with"
        f" the run. Median distance: {written}. Samples much nearer than real test data would be copies.",
        panels,
        data,
    )


def cost(view: View) -> Plot | None:
    """Seconds of a cell by stage."""
    stacks = _stacks(view, list(STAGES), lambda value: float(np.median(value)))
    if stacks is None:
        return None
    names = [view.name(*key) for key in stacks.groups]
    spoken = "; ".join(f"{name} {seconds(row.sum())}" for name, row in zip(names, stacks.parts, strict=True))
    return Plot(
        "cost",
        "What a cell costs",
        "Median seconds over seeds. Cells that run side by side share the machine, so these are costs of this run, not"
        " a benchmark.",
        [
            Panel(
                "Seconds of a cell, by stage",
                f"Stacked bars of seconds: {spoken}.",
                _draw_stacks(names, stacks.parts, "s", seconds),
                height=44 + 44 * len(names),
            )
        ],
        stacks.table(),
        [Key(STAGES[stage], PARTS[i]) for i, stage in enumerate(stacks.metrics)],
    )


MAKERS = (effects, losses, spent_by_t, split_by_term, samples, quality, quality_by_steps, denoising, neighbours, cost)


def _cells_with_samples(
    view: View, groups: Sequence[tuple[Hashable, Hashable]] | None = None
) -> list[tuple[tuple[str, str], dict[str, NDArray[np.float64]]]]:
    """((name, colour), arrays) of each recipe and framework, at the shown seed."""
    found = []
    for recipe, backend in view.groups() if groups is None else groups:
        cell = view.cell(recipe, backend)
        arrays = cell.samples() if cell is not None else {}
        if arrays:
            found.append(((view.name(recipe, backend), view.colour(recipe)), arrays))
    return found


def _one_seed(view: View) -> str:
    return " With one seed there are no intervals." if view.seeds == 1 else ""
