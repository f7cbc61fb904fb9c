"""What went wrong in a run, in words: what the page says beside its answer, and tables and figures leave out."""

from __future__ import annotations

from typing import Any

import numpy as np

from studies.reporting.blanks import blank_sentences
from studies.reporting.names import name_of, quantity, sampler_name
from studies.reporting.numbers import count, in_sentence, listed, some
from studies.store.reading import Run

MOST_METRICS = 3  # of a cell with values that are not finite


def trouble(run: Run) -> list[str]:
    """What went wrong: cells that failed or diverged, samples that are not finite, metrics that are blank."""
    sentences = []
    if run.failed:
        named = some([f"{cell.id} ({cell.failure})" for cell in run.failed], between="; ")
        sentences.append(
            f"{count(len(run.failed), 'cell')} failed: {named}. What they had measured before is in the tables; a seed"
            f" is left out of each comparison that needs what they lack."
        )
    diverged = run.rows[run.rows["metric"] == "diverged"]
    if len(diverged):
        named = some([f"{_cell(row)}, by step {row.value:.0f}" for row in diverged.itertuples()], between="; ")
        sentences.append(f"{count(len(diverged), 'cell')} diverged (a loss that is no longer finite): {named}.")
    broken = run.rows[run.rows["metric"] == "samples_not_finite"]
    if len(broken):
        named = some([f"{_cell(row)}, {sampler_name(str(row.sampler))}" for row in broken.itertuples()], between="; ")
        sentences.append(f"Samples with values that are not finite: {named}.")
    return sentences + _not_finite(run) + blank_sentences(run.cells)


def _cell(row: Any) -> str:
    """Recipe, framework and seed of a row."""
    return f"{name_of(row.recipe)} in {name_of(row.backend)}, seed {row.seed}"


def _not_finite(run: Run) -> list[str]:
    """The cells with values that are not finite, which tables and figures leave out."""
    lost = run.rows[~np.isfinite(run.rows["value"].astype(np.float64))]
    cells = []
    for _, group in lost.groupby(["recipe", "backend", "seed"], sort=False):
        titles = list(dict.fromkeys(in_sentence(quantity(str(metric)).title) for metric in group["metric"]))
        more = [f"{len(titles) - MOST_METRICS} more"] if len(titles) > MOST_METRICS else []
        cells.append(f"{_cell(group.iloc[0])} ({listed(titles[:MOST_METRICS] + more)})")
    return (
        [f"Values that are not finite, left out of tables and figures: {some(cells, between='; ')}."] if cells else []
    )
