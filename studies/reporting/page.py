"""The report of a run: one HTML page that needs nothing beside it, the figures' files, and a table for the terminal.

It is made from the run's folder and nothing else, so a report can be made again wherever the folder is.
"""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from studies.reporting.contrasts import sample_metrics
from studies.reporting.figures import figures_of, write_figures
from studies.reporting.last_step import method_lines
from studies.reporting.names import full_name_of
from studies.reporting.numbers import count, plain, some, unbroken
from studies.reporting.plotting import Plot, images
from studies.reporting.ranked_table import RankedRow
from studies.reporting.tables import dataset_tables, metric_notes
from studies.reporting.terminal import aligned, terminal_width, wrapped
from studies.reporting.trouble import trouble
from studies.reporting.verdict import MOST_NAMED, findings, headline, verdict_sentences
from studies.reporting.view import View, views_of
from studies.store.files import write_text
from studies.store.folder import RunFolder
from studies.store.reading import FIRST_STAGE, Run, levels, read_results, read_run, side_by_side

MOST_TERMINAL_COLUMNS = 3  # of metrics
MOST_TERMINAL_ROWS = 15  # of many recipes
PAPERS = (
    ("Sohl-Dickstein et al. (2015), Deep unsupervised learning using nonequilibrium thermodynamics", "https://arxiv.org/abs/1503.03585"),
    ("Ho, Jain & Abbeel (2020), Denoising diffusion probabilistic models", "https://arxiv.org/abs/2006.11239"),
    ("Nichol & Dhariwal (2021), Improved denoising diffusion probabilistic models", "https://arxiv.org/abs/2102.09672"),
    ("Kingma et al. (2021), Variational diffusion models", "https://arxiv.org/abs/2107.00630"),
    ("Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice", "https://arxiv.org/abs/2108.13264"),
)  # fmt: skip
BESIDE_VERDICT = ("effects", "first-samples")
FIRST_VARIANCE = {"next": "β̃₂, the next step’s", "beta": "β₁"}


def make_report(run_folder: Path) -> tuple[str, Path]:
    """Writes the report, and returns the table to close with and the page's path.

    Both are of one reading and ask the same views, so that no ranking or contrast is computed twice.
    """
    run = read_results(run_folder)
    views = views_of(run)
    path = _write(run, views, [run], run_folder, again(run_folder))
    return _closing_table(run, views, terminal_width()), path


def write_report(run_folder: Path) -> Path:
    """Writes figures/*.{png,pdf,svg,csv} and report.html into the run's folder; returns the page's path.

    ValueError in one line where the folder is not a run's.
    """
    run = read_run(run_folder)
    return _write(run, views_of(run), [run], run_folder, again(run_folder))


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Several runs in one report in the folder `out`, with the run as a factor; cells are paired by seed."""
    read = [read_results(folder) for folder in runs]
    both = side_by_side(read)
    return _write(both, views_of(both), read, out, f"{again(*runs)} --out {out}")


def closing_table(run_folder: Path, width: int | None = None) -> str:
    """The headline, the table of results and what was found as plain text, at most `width` characters wide."""
    run = read_run(run_folder)
    return _closing_table(run, views_of(run), width)


def again(*runs: Path) -> str:
    """The command that makes the report of these folders again."""
    return f"python studies/report.py {' '.join(str(folder) for folder in runs)}"


def _closing_table(run: Run, views: Sequence[View], width: int | None) -> str:
    lines = [*wrapped(headline(views), width), ""]
    for view in views:
        part = dataset_tables(view)
        table = _ranked_lines(part) if part["folded"] and part["ranked"] else _cell_lines(part)
        lines += [*aligned(table, width, heads=2), ""]
        if part["folded"] and (more := len(_not_apart(part)) - MOST_TERMINAL_ROWS) > 0:
            lines += [*wrapped(f"Not listed here, but in report.html: {count(more, 'recipe')}.", width), ""]
    for sentence in verdict_sentences(run, views) + _missing(run):
        lines += wrapped(sentence, width)
    return "\n".join(lines)


def _ranked_lines(part: dict[str, Any]) -> list[list[str]]:
    """The best of many recipes; a bar stands beside those that cannot be told from the first."""
    columns = part["ranked_columns"][:MOST_TERMINAL_COLUMNS]
    (first, *others), most = columns, len(columns)
    return [
        [part["recipe_heading"], "rank", "seeds", first["title"], "behind", *(column["title"] for column in others)],
        ["", "", "", ", ".join(first["notes"]), "", *(", ".join(column["notes"]) for column in others)],
        *(
            [
                row.recipe,
                f"{'│' if row.tied else ' '} {row.rank}",
                str(row.seeds),
                row.means[0],
                row.behind,
                *row.means[1:most],
            ]
            for row in _not_apart(part)[:MOST_TERMINAL_ROWS]
        ),
    ]


def _not_apart(part: dict[str, Any]) -> list[RankedRow]:
    return [row for row in part["ranked"] if not row.apart]


def _cell_lines(part: dict[str, Any]) -> list[list[str]]:
    """Every recipe and framework, and below them the pooled differences."""
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
    return [row[: 3 + len(columns)] for row in table]


def _write(run: Run, views: Sequence[View], runs: Sequence[Run], out: Path, command: str) -> Path:
    plots = figures_of(views)
    write_figures(plots, RunFolder(out).figures)
    sound = findings(views)
    page = template("report.html").render(
        name=run.name,
        kicker=_kicker(run, runs),
        headline=headline(views),
        sentences=sound + trouble(run) + _missing(run),
        sound=len(sound),
        datasets=[dataset_tables(view) for view in views],
        effects=[as_figure(plot) for plot in plots if plot.name.startswith("effects")],
        first_samples=[as_figure(plot) for plot in plots if plot.name.startswith("first-samples")],
        figures=[as_figure(plot) for plot in plots if not plot.name.startswith(BESIDE_VERDICT)],
        method=_method(run) + _between(runs),
        metrics=metric_notes(views[0]) if views else {"rows": [], "caption": ""},
        runs=[about(each) for each in runs],
        papers=PAPERS,
        again=command,
    )
    path = RunFolder(out).page
    write_text(path, page)
    return path


def template(name: str) -> jinja2.Template:
    """A page of this folder, or of another room by "room/page"; both may include and extend what lies here."""
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([here, here.parent]), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["unbroken"] = unbroken
    return environment.get_template(name)


def as_figure(plot: Plot) -> dict[str, Any]:
    """A figure as the macro of figure.html takes it."""
    words = {"name": plot.name, "title": plot.title, "caption": plot.caption, "legend": plot.keys}
    return {**words, "images": images(plot), "table": plot.table}


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
    named = some([cell.id for cell in run.unfinished])
    return [
        f"Not finished yet: {named}. The same command goes on with them; of them this has what their first stages"
        " measured, if anything."
    ]


def _method(run: Run) -> list[str]:
    """What a reader must know to trust or repeat the numbers."""
    rows, settings = run.rows, run.settings
    lines = [
        "All cells of a seed share initial weights, data order, steps t and noise; differences are taken within seeds"
        " and the seeds carry the intervals (paired Student’s t, 95 %).",
        _recipes(rows),
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
    lines += method_lines(run)
    if (factor := run.reference.get("scale_factor")) is not None:
        lines.append(
            f"The data were scaled by “{settings.get('scale')}”, with a centre and a factor for each column or channel"
            " from the training set alone (scale_centre and scale_factor, recorded with the real examples). Bounds,"
            " floors and likelihoods are those of the data in the file’s own units: those of the scaled data and"
            f" {plain(float(np.mean(np.log2(factor))), 4)} bits/dim, the mean log₂ of the factors. Errors of x₀,"
            " samples, their metrics and pictures are of the scaled data; a sample times the factor plus the centre is"
            " in the file’s units."
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


def _recipes(rows: pd.DataFrame) -> str:
    """The recipes with what their names stand for; many of them by the levels of each factor."""
    recipes = levels(rows, "recipe")
    if len(recipes) <= MOST_NAMED:
        return "Recipes: " + "; ".join(full_name_of(recipe) for recipe in recipes) + "."
    factors = [
        f"{factor}: {', '.join(full_name_of(level) for level in dict.fromkeys(r.level(factor) for r in recipes))}"
        for factor in recipes[0].factors
    ]
    return f"{count(len(recipes), 'recipe')}, of these levels. " + "; ".join(factors) + "."


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
    origin = [f"Started {started}." if started else "", f"Source: commit {commit}." if commit else ""]
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
        "made": " ".join(part for part in origin if part),
        "settings": [(key, _written(value)) for key, value in run.settings.items()],
        "environment": [(key, _written(value)) for key, value in {**facts, **packages}.items()],
    }


def _written(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None else ("yes" if value is True else "no" if value is False else str(value))
