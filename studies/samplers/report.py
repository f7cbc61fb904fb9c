"""The report of a study of samplers: figure and page in its folder, and the closing table for the terminal."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from studies.plan.command import read_recorded
from studies.reporting.blanks import blank_sentences
from studies.reporting.figures import write_figures
from studies.reporting.names import family_name, name_of, quantity, unit_of
from studies.reporting.numbers import count
from studies.reporting.page import about, again, as_figure, template
from studies.reporting.plotting import INK, MARKERS, REFERENCE_DASH, Key, Panel, Plot, label_of, linear_axis, log_axis
from studies.reporting.tables import metric_notes
from studies.reporting.terminal import aligned, terminal_width, wrapped
from studies.reporting.view import View, finite_rows
from studies.samplers.between import interpolations
from studies.samplers.settings import SamplerSettings
from studies.samplers.verdict import headline, sentences, table_lines, table_of, with_chains
from studies.store.files import write_text
from studies.store.folder import RunFolder
from studies.store.reading import Run, levels, read_results
from studies.store.sampler_chains import Family

PAPERS = (
    ("Ho, Jain & Abbeel (2020), Denoising diffusion probabilistic models", "https://arxiv.org/abs/2006.11239"),
    ("Song, Meng & Ermon (2021), Denoising diffusion implicit models", "https://arxiv.org/abs/2010.02502"),
    (
        "Lu et al. (2022), DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models",
        "https://arxiv.org/abs/2211.01095",
    ),
)
LOG_FROM = 3.0  # a range of values this wide is drawn on a log axis


def make_report(out: Path) -> tuple[str, Path]:
    """Writes the report from the folder alone; returns the table to close with and the page's path.

    ValueError in one line where the folder is of another study, or has no results yet.
    """
    run = read_results(out)
    if run.rows["sampler"].isna().all():
        raise ValueError(f"{RunFolder(out).results} has no samples; give the folder of a compare_samplers study")
    view = View(run, levels(run.rows, "dataset")[0], finite_rows(run.rows))  # a run has one dataset
    return _closing_table(view), _write(view, out)


def _write(view: View, out: Path) -> Path:
    """Writes figures/quality-by-evaluations.{png,pdf,svg,csv} and the page."""
    run = view.run
    plots = [plot for plot in (quality_by_evaluations(view), interpolations(view)) if plot is not None]
    write_figures(plots, RunFolder(out).figures)
    table = table_of(view)
    finished = sum(cell.finished for cell in run.cells)
    page = template("samplers/report.html").render(
        name=run.name,
        kicker=f"Samplers · {run.name} · {finished} of {count(len(run.cells), 'cell')} finished",
        headline=headline(view),
        sentences=sentences(view),
        trouble=_trouble(run),
        table=[(name_of(recipe), family_name(family), values) for recipe, family, values in table.rows],
        colours=[Key("", view.colour(recipe)) for recipe, _, _ in table.rows],
        steps=[f"{n:,}" for n in table.steps],
        floor=None if table.floor is None else label_of(table.floor),
        figures=[as_figure(plot) for plot in plots],
        method=_method(read_recorded(out, SamplerSettings)),
        papers=PAPERS,
        metrics=metric_notes(view),
        run=about(run),
        again=again(out),
    )
    path = RunFolder(out).page
    write_text(path, page)
    return path


def _closing_table(view: View) -> str:
    """The answer, the table of distances and the numbers behind the answer, as plain text."""
    width = terminal_width()
    said = [*sentences(view), *blank_sentences(view.run.cells)]
    words = [line for sentence in said for line in wrapped(sentence, width)]
    table = aligned(table_lines(table_of(view)), width)
    return "\n".join([*wrapped(headline(view), width), "", *table, "", *words])


def _trouble(run: Run) -> list[str]:
    """What went wrong: cells that failed, whose finished chains are in the tables, and metrics that are blank."""
    return [f"Failed: {cell.id}: {cell.failure}" for cell in run.failed] + blank_sentences(run.cells)


def quality_by_evaluations(view: View) -> Plot | None:
    """Every metric against network evaluations: colour and line style are the recipe's, the mark the sampler's.

    None where no chain's samples have a score.
    """
    if not view.sample_metrics:
        return None
    families: list[Family] = levels(with_chains(view.rows[view.rows["sampler"].notna()]), "family")
    names: dict[Hashable, str] = {family: family_name(family) for family in families}
    table, panels = means_by_evaluations(view), []
    for metric, mean in table.groupby("metric", sort=False):
        least, about_it = float(mean["floor"].iloc[0]), quantity(str(metric))
        spoken = "; ".join(
            f"{name_of(recipe)}, {names[family]}: {label_of(group['mean'].iloc[0])} at"
            f" {group['steps'].iloc[0]} and {label_of(group['mean'].iloc[-1])} at {group['steps'].iloc[-1]}"
            for (recipe, family), group in mean.groupby(["recipe", "family"], sort=False)
        )
        better = f" ({about_it.direction} is better)" if about_it.direction else ""
        panels.append(
            Panel(
                f"{about_it.title[0].upper()}{about_it.title[1:]}",
                f"{about_it.title}{better} against network evaluations. {spoken}."
                + (f" Floor {label_of(least)}." if np.isfinite(least) else ""),
                _draw(view, mean, families, least, unit_of(about_it)),
            )
        )
    return Plot(
        "quality-by-evaluations",
        "Sample quality against network evaluations",
        "One network evaluation a step. Points are means over seeds and frameworks; the dotted line is the floor, what"
        " held-out real data get at the same sample size. DDIM with eta 0 and DPM-Solver++ (2M) add no noise."
        " “log SNR” and “quadratic” name the spacing of the steps; without a name they are spread evenly in t.",
        panels,
        table,
        [Key(name_of(recipe), view.colour(recipe), view.dash(recipe)) for recipe in view.recipes]
        + [Key(names[family], marker=MARKERS[i % len(MARKERS)]) for i, family in enumerate(families)],
    )


def means_by_evaluations(view: View) -> pd.DataFrame:
    """Every sample metric by recipe, family of chains and steps.

    Columns: recipe, family, steps, mean, min, max, count (over seeds and frameworks), metric, floor, unit.
    """
    rows = view.rows[view.rows["sampler"].notna()]
    tables = []
    for metric in view.sample_metrics:
        scored = with_chains(rows[rows["metric"] == metric])
        mean = scored.groupby(["recipe", "family", "steps"], sort=False)["value"].agg(["mean", "min", "max", "count"])
        least = float(rows[rows["metric"] == f"{metric}_floor"]["value"].mean())
        mean = mean.reset_index().sort_values("steps")
        tables.append(mean.assign(metric=metric, floor=least, unit=quantity(metric).unit))
    return pd.concat(tables, ignore_index=True)


def _draw(
    view: View, mean: pd.DataFrame, families: Sequence[Family], least: float, unit: str
) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for (recipe, family), group in mean.groupby(["recipe", "family"], sort=False):
            look = families.index(family)
            ax.plot(
                group["steps"], group["mean"], color=view.colour(recipe), linestyle=view.dash(recipe),
                marker=MARKERS[look % len(MARKERS)], markersize=4.5, linewidth=1.5,
            )  # fmt: skip
        if np.isfinite(least):
            ax.axhline(least, color=INK, linestyle=REFERENCE_DASH, linewidth=1.1)
        log_axis(ax, "x", float(mean["steps"].min()) / 1.15, float(mean["steps"].max()) * 1.15)
        drawn = np.array([*mean["mean"], least])
        drawn = drawn[np.isfinite(drawn)]
        low, high = (drawn.min(), drawn.max()) if len(drawn) else (0.0, 0.0)
        if low > 0 and high > LOG_FROM * low:
            log_axis(ax, "y", low / 1.1, high * 1.1)
        else:
            linear_axis(ax, "y")
        ax.set_xlabel("network evaluations")
        ax.set_ylabel(unit)

    return draw


def _method(settings: SamplerSettings) -> list[str]:
    clip = settings.clip_x_0
    return [
        f"{settings.samples} samples of every cell and chain, by the weights’ moving average, as trained in"
        f" {settings.run}. All chains and all cells of a seed start from the same x_T, and the chains that add noise"
        " add the same noise at the same position.",
        "The guess of x₀ is not clipped while sampling (clip_x_0 is off)."
        if clip is None
        else f"The guess of x₀ is clipped to [−{clip}, {clip}] while sampling (clip_x_0 = {clip}).",
        "Ratios are taken within a cell and averaged, in their log, over the frameworks of a seed; the seeds carry the"
        " interval (Student’s t, 95 %). The Fréchet distance of so few samples is mostly bias, which the floor shares:"
        " the excess over it is what the model adds.",
        f"DPM-Solver++ is drawn up to {settings.dpm_solver_up_to} steps. Its spacing by log SNR visits whole steps of"
        " the chain trained on, as even in log SNR as they allow.",
    ]
