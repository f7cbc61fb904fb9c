"""Table 2 of Ho et al. (2020) as a figure: what is predicted by which loss and variance, and where we differ from them.

Cells that diverged have no number here, and are said to have diverged.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from studies.reporting.names import name_of, quantity
from studies.reporting.numbers import listed, plus_minus
from studies.reporting.plotting import INK, PALETTE, PAPER, Key, Panel, Plot, linear_axis, log_axis, rows_axis
from studies.reporting.view import View
from studies.statistics.intervals import mean_interval
from studies.store.reading import levels, recipe_factors
from studies.store.recipes import Recipe, recipes_of

AXES = ("prediction", "objective", "variance")
ROW = 92  # pixels of a prediction
WIDE = 3.0  # ratio of the largest to the smallest value from which the axis is a log one


@dataclass(frozen=True)
class Claim:
    """`better` gave a lower `metric` than `worse` in Ho et al.; both are cells of the table."""

    words: str
    metric: str
    better: Recipe
    worse: Recipe


def _cell(prediction: str, objective: str, variance: str) -> Recipe:
    return Recipe(AXES, (prediction, objective, variance))


EPSILON_MSE = _cell("epsilon", "target_mse", "beta_tilde")
EPSILON_KL = _cell("epsilon", "posterior_kl", "beta_tilde")
MEAN_KL = _cell("mean", "posterior_kl", "beta_tilde")
MEAN_DIAGONAL = _cell("mean", "posterior_kl", "learned_diagonal")
CLAIMS = (
    Claim("with epsilon, the plain MSE draws better samples than the KL (FID 3.17 against 13.51)",
          "frechet", EPSILON_MSE, EPSILON_KL),
    Claim("with epsilon, the KL gives a lower bound than the plain MSE (3.70 against 3.75 bits/dim)",
          "bound", EPSILON_KL, EPSILON_MSE),
    Claim("with the mean, a fixed variance draws better samples than a learned diagonal (FID 13.22 against 23.69)",
          "frechet", MEAN_KL, MEAN_DIAGONAL),
)  # fmt: skip
"""The numbers are of CIFAR-10, from their Tables 1 and 2."""
UNSTABLE = (_cell("mean", "target_mse", "beta_tilde"), _cell("epsilon", "posterior_kl", "learned_diagonal"))
"""Their two blanks: "unstable to train and generated poor samples with out-of-range scores"."""


def table2(view: View) -> Plot | None:
    """Bound and samples of every prediction under every loss and variance; None where a study is not such a table."""
    factors = set(recipe_factors(view.run.rows))
    if "prediction" not in factors or not factors & {"objective", "variance"} or not factors <= set(AXES):
        return None
    cells = of_cells(view)
    rows, table = cells.rows, cell_means(cells)
    if table.empty:
        return None
    columns = list(dict.fromkeys(zip(rows["objective"], rows["variance"], strict=True)))
    panels = []
    for metric, means in table.groupby("metric", sort=False):
        about = quantity(str(metric))
        panels.append(
            Panel(
                f"{about.title[0].upper()}{about.title[1:]}, ↓ better",
                f"{about.title} by prediction, loss and variance: {_spoken(means)}.",
                _draw(means, levels(rows, "prediction"), columns),
                height=70 + ROW * rows["prediction"].nunique(),
            )
        )
    return Plot(
        "table2",
        "What to predict, with which loss",
        "The cells of Table 2 of Ho et al. (2020), extended: means over seeds and frameworks with 95 % intervals."
        f"{_diverged(rows)} {' '.join(against_ho(cells))}".rstrip(),
        panels,
        table,
        [Key(_column_name(column), PALETTE[i % len(PALETTE)]) for i, column in enumerate(columns)],
    )


def of_cells(view: View) -> View:
    """A view with the cell of the table, a level of each of AXES, as the recipe."""
    return View(view.run, view.dataset, view.rows.assign(recipe=recipes_of(view.rows, AXES)))


def against_ho(cells: View) -> list[str]:
    """Which findings of Ho et al. the run repeats, which it contradicts, and which it leaves open: a sentence each.

    `cells` is the view that `of_cells` makes. Findings about cells that the study did not run are left out.
    """
    verdicts = ("As in Ho et al.", "Unlike in Ho et al.", "Undecided by these seeds")
    by_verdict: dict[str, list[str]] = {verdict: [] for verdict in verdicts}
    for claim in CLAIMS:
        sampler = None if claim.metric == "bound" else cells.main_sampler
        contrast = cells.contrast(claim.metric, "recipe", claim.better, claim.worse, sampler=sampler)
        if contrast is None:
            continue
        interval = contrast.interval()
        verdict = (
            "Undecided by these seeds"
            if not interval.excludes_zero
            else "As in Ho et al."
            if interval.estimate < 0
            else "Unlike in Ho et al."
        )
        by_verdict[verdict].append(f"{claim.words}: here {plus_minus(interval, signed=True)}")
    ran, lost = set(cells.recipes), set(cells.of_metric("diverged")["recipe"])
    for cell in UNSTABLE:
        if cell in ran:
            verdict = "As in Ho et al." if cell in lost else "Unlike in Ho et al."
            here = "diverges" if cell in lost else "trains"
            by_verdict[verdict].append(f"{name_of(cell)}, unstable there, {here} here")
    return [f"{verdict}: {'; '.join(claims)}." for verdict, claims in by_verdict.items() if claims]


def cell_means(cells: View) -> pd.DataFrame:
    """The cells' bound and the first of their sample metrics: columns as of `_means`, metric, and sampler."""
    wanted: list[tuple[str, str | None]] = [("bound", None)]
    wanted += [(metric, cells.main_sampler) for metric in cells.sample_metrics[:1]]
    tables = [_means(cells, metric, sampler).assign(metric=metric, sampler=sampler) for metric, sampler in wanted]
    return pd.concat([table for table in tables if not table.empty] or tables[:1], ignore_index=True)


def _means(cells: View, metric: str, sampler: str | None) -> pd.DataFrame:
    """The mean of each cell over seeds and its interval, after averaging the frameworks of a seed.

    Columns: those of AXES, the number of seeds n, mean, low, high.
    """
    table = cells.values(metric, sampler)
    means = []
    for recipe in dict.fromkeys(table.columns.get_level_values("recipe")):
        by_seed = table[recipe].mean(axis=1).dropna()
        if len(by_seed):
            interval = mean_interval(by_seed.to_numpy())
            cell = dict(zip(AXES, recipe.levels, strict=True))
            ends = {"low": interval.low, "high": interval.high}
            means.append({**cell, "n": interval.n, "mean": interval.estimate, **ends})
    return pd.DataFrame(means, columns=[*AXES, "n", "mean", "low", "high"])


def _column_name(column: tuple[Hashable, Hashable]) -> str:
    return f"{name_of(column[0])}, {name_of(column[1])}"


def _spoken(means: pd.DataFrame) -> str:
    return "; ".join(
        f"{name_of(row.prediction)} by {_column_name((row.objective, row.variance))} {row.mean:.3g}"
        for row in means.itertuples()
    )


def _diverged(rows: pd.DataFrame) -> str:
    """Which cells diverged, and in how many of their runs."""
    cells = rows.drop_duplicates(["recipe", "backend", "seed"])
    lost = rows[rows["metric"] == "diverged"].drop_duplicates(["recipe", "backend", "seed"])
    if lost.empty:
        return " No cell diverged."
    counts = lost.groupby("recipe", sort=False).size()
    named = [f"{name_of(recipe)} ({n} of {(cells['recipe'] == recipe).sum()})" for recipe, n in counts.items()]
    return f" Diverged: {listed(named)}."


def _draw(
    means: pd.DataFrame, predictions: list[Hashable], columns: list[tuple[Hashable, Hashable]]
) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        low, high = float(means["mean"].min()), float(means["mean"].max())
        is_log = low > 0 and high / low > WIDE
        if is_log:
            log_axis(ax, "x", low / 1.25, high * 1.4)
        for row in means.to_dict("records"):
            i = columns.index((row["objective"], row["variance"]))
            y = -predictions.index(row["prediction"]) + 0.28 - 0.54 * i / max(1, len(columns) - 1)
            colour = PALETTE[i % len(PALETTE)]
            ends = np.array([row["low"], row["high"]])
            if np.all(np.isfinite(ends)):
                ends = np.maximum(ends, low / 1.25) if is_log else ends
                ax.plot(ends, [y, y], color=colour, linewidth=2, solid_capstyle="butt")
            ax.plot(row["mean"], y, "o", color=colour, markersize=7, markeredgecolor=PAPER)
        if not is_log:
            linear_axis(ax, "x", 4)
        ax.set_ylim(-len(predictions) + 0.4, 0.75)
        rows_axis(ax)
        for i, prediction in enumerate(predictions):
            across = ax.get_yaxis_transform()
            ax.text(0, -i + 0.52, f"predicts {name_of(prediction)}", transform=across, color=INK, weight="bold")

    return draw
