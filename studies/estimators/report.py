"""The report of a study of estimators: figure and page in its folder, and its tables for the terminal."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from studies.estimators.rivals import HISTORY
from studies.estimators.settings import EstimatorSettings
from studies.plan.command import read_recorded
from studies.reporting.figures import write_figures
from studies.reporting.names import name_of
from studies.reporting.numbers import count, plain
from studies.reporting.page import about, again, as_figure, template
from studies.reporting.plotting import FAINT, INK, MARKERS, PALETTE, Key, Panel, Plot, log_axis
from studies.reporting.terminal import aligned, terminal_width
from studies.store.cells import FACTOR_NAMES
from studies.store.files import write_text
from studies.store.folder import RunFolder
from studies.store.reading import Run, read_results
from studies.store.recipes import recipes_of

PAPERS = (
    ("Nichol & Dhariwal (2021), Improved denoising diffusion probabilistic models", "https://arxiv.org/abs/2102.09672"),
    ("Kingma et al. (2021), Variational diffusion models", "https://arxiv.org/abs/2107.00630"),
)
NAMES = {
    "full_sweep": "full sweep over t",
    "uniform": "uniform t",
    "stratified": "stratified t, one grid over all examples",
    "importance": "importance, history not counted",
    "importance_with_history": "importance, history counted",
    "importance_grid": "importance on one grid, history not counted",
    "importance_grid_with_history": "importance on one grid, history counted",
    "ours": "this harness, pilot counted",
    "ours_network": "this harness, fresh network evaluations",
    "limit": "best allocation over t, if it were known",
}
SHOWN = ("full_sweep", "importance_with_history", "importance_grid_with_history", "ours", "limit")
TELLING = 0.01  # the standard error of a coverage below which a fault of a few per cent shows
STANDARD_ERRORS = 3.0  # from 95 %, beyond which a coverage is another one


def make_report(out: Path) -> tuple[str, Path]:
    """Writes figure and page from the folder alone; returns the tables to close with and the page's path.

    ValueError in one line where the folder is of another study, or has no results yet.
    """
    run = read_results(out)
    if not {"estimator", "examples"} <= set(run.rows.columns):
        raise ValueError(f"{RunFolder(out).results} has no estimators; give the folder of a compare_estimators study")
    return closing_table(run.rows), _write(run, out)


def _write(run: Run, out: Path) -> Path:
    """Writes figures/evaluations.{png,pdf,svg,csv} and the page."""
    rows, plot = run.rows, figure(run.rows)
    write_figures([plot], RunFolder(out).figures)
    finished = sum(cell.finished for cell in run.cells)
    page = template("estimators/report.html").render(
        name=run.name,
        kicker=f"Estimators of the bound · {run.name} · {finished} of {count(len(run.cells), 'model')} finished",
        headline=headline(rows),
        sentences=sentences(rows),
        trouble=[f"Failed: {cell.id}: {cell.failure}" for cell in run.failed],
        figures=[as_figure(plot)],
        models=[
            {"name": name, "costs": cost_table(part), "calibration": calibration_table(part)}
            for name, part in _models(rows)
        ],
        method=method(read_recorded(out, EstimatorSettings)),
        papers=PAPERS,
        run=about(run),
        again=again(out),
    )
    path = RunFolder(out).page
    write_text(path, page)
    return path


def closing_table(rows: pd.DataFrame) -> str:
    """The answer, the tables of every model and what else the numbers say, as plain text."""
    lines = [headline(rows), ""]
    for name, part in _models(rows):
        width = terminal_width()
        lines += [name, *aligned(cost_table(part), width), "", *aligned(calibration_table(part), width), ""]
    return "\n".join(lines + sentences(rows))


def cost_table(rows: pd.DataFrame) -> list[list[str]]:
    """Evaluations per example and the multiple of the limit, by estimator and number of test examples."""
    costs = rows[rows["metric"] == "evaluations"].pivot(index="estimator", columns="examples", values="value")
    sweep = rows[rows["metric"] == "sweep_error"].set_index("examples")["value"]
    table: list[list[str]] = [["estimator", "", *(f"N = {n}" for n in costs.columns)]]
    table.append(["standard error of one sweep", "bits/dim", *(plain(sweep[n], 2) for n in costs.columns)])
    for estimator in [name for name in NAMES if name in costs.index]:
        cells = [
            f"{plain(value, 3)} ({plain(value / limit, 2)}×)"
            for value, limit in zip(costs.loc[estimator], costs.loc["limit"], strict=True)
        ]
        table.append([NAMES[estimator], "per example (of the limit)", *cells])
    return table


def calibration_table(rows: pd.DataFrame) -> list[list[str]]:
    """Coverage of the 95 % intervals and computed over seen scatter, each with its own error."""
    wanted = [
        ("coverage", "ours", "95 % intervals that hold the truth", "from the table"),
        ("coverage", "ours_network", "95 % intervals that hold the truth", "fresh evaluations"),
        ("computed_over_scatter", "ours", "computed standard error / scatter", "from the table"),
        ("network_computed_over_scatter", "ours", "computed standard error / scatter", "fresh evaluations"),
    ]
    sizes = sorted(rows["examples"].unique())
    table = [["calibration", "", *(f"N = {n}" for n in sizes)]]
    for metric, estimator, title, source in wanted:
        chosen = rows[(rows["metric"] == metric) & (rows["estimator"] == estimator)].set_index("examples")
        if len(chosen):
            cells = [f"{chosen['value'][n]:.3f} ± {chosen['standard_error'][n]:.3f}" for n in sizes]
            table.append([title, source, *cells])
    return table


def headline(rows: pd.DataFrame) -> str:
    """The cost of this harness's estimator, over all models and numbers of examples, and its share of a sweep's."""
    ours, sweep = (_costs(rows, name) for name in ("ours", "full_sweep"))
    share = 100 * ours / sweep
    return (
        f"The bound to the error bar of one full sweep over t takes {_span(ours)} network evaluations per test example,"
        f" {_span(share, 2)} % of the sweep’s"
    )


def sentences(rows: pd.DataFrame) -> list[str]:
    """What other estimators take, and whether the intervals of this one hold the truth as often as they say."""
    others = [
        f"{words} {_span(_costs(rows, name))}"
        for name, words in (
            ("importance_with_history", "importance sampling of t, its history counted, takes"),
            ("uniform", "uniform t"),
            ("limit", "the best allocation over t, if it were known,"),
        )
    ]
    covered = rows[(rows["metric"] == "coverage") & (rows["estimator"] == "ours")]
    error = covered["standard_error"].max()
    away = int((abs(covered["value"] - 0.95) > STANDARD_ERRORS * covered["standard_error"]).sum())
    if error > TELLING:
        outcome = "too few repeats to tell from 95 %"
    elif away:
        outcome = f"{away} of {len(covered)} by more than {STANDARD_ERRORS:.0f} standard errors other than 95 %"
    else:
        outcome = f"none by more than {STANDARD_ERRORS:.0f} standard errors other than 95 %"
    return [
        f"That is for this harness’s estimator, its pilot counted; {', '.join(others)}.",
        f"Its 95 % intervals hold the truth in {_span(100 * covered['value'].to_numpy())} % of the simulated repeats"
        f" (standard error {plain(100 * error, 2)} %): {outcome}.",
    ]


def _costs(rows: pd.DataFrame, estimator: str) -> NDArray[np.float64]:
    chosen = rows[(rows["metric"] == "evaluations") & (rows["estimator"] == estimator)]
    return chosen["value"].to_numpy(np.float64)


def _span(values: NDArray[np.float64], digits: int = 3) -> str:
    """ "8.31 to 27.0", or one number where all are written alike."""
    ends = list(dict.fromkeys([plain(values.min(), digits), plain(values.max(), digits)]))
    return " to ".join(ends)


def method(settings: EstimatorSettings) -> list[str]:
    return [
        "Error bars are those from steps and noise, the test examples being given. A cost is the number of network"
        " evaluations per example at which an estimator's standard error is that of one full sweep.",
        f"All are measured on one table of terms: {settings.noise_draws} noise draws of every example, at each t up"
        " to 100 and at one step of each stratum beyond. Drawing from the table leaves (R − 1)/R of the noise’s"
        " variance, for every estimator and the sweep alike; the sweep’s error above is corrected for it.",
        f"Importance: P(t) by the second moments of a history of {HISTORY} losses at each t, which costs"
        f" {HISTORY} T evaluations unless training has collected it already; independent t for each example, or one"
        " low-discrepancy grid over all examples.",
        "The limit, (sum of sd over t)² / (sum of variances), is that of estimates which average terms. The harness’s"
        " also takes from each term what is known of its noise and of its example, and can be below it.",
        f"Calibration: {settings.repeats} estimates from the table against its own sum, at the cost found."
        f" With the network: {settings.network_repeats} estimates, each interval against the mean of the others.",
    ]


def figure(rows: pd.DataFrame) -> Plot:
    """Evaluations per example against the number of test examples, a panel a model."""
    costs = rows[(rows["metric"] == "evaluations") & rows["estimator"].isin(SHOWN)]
    colours: dict[Hashable, str] = dict(zip(SHOWN, (FAINT, *PALETTE[1:3], PALETTE[0], INK), strict=True))
    panels = []
    for name, part in _models(costs):
        spoken = "; ".join(
            f"{NAMES[str(estimator)]}: "
            + ", ".join(f"{plain(v, 3)} at N = {n}" for n, v in zip(g["examples"], g["value"], strict=True))
            for estimator, g in part.groupby("estimator", sort=False)
        )
        panels.append(
            Panel(name, f"Evaluations per example for the error bar of one sweep. {spoken}.", _draw(part, colours))
        )
    return Plot(
        "evaluations",
        "Network evaluations for the error bar of one full sweep",
        "Per test example, by number of test examples. A pilot’s or history’s cost is shared by all of them.",
        panels,
        costs[[*FACTOR_NAMES, "examples", "estimator", "value"]],
        [Key(NAMES[name], colours[name]) for name in SHOWN],
    )


def _draw(part: pd.DataFrame, colours: Mapping[Hashable, str]) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for estimator, group in part.groupby("estimator", sort=False):
            group = group.sort_values("examples")
            ax.plot(group["examples"], group["value"], color=colours[estimator], marker=MARKERS[0], markersize=4.5)
        sizes, values = part["examples"].to_numpy(), part["value"].to_numpy()
        log_axis(ax, "x", sizes.min() / 1.15, sizes.max() * 1.15)
        log_axis(ax, "y", values.min() / 1.3, values.max() * 1.3)
        ax.set_xlabel("test examples")
        ax.set_ylabel("evaluations per example")

    return draw


def _models(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each model's rows, by what tells it from the others."""
    varying = [factor for factor in FACTOR_NAMES if rows[factor].nunique() > 1] or ["objective"]
    groups = rows.groupby(recipes_of(rows, varying), sort=False)
    return [(name_of(recipe), part) for recipe, part in groups]
