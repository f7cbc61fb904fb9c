"""How much the objective matters, how much the framework, and whether one depends on the other.

With y[o, b, s] the value of objective o, backend b, seed s: the objective effect in b is the mean over s of
y[o1, b, s] - y[o2, b, s]; pooled, y is averaged over b first, so that a seed still counts once; the
interaction is the mean over s of (y[o1, b1, s] - y[o2, b1, s]) - (y[o1, b2, s] - y[o2, b2, s]). Each is a
mean of one number a seed, so each has a paired t interval, and none assumes that cells have equal spread.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from studies.statistics.intervals import mean_interval, p_value
from studies.statistics.multiplicity import adjust
from studies.statistics.pairing import cell_table

POOLED = "pooled"
COLUMNS = (
    "effect",
    "within",
    "first",
    "second",
    "estimate",
    "low",
    "high",
    "confidence",
    "n",
    "p_value",
    "p_holm",
)


class Contrast(NamedTuple):
    """first - second for each seed; `within` is a level of the other factor, or pooled."""

    effect: str
    within: str
    first: str
    second: str
    per_seed: pd.Series


def objective_and_framework_effects(frame: pd.DataFrame, metric: str, confidence: float = 0.95) -> pd.DataFrame:
    """Objective, framework and interaction effects on one metric, with paired t intervals; one row an effect.

    `frame` is tidy with the columns objective, backend, seed, metric, value. Columns of the result: effect
    ("objective", "framework", "interaction"), within (a backend, an objective, "pooled", or for the
    interaction "b1 - b2"), first, second (the effect is first - second), estimate, low, high (the metric's
    unit), confidence, n (seeds), p_value (paired t), p_holm (Holm over the rows of this table).

    Every pair of levels has a row; the pooled row of an effect always stands first, and the rows within each
    level of the other factor follow where it has several. Fewer than two levels give no rows, one seed
    infinite intervals and p = 1. Each interval holds alone: for a joint claim over rows use `p_holm`.
    ValueError for an unbalanced study, naming the cells (see `complete_seeds`).
    """
    cells = cell_table(frame, metric, ("objective", "backend"))
    contrasts = [
        *_main_effects("objective", cells),
        *_main_effects("framework", cells.swaplevel(axis=1)),
        *_interactions(cells),
    ]
    intervals = [mean_interval(contrast.per_seed, confidence) for contrast in contrasts]
    p_values = [p_value(contrast.per_seed) for contrast in contrasts]
    p_holm = adjust(p_values) if p_values else np.empty(0)
    rows = [
        (*contrast[:4], it.estimate, it.low, it.high, it.confidence, it.n, p, adjusted)
        for contrast, it, p, adjusted in zip(contrasts, intervals, p_values, p_holm, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _main_effects(effect: str, cells: pd.DataFrame) -> Iterator[Contrast]:
    """Differences between levels of the first factor, pooled over the second and within each of those."""
    others = cells.columns.unique(1)
    for first, second in combinations(cells.columns.unique(0), 2):
        differences = pd.DataFrame(cells[first]) - pd.DataFrame(cells[second])
        yield Contrast(effect, POOLED, first, second, differences.mean(axis=1))
        if len(others) > 1:
            for other in others:
                yield Contrast(effect, other, first, second, differences[other])


def _interactions(cells: pd.DataFrame) -> Iterator[Contrast]:
    """How the objective difference changes between each two backends."""
    for first, second in combinations(cells.columns.unique("objective"), 2):
        differences = cells[first] - cells[second]
        for one, other in combinations(differences.columns, 2):
            yield Contrast("interaction", f"{one} - {other}", first, second, differences[one] - differences[other])
