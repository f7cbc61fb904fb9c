"""The figure of Ho et al.'s Table 2: which of their findings a run bears out, told from made-up runs of known ends."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
import pytest

from studies.reporting.figures.table2 import against_ho, of_cells, table2
from studies.reporting.view import View
from studies.store.files import COLUMNS
from studies.store.reading import Run, with_recipes

CELLS = (
    ("mean", "posterior_kl", "learned_diagonal"),
    ("mean", "posterior_kl", "beta_tilde"),
    ("mean", "target_mse", "beta_tilde"),
    ("epsilon", "posterior_kl", "learned_diagonal"),
    ("epsilon", "posterior_kl", "beta_tilde"),
    ("epsilon", "target_mse", "beta_tilde"),
)
HO = {"frechet": (23.69, 13.22, None, None, 13.51, 3.17), "bound": (3.8, 3.72, None, None, 3.70, 3.75)}
"""The cells' numbers in the paper where it has them; None: unstable."""


def rows_of(numbers: dict[str, tuple[float | None, ...]], spread: float = 0.01) -> pd.DataFrame:
    rows = []
    for seed, (i, (prediction, objective, variance)) in itertools.product(range(3), enumerate(CELLS)):
        cell = {"run": "made-up", "dataset": "digits", "schedule": "linear", "prediction": prediction,
                "variance": variance, "objective": objective, "timesteps": "uniform", "backend": "torch",
                "seed": seed}  # fmt: skip
        shift = spread * ((seed + i) % 3)
        if numbers["bound"][i] is None:
            rows.append({**cell, "metric": "diverged", "value": 40, "unit": "step"})
            continue
        rows.append({**cell, "metric": "bound", "value": numbers["bound"][i] + shift, "unit": "bits/dim"})
        for metric, value in (("frechet", numbers["frechet"][i] + shift), ("frechet_floor", 1.0)):
            rows.append({**cell, "metric": metric, "value": value, "unit": "1", "sampler": "ancestral-100"})
    return with_recipes(pd.DataFrame(rows, columns=["run", *COLUMNS]))


def view_of(rows: pd.DataFrame) -> View:
    return View(Run("made-up", Path(), {}, {}, rows, ()), "digits", rows)


def test_the_papers_own_numbers_agree_with_it_in_everything():
    said = against_ho(of_cells(view_of(rows_of(HO))))
    assert [sentence.split(":")[0] for sentence in said] == ["As in Ho et al."]
    assert said[0].count(";") == 4


def test_what_is_the_other_way_round_and_what_is_open_is_said():
    numbers = {
        "frechet": (23.69, 13.22, 20.0, None, 3.17, 13.51),  # epsilon: the MSE draws worse; the mean's MSE trains
        "bound": (3.8, 3.72, 3.8, None, 3.745, 3.75),
    }
    cells = of_cells(view_of(rows_of(numbers, spread=0.05)))
    said = {sentence.split(":")[0]: sentence for sentence in against_ho(cells)}
    assert "plain MSE draws better samples" in said["Unlike in Ho et al."]
    assert "unstable there, trains here" in said["Unlike in Ho et al."]
    assert "lower bound" in said["Undecided by these seeds"]
    assert "a fixed variance draws better samples" in said["As in Ho et al."]
    assert "unstable there, diverges here" in said["As in Ho et al."]


def test_the_figure_has_every_cell_and_says_which_diverged(tmp_path):
    rows = rows_of(HO)
    run = Run("made-up", tmp_path, {}, {}, rows, ())
    plot = table2(View(run, "digits", rows))
    assert plot is not None
    assert len(plot.data) == 2 * 4
    assert plot.data.loc[plot.data["metric"] == "bound", "mean"].min() == pytest.approx(3.71)
    assert "mean · target MSE · β̃ (3 of 3)" in plot.caption
    assert "epsilon · posterior KL · learned diagonal (3 of 3)" in plot.caption
    assert len(plot.keys) == 3


@pytest.mark.parametrize("kept", [{"prediction": "epsilon"}, {"objective": "target_mse", "prediction": "epsilon"}])
def test_a_study_of_one_prediction_is_no_such_table(tmp_path, kept):
    rows = rows_of(HO)
    for factor, level in kept.items():
        rows = rows[rows[factor] == level]
    run = Run("made-up", tmp_path, {}, {}, with_recipes(rows), ())
    assert table2(View(run, "digits", run.rows)) is None
