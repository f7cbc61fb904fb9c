"""What the sample metrics of a run mean: unit, better direction, ideal, floor at the sample size used, and bias."""

# ruff: noqa: RUF001
from __future__ import annotations

from typing import Any

import pandas as pd

from studies.metrics.registry import METRICS
from studies.reporting.contrasts import floor, main_sampler, sample_metrics
from studies.reporting.names import BEST_INSIDE, plain, sampler_name

ARROWS = {"lower": "↓", "higher": "↑"}


def metric_notes(rows: pd.DataFrame, sampler: str | None = None) -> dict[str, Any]:
    """`rows` and `caption` of the table of metrics, with the floor of one sampler's samples; no rows without samples.

    The sampler is the main one unless named: samplers may differ in how many samples they were scored on.
    """
    sampler = sampler or main_sampler(rows)
    known = [METRICS[name] for name in sample_metrics(rows) if name in METRICS] if sampler else []
    notes = []
    for metric in known:
        least = floor(rows, metric.name, str(sampler))
        notes.append(
            {
                "title": metric.title[0].upper() + metric.title[1:],
                "unit": "" if metric.unit == "1" else metric.unit,
                "better": "≈" if metric.name in BEST_INSIDE else ARROWS[metric.direction],
                "ideal": f"{metric.ideal:g}",
                "floor": "–" if least is None else plain(least, 3),
                "bias": metric.bias_note.replace(" x ", " × ").replace("-0", "−0").replace("^(-", "^(−"),
            }
        )
    caption = (
        "Ideal: what two endless sets from one distribution get. Floor: what held-out training data get against test"
        f" data at the sample size used ({sampler_name(str(sampler))}{_sizes(rows, sampler)}); its distance from the"
        " ideal is the bias there."
    )
    return {"rows": notes, "caption": caption}


def _sizes(rows: pd.DataFrame, sampler: str | None) -> str:
    """How many samples and how many test examples were compared, where the run says so and all cells agree."""
    found = {}
    for letter, metric in (("N", "scored_samples"), ("M", "scored_reference")):
        values = rows[(rows["metric"] == metric) & (rows["sampler"] == sampler)]["value"].unique()
        found[letter] = f"{letter} = {values[0]:.0f}" if len(values) == 1 else ""
    return f"; {found['N']} samples, {found['M']} of test" if all(found.values()) else ""
