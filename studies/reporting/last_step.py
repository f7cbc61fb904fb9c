"""How a run's chains end: what x_T still holds of the data, by schedule, where that is not next to nothing."""

# ruff: noqa: RUF001
from __future__ import annotations

import csv

import pandas as pd
from scipy.special import expit

from studies.plan.schedules import FILE, MOST_LEFT, is_learned, schedule_of
from studies.reporting.names import name_of
from studies.reporting.numbers import listed, plain
from studies.store.reading import Run


def left_by_schedule(run: Run) -> dict[str, float]:
    """alpha_bar_T, the largest of its cells, of every schedule of the run whose chain does not end in noise."""
    known: dict[str, float] = {}
    by_t = run.rows[run.rows["metric"] == "bound_at_t"]
    for (name, _), group in by_t.groupby(["schedule", "run"], sort=False):
        words = str(name)
        for alpha_bar in _learned(run, words) if is_learned(words) else _named(words, group):
            known[words] = max(alpha_bar, known.get(words, 0.0))
    return {words: alpha_bar for words, alpha_bar in known.items() if alpha_bar > MOST_LEFT}


def _named(words: str, rows: pd.DataFrame) -> list[float]:
    """Of a schedule by its name, with T the last step that its rows have; none for one that is not known here."""
    try:
        return [float(schedule_of(words, int(rows["t_last"].max())).alpha_bar[-1])]
    except ValueError:
        return []


def _learned(run: Run, words: str) -> list[float]:
    """Of a learned schedule, as each of its cells left it."""
    ends = []
    for cell in run.cells:
        path = cell.folder / FILE
        if cell.factors["schedule"] == words and path.is_file():
            with path.open(newline="") as file:
                *_, last = csv.DictReader(file)
            ends.append(float(expit(float(last["log_snr"]))))
    return ends


def at_last_step(run: Run) -> str:
    """What x_T is, for a figure over t."""
    left = left_by_schedule(run)
    if not left:
        return "pure noise"
    named = listed([f"ᾱ = {plain(alpha_bar, 3)} with {name_of(words)}" for words, alpha_bar in left.items()])
    return f"noise and what is left of the data ({named})"


def method_lines(run: Run) -> list[str]:
    """A line for a reader of samples and bounds where a chain does not end in noise."""
    return [
        f"With {name_of(words)} the chain does not end in noise: ᾱ_T = {plain(alpha_bar, 3)}, so that x_T still is"
        f" {plain(100 * alpha_bar**0.5, 2)} % of x₀. Samples start from pure noise all the same, which shifts them, and"
        " the bound’s prior term holds what that costs."
        for words, alpha_bar in left_by_schedule(run).items()
    ]
