"""The report of a study of estimators: report.md and a figure in its folder, and its tables for the terminal."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from studies.estimators.rivals import HISTORY
from studies.reporting.figures import write_figures
from studies.reporting.names import name_of
from studies.reporting.numbers import plain
from studies.reporting.plotting import FAINT, INK, MARKERS, PALETTE, Key, Panel, Plot, log_axis
from studies.reporting.terminal import aligned, terminal_width
from studies.store.cells import FACTOR_NAMES
from studies.store.files import read_rows, write_text
from studies.store.folder import RunFolder
from studies.store.reading import with_later_factors
from studies.store.recipes import recipes_of

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
GOAL = 20
TELLING = 0.01  # the error of a coverage that can be told from one outside 93-97 %


def write_report(out: Path) -> Path:
    """Writes figures/evaluations.{png,pdf,svg,csv} and report.md from the folder alone."""
    rows = with_later_factors(read_rows(RunFolder(out).results))
    write_figures([figure(rows)], RunFolder(out).figures)
    settings = RunFolder(out).read_settings()
    environment = RunFolder(out).read_environment()
    lines = [
        "# Network evaluations for the error bar of one full sweep",
        "",
        *(f"- {sentence}" for sentence in verdict(rows)),
        "",
        "![Evaluations per example by number of test examples](figures/evaluations.png)",
        "",
    ]
    for name, part in _models(rows):
        for table in (cost_table(part), calibration_table(part)):
            lines += [f"## {name}" if table[0][0] == "estimator" else "", "", *_markdown(table), ""]
    lines += ["## Method", "", *(f"- {line}" for line in method(settings)), ""]
    lines += ["## How to reproduce", "", "```sh", environment["command"], "```", ""]
    path = out / "report.md"
    write_text(path, "\n".join(lines))
    return path


def closing_table(out: Path) -> str:
    """The tables and the verdict as plain text."""
    rows = with_later_factors(read_rows(RunFolder(out).results))
    lines: list[str] = []
    for name, part in _models(rows):
        width = terminal_width()
        lines += [name, *aligned(cost_table(part), width), "", *aligned(calibration_table(part), width), ""]
    return "\n".join(lines + verdict(rows))


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
        ("coverage", "ours_network", "", "fresh evaluations"),
        ("computed_over_scatter", "ours", "computed standard error / scatter", "from the table"),
        ("network_computed_over_scatter", "ours", "", "fresh evaluations"),
    ]
    sizes = sorted(rows["examples"].unique())
    table = [["calibration", "", *(f"N = {n}" for n in sizes)]]
    for metric, estimator, title, source in wanted:
        chosen = rows[(rows["metric"] == metric) & (rows["estimator"] == estimator)].set_index("examples")
        if len(chosen):
            cells = [f"{chosen['value'][n]:.3f} ± {chosen['standard_error'][n]:.3f}" for n in sizes]
            table.append([title, source, *cells])
    return table


def verdict(rows: pd.DataFrame) -> list[str]:
    """Whether the goal, 1/20 of a sweep over T = 1000, is reached, and whether intervals cover what they say."""
    costs = rows[rows["metric"] == "evaluations"]
    ours, sweep = (costs[costs["estimator"] == name]["value"].to_numpy() for name in ("ours", "full_sweep"))
    fewest = float((sweep / ours).min())
    goal = (
        f"; the goal of 1/{GOAL} is {'met' if fewest >= GOAL else 'NOT met'} everywhere" if sweep.min() >= 1000 else ""
    )
    covered = rows[(rows["metric"] == "coverage") & (rows["estimator"] == "ours")]
    low, high, error = covered["value"].min(), covered["value"].max(), covered["standard_error"].max()
    inside = "inside 93–97 %" if low >= 0.93 and high <= 0.97 else "NOT all inside 93–97 %"
    return [
        f"The harness's estimator needs {plain(ours.min(), 3)} to {plain(ours.max(), 3)} evaluations per example, pilot"
        f" counted: at most 1/{fewest:.0f} of a sweep's{goal}.",
        f"Its 95 % intervals hold the truth in {100 * low:.1f} to {100 * high:.1f} % of the simulated repeats (each"
        f" ± {100 * error:.1f}): {inside if error <= TELLING else 'too few repeats to tell'}.",
    ]


def method(settings: dict) -> list[str]:
    return [
        "Error bars are those from steps and noise, the test examples being given. A cost is the number of network"
        " evaluations per example at which an estimator's standard error is that of one full sweep.",
        f"All are measured on one table of terms: {settings['noise_draws']} noise draws of every example, at each t up"
        " to 100 and at one step of each stratum beyond. Drawing from the table leaves (R − 1)/R of the noise’s"
        " variance, for every estimator and the sweep alike; the sweep’s error above is corrected for it.",
        f"Importance: P(t) by the second moments of a history of {HISTORY} losses at each t, which costs"
        f" {HISTORY} T evaluations unless training has collected it already; independent t for each example, or one"
        " low-discrepancy grid over all examples.",
        "The limit, (sum of sd over t)² / (sum of variances), is that of estimates which average terms. The harness’s"
        " also takes from each term what is known of its noise and of its example, and can be below it.",
        f"Calibration: {settings['repeats']} estimates from the table against its own sum, at the cost found."
        f" With the network: {settings['network_repeats']} estimates, each interval against the mean of the others.",
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
        [Key(NAMES[name], colours[name], marker=MARKERS[0]) for name in SHOWN],
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


def _markdown(table: Sequence[Sequence[str]]) -> list[str]:
    head, *body = [f"| {' | '.join(row)} |" for row in table]
    return [head, "|---|---|" + "---:|" * (len(table[0]) - 2), *body]
