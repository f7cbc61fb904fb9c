"""The report of a run: one HTML page that needs nothing beside it, the figures' files, and a table for the terminal.

`write_report` reads the run's folder and nothing else, so a report can be made again wherever the folder is.
"""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from studies.reporting.bound_table import bound_tables
from studies.reporting.contrasts import (
    Contrast,
    against_reference,
    contrast,
    floor,
    levels_in,
    main_sampler,
    one_factor_apart,
    sample_metrics,
    values,
)
from studies.reporting.figures import figures_of, write_figures
from studies.reporting.metric_notes import metric_notes
from studies.reporting.names import (
    count,
    difference_name,
    full_name_of,
    listed,
    name_of,
    plain,
    plus_minus,
    quantity,
    sampler_name,
    seconds,
)
from studies.reporting.plotting import DARK, FAINT, GRID, PALETTE, PARTS, Plot, images
from studies.reporting.verdict import findings, headline, trouble, verdict_sentences
from studies.reporting.view import View
from studies.statistics import complete_seeds, mean_interval, probability_of_improvement, variance_split
from studies.store.cells import FACTORS
from studies.store.files import write_text
from studies.store.folder import RunFolder
from studies.store.reading import FIRST_STAGE, RUN, Run, levels, read_run, recipe_factors, side_by_side

MOST_SAMPLE_COLUMNS = 3
SHARES = (PALETTE[0], PALETTE[2], FAINT, PALETTE[3], PARTS[3], PARTS[1], GRID)  # in the order of the terms
MOST_TERMINAL_COLUMNS = 3  # of metrics, so that a line fits a terminal
PAPERS = (
    ("Sohl-Dickstein et al. (2015), Deep unsupervised learning using nonequilibrium thermodynamics", "https://arxiv.org/abs/1503.03585"),
    ("Ho, Jain & Abbeel (2020), Denoising diffusion probabilistic models", "https://arxiv.org/abs/2006.11239"),
    ("Nichol & Dhariwal (2021), Improved denoising diffusion probabilistic models", "https://arxiv.org/abs/2102.09672"),
    ("Kingma et al. (2021), Variational diffusion models", "https://arxiv.org/abs/2107.00630"),
    ("Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice", "https://arxiv.org/abs/2108.13264"),
)  # fmt: skip
FIRST_VARIANCE = {"next": "β̃₂, the next step’s", "beta": "β₁"}
HEADINGS = {RUN: "Run", **{factor.name: factor.heading for factor in FACTORS}}


def write_report(run_folder: Path) -> Path:
    """Writes figures/*.{png,pdf,svg,csv} and report.html into the run's folder; returns the page's path.

    ValueError in one line where the folder is not a run's.
    """
    run_folder = Path(run_folder)
    run = read_run(run_folder)
    return _write(run, [run], run_folder, f"python studies/report.py {run_folder}")


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Several runs in one report in the folder `out`, with the run as a factor; cells are paired by seed."""
    read = [read_run(Path(folder)) for folder in runs]
    command = f"python studies/report.py {' '.join(str(folder) for folder in runs)} --out {out}"
    return _write(side_by_side(read), read, Path(out), command)


def closing_table(run_folder: Path) -> str:
    """The headline and the table of results as plain text, for the terminal."""
    run = read_run(Path(run_folder))
    lines = [headline(run.rows), ""]
    for dataset in levels(run.rows, "dataset"):
        rows = run.rows[run.rows["dataset"] == dataset]
        part = _numbers(View(run, dataset, rows))
        columns = part["columns"][:MOST_TERMINAL_COLUMNS]
        table = [
            [part["recipe_heading"], "framework", "seeds", *(column["title"] for column in columns)],
            ["", "", "", *(", ".join(column["notes"]) for column in columns)],
            *([row["recipe"], row["backend"], str(row["seeds"]), *row["shown"]] for row in part["cells"]),
            *(
                [row["name"], "pooled", "", *(value["text"] for value in row["shown"])]
                for row in part["differences"]
                if row["pooled"]
            ),
        ]
        lines += [*aligned([row[: 3 + len(columns)] for row in table]), ""]
    return "\n".join(lines + verdict_sentences(run.rows, run.failed) + _missing(run))


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text in columns: the first two to the left, the others to the right."""
    length = max(len(row) for row in table)
    filled = [[*row, *[""] * (length - len(row))] for row in table]
    widths = [max(len(row[i]) for row in filled) for i in range(length)]
    sides = ["<", "<", *[">"] * (length - 2)]
    return [
        "  ".join(f"{c:{side}{w}}" for c, side, w in zip(row, sides, widths, strict=True)).rstrip() for row in filled
    ]


def _write(run: Run, runs: Sequence[Run], out: Path, again: str) -> Path:
    plots = figures_of(run)
    write_figures(plots, RunFolder(out).figures)
    sound = findings(run.rows)
    page = template("report.html").render(
        name=run.name,
        kicker=_kicker(run, runs),
        headline=headline(run.rows),
        sentences=sound + trouble(run.rows, run.failed) + _missing(run),
        sound=len(sound),
        datasets=[
            _numbers(View(run, dataset, run.rows[run.rows["dataset"] == dataset]))
            for dataset in levels(run.rows, "dataset")
        ],
        effects=[shown(plot) for plot in plots if plot.name.startswith("effects")],
        figures=[shown(plot) for plot in plots if not plot.name.startswith("effects")],
        method=_method(run) + _between(runs),
        metrics=metric_notes(
            run.rows[run.rows["dataset"] == levels(run.rows, "dataset")[0]] if len(run.rows) else run.rows
        ),
        runs=[about(one) for one in runs],
        papers=PAPERS,
        again=again,
    )
    path = RunFolder(out).page
    write_text(path, page)
    return path


def template(name: str) -> jinja2.Template:
    """A page of this folder, or of another room by "room/page"; both may include what lies here."""
    here = Path(__file__).parent
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([here, here.parent]), autoescape=True, undefined=jinja2.StrictUndefined
    ).get_template(name)


def shown(plot: Plot) -> dict[str, Any]:
    """A figure as the macro of figure.html takes it."""
    words = {"name": plot.name, "title": plot.title, "caption": plot.caption, "legend": plot.keys}
    return {**words, "images": images(plot)}


def _kicker(run: Run, runs: Sequence[Run]) -> str:
    """What was compared and how much of it finished, in one line."""
    finished = sum(cell.finished for cell in run.cells)
    of = f"{finished} of {count(len(run.cells), 'cell')} finished"
    started = str(runs[0].environment.get("started", ""))[:10] if len(runs) == 1 else ""
    study = str(run.settings.get("study", "")).replace("_", " ")
    return " · ".join(part for part in (study[:1].upper() + study[1:], run.name, of, started) if part)


def _missing(run: Run) -> list[str]:
    if not run.unfinished:
        return []
    named = ", ".join(cell.id for cell in run.unfinished)
    return [f"Not finished yet: {named}. The same command goes on with them; what is said here is about the others."]


def _columns(rows: pd.DataFrame) -> list[tuple[str, str | None]]:
    """Metric and sampler of every column of the tables."""
    sampler = main_sampler(rows)
    scored = [name for name in sample_metrics(rows) if not quantity(name).is_p_value] if sampler else []
    there = set(rows["metric"])
    wanted: list[tuple[str, str | None]] = [(metric, None) for metric in ("bound", "epsilon_mse") if metric in there]
    return wanted + [(metric, sampler) for metric in scored[:MOST_SAMPLE_COLUMNS]]


def _column(rows: pd.DataFrame, metric: str, sampler: str | None) -> dict[str, Any]:
    """Title and notes of a column: unit, direction, and the floor of a sample metric."""
    found = rows[rows["metric"] == metric]
    about = quantity(metric, str(found["unit"].iloc[0]))
    least = floor(rows, metric, sampler) if sampler else None
    unit = about.unit if sampler is None and about.unit not in ("", "1") else ""
    better = {"lower": "↓ better", "higher": "↑ better"}.get(about.direction or "", "")
    parts = [unit, better, f"floor {plain(least, 3)}" if least is not None else ""]
    title = (about.title[0].upper() + about.title[1:]).replace(" = ", "\u00a0=\u00a0")
    return {"title": title, "notes": [part for part in parts if part]}


def _numbers(view: View) -> dict[str, Any]:
    """The tables of one dataset: cells, paired differences, and what moves the bound."""
    rows = view.rows
    columns = _columns(rows)
    tables = {column: values(rows, *column) for column in columns}
    factors = recipe_factors(view.run.rows)
    sampler = main_sampler(rows)
    drawn = f" Samples: {sampler_name(sampler)}." if sampler else ""
    differences = _differences(tables)
    return {
        "title": name_of(view.dataset) if view.run.rows["dataset"].nunique() > 1 else "",
        "caption": "Means over seeds ± the half width of their 95 % interval (Student’s t). Seeds share their draws, so"
        " cells are better compared by the paired differences below than by these intervals." + drawn,
        "recipe_heading": " · ".join(HEADINGS[name] for name in factors),
        "columns": [_column(rows, *column) for column in columns] + _cost_column(rows),
        "cells": [_cell_row(view, key, tables) for key in view.groups()],
        "difference_columns": [_column(rows, *column) for column in columns],
        "differences": differences,
        "differences_caption": "First minus second by seed, then the mean ± the half width of its"
        f" {'two-stage ' if FIRST_STAGE in rows.attrs else ''}95 % interval. Bold: the interval excludes zero;"
        " with *: so does one widened to hold jointly over the pooled differences of this table (Bonferroni)."
        " P(better): the probability that the first is better on a new seed, a 95 % interval that assumes no"
        " distribution (Clopper–Pearson)." + (" One seed gives no intervals." if view.seeds == 1 else ""),
        "bound_tables": bound_tables(view),
        **_split(view),
    }


def _cost_column(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{"title": "Training", "notes": ["median"]}] if (rows["metric"] == "train_seconds").any() else []


def _cell_row(view: View, key: tuple[Hashable, Hashable], tables: Mapping[tuple, pd.DataFrame]) -> dict[str, Any]:
    recipe, backend = key
    of_cell = view.rows[(view.rows["recipe"] == recipe) & (view.rows["backend"] == backend)]
    shown = []
    for table in tables.values():
        found = table[key].dropna() if key in table else pd.Series(dtype=float)
        shown.append(plus_minus(mean_interval(found.to_numpy())) if len(found) else "–")
    spent = of_cell[of_cell["metric"] == "train_seconds"]["value"]
    if _cost_column(view.rows):
        shown.append(seconds(float(spent.median())) if len(spent) else "–")
    return {
        "recipe": name_of(recipe),
        "backend": name_of(backend),
        "seeds": int(of_cell["seed"].nunique()),
        "shown": shown,
        "colour": view.colour(recipe),
        "dark": DARK.get(view.colour(recipe), view.colour(recipe)),
    }


def _differences(tables: Mapping[tuple, pd.DataFrame]) -> list[dict[str, Any]]:
    """Rows of the difference table: every contrast that any column has, in one order: against the first recipe, of
    frameworks, and of recipes that differ in one factor.
    """
    found: dict[tuple, dict[tuple, Contrast]] = {}
    for column, table in tables.items():
        table = table.dropna(axis=1, how="all")
        for factor in ("recipe", "backend"):
            for one in against_reference(table, factor, levels_in(table, factor)):
                found.setdefault((factor, one.first, one.second, one.within), {})[column] = one
        for first, second in one_factor_apart(levels_in(table, "recipe")):
            if (apart := contrast(table, "recipe", first, second)) is not None:
                found.setdefault(("recipe", first, second, None), {})[column] = apart
    rows = []
    pooled = sum(len(by_column) for (*_, within), by_column in found.items() if within is None)
    for (_, first, second, within), by_column in found.items():
        shown = [
            _difference(by_column[column], column[0], pooled)
            if column in by_column
            else {"text": "–", "mark": "", "resolved": False, "notes": []}
            for column in tables
        ]
        rows.append(
            {
                "name": difference_name(first, second),
                "within": "pooled" if within is None else name_of(within),
                "pooled": within is None,
                "shown": shown,
            }
        )
    return rows


def _difference(one: Contrast, metric: str, comparisons: int) -> dict[str, Any]:
    """A difference, whether its interval excludes zero, by itself and jointly with the other pooled `comparisons`."""
    interval, direction, notes = one.interval(), quantity(metric).direction, []
    jointly = one.within is None and one.interval(1 - 0.05 / comparisons).excludes_zero
    if one.left_out:
        notes.append(f"without seed {', '.join(map(str, one.left_out))}")
    if one.within is None and one.factor == "recipe" and direction and interval.n > 1:
        nothing = np.zeros(interval.n)
        better = probability_of_improvement(one.differences, nothing, lower_is_better=direction == "lower")
        notes.append(f"P(better) {better.low:.2f} to {better.high:.2f}")
    return {
        "text": plus_minus(interval, signed=True),
        "mark": "\u00a0*" if jointly else "",
        "resolved": interval.excludes_zero,
        "notes": notes,
    }


def _split(view: View) -> dict[str, Any]:
    """Shares of the bound's variance over the study, where every recipe ran in every framework with several seeds."""
    nothing: dict[str, Any] = {"split": [], "split_caption": ""}
    if not (view.rows["metric"] == "bound").any():
        return nothing
    table = values(view.rows, "bound")
    balanced = table.shape[1] == len(view.recipes) * len(view.backends) and len(table.dropna()) > 1
    if not balanced:
        return nothing
    complete, left_out = complete_seeds(view.rows, "bound", ("recipe", "backend"))
    kept = complete[["recipe", "backend", "seed", "metric", "value"]]
    split = variance_split(kept, "bound", ("recipe", "backend"))
    factors = recipe_factors(view.run.rows)
    noun = factors[0] if len(factors) == 1 else "recipe"
    shares = []
    for i, row in enumerate(split.to_dict("records")):
        name = str(row["term"]).replace("recipe", noun).replace("backend", "framework").replace(" x ", " × ")
        share, colour = float(row["share"]), SHARES[i % len(SHARES)]
        shown = {"name": name, "percent": round(100 * share, 2), "text": _percent(share)}
        shares.append({**shown, "colour": colour, "dark": DARK.get(colour, colour)})
    caption = (
        "Shares of the test bound’s variance over the cells of this study, from expected mean squares with the seed"
        " as a random factor. What is shared by all cells of a seed (“seed”) drops out of the paired differences; the"
        " interactions with the seed are what limits them."
    )
    if left_out:
        caption += f" Without the incomplete seeds: {listed([str(seed) for seed in left_out])}."
    return {"split": shares, "split_caption": caption}


def _percent(share: float) -> str:
    return (
        f"{100 * share:.0f} %"
        if share >= 0.1 or share == 0
        else f"{100 * share:.1f} %"
        if share >= 0.001
        else "< 0.1 %"
    )


def _method(run: Run) -> list[str]:
    """What a reader must know to trust or repeat the numbers."""
    rows, settings = run.rows, run.settings
    lines = [
        "All cells of a seed share initial weights, data order, steps t and noise; differences are taken within seeds"
        " and the seeds carry the intervals (paired Student’s t, 95 %).",
        "Recipes: " + "; ".join(full_name_of(recipe) for recipe in levels(rows, "recipe")) + ".",
    ]
    if (first := rows.attrs.get(FIRST_STAGE)) is not None:
        aim = settings.get("seeds_until")
        lines.append(
            f"The number of seeds was set by the first {first}, whose spread asked for so many"
            f"{f' to reach ± {aim} bits/dim in the bound' if aim is not None else ''} (Stein’s rule). Intervals of"
            " differences are therefore two-stage ones: the mean of all seeds, the spread and Student’s t of the first"
            f" {first} alone. They cover 95 % exactly, as intervals from the spread of all seeds would not."
        )
    if "first_variance" in settings:
        name = str(settings["first_variance"])
        lines.append(
            f"Reverse variance at t = 1, where β̃₁ is 0: {FIRST_VARIANCE.get(name, name)} (first_variance = {name})."
            " The decoder term depends on it strongly."
        )
    if "clip_x_0" in settings:
        clip = settings["clip_x_0"]
        lines.append(
            "The guess of x₀ is not clipped while sampling (clip_x_0 is off)."
            if clip is None
            else f"The guess of x₀ is clipped to [−{clip}, {clip}] while sampling (clip_x_0 = {clip}); the bound not."
        )
    bound = rows[rows["metric"] == "bound"]
    if len(bound) and bound["standard_error"].notna().any():
        worst, unit = float(bound["standard_error"].max()), bound["unit"].iloc[0]
        cost = rows[rows["metric"] == "bound_evaluations"]["value"]
        spent = f", at {plain(float(cost.median()), 3)} network evaluations per test example" if len(cost) else ""
        lines.append(
            f"The bound is estimated from drawn steps and noise: a cell’s standard error from that is at most"
            f" {plain(worst, 2)} {unit}"
            f"{spent}. It is part of the spread over seeds, so the intervals above hold it already."
        )
    if sample_metrics(rows):
        lines.append(
            "Sample metrics stand beside their floor: the same metric between held-out training data and test data,"
            " at the same sample sizes, which is what a perfect model would get."
        )
        lines.append(
            "Sample quality against the sampler’s network evaluations is a study of its own on these checkpoints:"
            f" python studies/compare_samplers.py --run {settings.get('out', 'RUN')}."
        )
    return lines


def _between(runs: Sequence[Run]) -> list[str]:
    """What a comparison of runs rests on: the settings in which they differ."""
    if len(runs) == 1:
        return []
    ignored = {"out", "jobs", "threads", "preset"}
    keys = [key for key in dict.fromkeys(key for run in runs for key in run.settings) if key not in ignored]
    differing = [key for key in keys if len({_written(run.settings.get(key)) for run in runs}) > 1]
    parts = [f"{key}: " + " / ".join(_written(run.settings.get(key)) for run in runs) for key in differing]
    return [
        f"Settings that differ between {' / '.join(run.name for run in runs)}: {'; '.join(parts) or 'none'}.",
        "Cells of different runs are paired by seed. They share weights and draws only as far as the settings these"
        " depend on (dataset, batch size, T, network) agree; where they do not, pairing gains nothing and the"
        " intervals stay honest.",
    ]


def about(run: Run) -> dict[str, Any]:
    """Command, settings and environment of one run, for the last section."""
    facts = dict(run.environment)
    command = str(facts.pop("command", "not recorded"))
    started, commit = facts.pop("started", None), facts.pop("commit", None)
    packages = facts.pop("packages", None) or {}
    made = [f"Started {started}." if started else "", f"Source: commit {commit}." if commit else ""]
    devices = levels(
        pd.DataFrame(
            {"d": [str(cell.description.get("device")) for cell in run.cells if cell.description.get("device")]}
        ),
        "d",
    )
    if devices:
        facts["devices"] = ", ".join(devices)
    return {
        "name": run.name,
        "command": command,
        "made": " ".join(part for part in made if part),
        "settings": [(key, _written(value)) for key, value in run.settings.items()],
        "environment": [(key, _written(value)) for key, value in {**facts, **packages}.items()],
    }


def _written(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None else ("yes" if value is True else "no" if value is False else str(value))
