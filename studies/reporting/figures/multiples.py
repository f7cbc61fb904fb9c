"""Small multiples of the training curves: each of many recipes in its own panel, before all the others in grey."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from studies.metrics.vocabulary import VOCABULARY, title_of
from studies.reporting.figures.losses import loss_curves
from studies.reporting.names import name_of
from studies.reporting.plotting import FAINT, PALETTE, Panel, Plot, label_of, linear_axis, positive_axis
from studies.reporting.view import View
from studies.store.recipes import Recipe

MOST_PANELS = 24
METRIC = "train_posterior_kl"


def multiples(view: View) -> Plot | None:
    """A panel for each of the best recipes where there are more of them than hues; None for fewer."""
    if not view.many:
        return None
    curves = loss_curves(view)
    curves = curves[(curves["metric"] == METRIC) & ~curves["recipe"].isin(list(view.apart))]
    if curves.empty:
        return None
    means = curves.groupby(["recipe", "step"], sort=False)["mean"].mean().reset_index()
    by_recipe: dict[Hashable, pd.DataFrame] = {}
    for recipe, curve in means.groupby("recipe", sort=False):
        by_recipe[recipe] = curve
    drawn = [recipe for recipe in view.order if recipe in by_recipe][:MOST_PANELS]
    limits = _limits(means)
    panels = [_panel(place, recipe, by_recipe, limits) for place, recipe in enumerate(drawn, 1)]
    others = " Recipes set apart are left out." if view.apart else ""
    most = f"the {len(drawn)} best" if len(drawn) < len(by_recipe) else "all"
    return Plot(
        "each-recipe",
        "Each recipe against the field",
        f"{title_of(METRIC)}, {VOCABULARY[METRIC].unit}, by training step: {most} of {len(by_recipe)} recipes in the"
        f" order of the ranking, each before all the others in grey; means over seeds and frameworks.{others} The axis"
        " is that of the second half of training.",
        panels,
        means,
    )


def _limits(means: pd.DataFrame) -> pd.Series:
    """The values that set the axis: those of the second half of training, where the curves part."""
    return means[means["step"] > 0.5 * means["step"].max()]["mean"]


def _panel(place: int, recipe: Recipe, by_recipe: Mapping[Hashable, pd.DataFrame], limits: pd.Series) -> Panel:
    own = by_recipe[recipe]
    alt = f"Training curve of {name_of(recipe)}, which ends at {label_of(own['mean'].iloc[-1])}, before the others."
    return Panel(f"{place}. {name_of(recipe)}", alt, _draw(own, by_recipe, limits), height=150, width=220)


def _draw(own: pd.DataFrame, by_recipe: Mapping[Hashable, pd.DataFrame], limits: pd.Series) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for curve in by_recipe.values():
            ax.plot(curve["step"], curve["mean"], color=FAINT, linewidth=0.5, alpha=0.35)
        ax.plot(own["step"], own["mean"], color=PALETTE[0], linewidth=2)
        positive_axis(ax, np.asarray(limits, dtype=np.float64))
        linear_axis(ax, "x", 3)
        ax.set_xlim(left=0)

    return draw
