"""In words, whether the frameworks' lines of a figure lie on each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from studies.reporting.names import name_of
from studies.reporting.numbers import listed
from studies.reporting.view import View

VISIBLE = 0.01
"""Lines closer than this share of the range that all of them span are seen as one."""


def coinciding(view: View, table: pd.DataFrame, value: str, along: Sequence[str]) -> str:
    """A sentence on how far apart a recipe's lines in several frameworks are; empty where there is one framework.

    `table` has columns recipe, backend, `value` and those of `along`; where "metric" is among these, the range is that
    of each metric.
    """
    wide = table.pivot_table(index=["recipe", *along], columns="backend", values=value, sort=False).dropna()
    if len(view.backends) < 2 or wide.shape[1] < 2 or wide.empty:
        return ""
    levels = wide.index.get_level_values("metric") if "metric" in along else np.zeros(len(wide))
    share = 0.0
    for level in dict.fromkeys(levels):
        of_level = wide.to_numpy()[levels == level]
        span = float(np.ptp(of_level)) or 1.0
        share = max(share, float(np.ptp(of_level, axis=1).max()) / span)
    names = listed([name_of(backend) for backend in view.backends])
    if share < VISIBLE:
        return f" The lines of {names} coincide: each pair is drawn, and is seen as one line with both marks."
    return (
        f" The lines of {names} are told apart by their marks; they are up to {100 * share:.0f} % of the range apart."
    )
