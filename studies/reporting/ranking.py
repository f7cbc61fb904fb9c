"""Which recipe is best in a metric, where in t it gains, and how much the framework matters beside it.

With more than two recipes the best is chosen by the data, so its intervals are widened (Bonferroni over all pairs) to
hold jointly.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from studies.metrics.vocabulary import Quantity
from studies.reporting.contrasts import (
    Contrast,
    by_cell,
    contrast,
    levels_in,
)
from studies.statistics.intervals import Interval
from studies.statistics.multiplicity import joint_confidence


@dataclass(frozen=True)
class Ranking:
    """The recipe with the best mean in one metric, and its lead over each other one (positive: better)."""

    quantity: Quantity
    best: Hashable
    means: dict[Hashable, float]
    leads: dict[Hashable, Interval]
    contrasts: dict[Hashable, Contrast]
    pairs: int

    @property
    def resolved(self) -> bool:
        """Whether the best is better than every other one, by intervals that exclude zero."""
        return bool(self.leads) and all(lead.excludes_zero for lead in self.leads.values())

    @property
    def leaders(self) -> set[Hashable]:
        """The best recipe and those that cannot be told from it."""
        return {self.best} | {recipe for recipe, lead in self.leads.items() if not lead.excludes_zero}

    @property
    def seeds(self) -> int:
        return min(lead.n for lead in self.leads.values())


def ranking(
    about: Quantity,
    values: Callable[[], pd.DataFrame],
    contrast: Callable[[Hashable, Hashable], Contrast | None],
) -> Ranking | None:
    """The recipes ranked by the metric `about`; None where fewer than two have it or no direction is known.

    `values` gives the metric of every cell as `contrasts.values` does, and is asked only where there is a direction;
    `contrast` gives first - second of two recipes.
    """
    if about.direction is None or about.is_p_value:
        return None
    table = values()
    recipes = [
        recipe for recipe in levels_in(table, "recipe") if table.xs(recipe, axis=1, level="recipe").notna().any().any()
    ]
    if len(recipes) < 2:
        return None
    sign = 1 if about.direction == "lower" else -1
    means = {recipe: float(np.nanmean(table.xs(recipe, axis=1, level="recipe"))) for recipe in recipes}
    best = min(recipes, key=lambda recipe: sign * means[recipe])
    pairs = len(recipes) * (len(recipes) - 1) // 2
    contrasts = {}
    for recipe in recipes:
        # other - best when lower is better, so that a lead is positive
        sides = (recipe, best) if sign > 0 else (best, recipe)
        if recipe != best and (difference := contrast(*sides)) is not None:
            contrasts[recipe] = difference
    leads = {recipe: difference.interval(joint_confidence(pairs)) for recipe, difference in contrasts.items()}
    return Ranking(about, best, means, leads, contrasts, pairs) if leads else None


FAR = 10.0


def far_behind(means: Mapping[Hashable, float]) -> list[Hashable]:
    """The recipes that did not train, by their mean in a metric of which lower is better.

    Those whose distance from the best is more than `FAR` times that of the middle recipe (the better of two), more
    than the size of the best, and more than 1. None of fewer than three.
    """
    if len(means) < 3:
        return []
    ordered = sorted(means.values())
    best, middle = ordered[0], ordered[(len(ordered) - 1) // 2]
    limit = max(FAR * (middle - best), abs(best), 1.0)
    return [recipe for recipe, value in means.items() if value - best > limit]


def rank_ranges(order: Sequence[Hashable], better: Callable[[Hashable, Hashable], bool]) -> dict[Hashable, range]:
    """The ranks that each recipe may have, from 1: below all that are clearly better, above all that are clearly worse.

    `order` is best first; `better` says whether a recipe is clearly better than one later in it. Where all its answers
    hold jointly at some confidence, so do the ranks.
    """
    above, below = dict.fromkeys(order, 0), dict.fromkeys(order, 0)
    for i, recipe in enumerate(order):
        for other in order[i + 1 :]:
            if better(recipe, other):
                above[other] += 1
                below[recipe] += 1
    return {recipe: range(1 + above[recipe], len(order) - below[recipe] + 1) for recipe in order}


def differences_by_range(spent: pd.DataFrame, first: Hashable, second: Hashable) -> list[tuple[str, Interval]] | None:
    """first - second of the bound, split over t = 1, 2 to 10, 11 to 100 and above; None without `bound_at_t`.

    `spent` is the table of `contrasts.by_t`.
    """
    if spent.empty:
        return None
    last = int(spent["t"].max())
    cuts = [cut for cut in (1, 10, 100) if cut < last] + [last]
    keys = ["recipe", "backend", "seed"]
    parts: dict[int, list[pd.DataFrame]] = {cut: [] for cut in cuts}
    for key, cell in spent.groupby(keys, sort=False):
        reached = np.interp(cuts, np.append(0.0, cell["t"]), np.append(0.0, cell["value"]))
        for cut, value in zip(cuts, np.diff(reached, prepend=0.0), strict=True):
            parts[cut].append(pd.DataFrame([{**dict(zip(keys, key, strict=True)), "value": value}]))
    ranges = []
    for before, cut in zip([0, *cuts], cuts, strict=False):
        table = by_cell(pd.concat(parts[cut]), spent)
        difference = contrast(table, "recipe", first, second)
        if difference is None:
            return None
        where = "at t\u00a0=\u00a01 (the decoder)" if cut == 1 else f"at t\u00a0=\u00a0{before + 1} to {cut}"
        ranges.append((where, difference.interval()))
    return ranges


def framework_share(bound: Ranking | None, effect: Contrast | None) -> float | None:
    """How large the framework's effect on the bound may be, as a share of the difference between two recipes.

    The effect is taken at the end of its interval that is farther from 0. None unless there are two recipes, with
    a difference that is resolved.
    """
    if effect is None or bound is None or len(bound.means) != 2 or not bound.resolved:
        return None
    lead, interval = next(iter(bound.leads.values())), effect.interval()
    return max(abs(interval.low), abs(interval.high)) / lead.estimate
