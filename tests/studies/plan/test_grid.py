"""The grid of a study's factors, and the names of its cells."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import pytest

from studies.datasets import load_dataset
from studies.plan.announcement import announcement
from studies.plan.command import to_json
from studies.plan.grid import grid
from studies.plan.settings import StudySettings, from_json

BOTH = StudySettings(
    backends=("torch",), seeds=2, timesteps=("uniform", "importance"), dtypes=("float32", "bfloat16"), device="cpu"
)


def test_every_combination_is_one_cell(monkeypatch):
    """With a folder of its own, seeds outermost."""
    monkeypatch.setattr("studies.plan.grid.check_backend", lambda name: None)
    cells = grid(BOTH)
    assert len(cells) == len({cell.id for cell in cells}) == 2 * 2 * 2 * 2
    assert [cell.seed for cell in cells] == [0] * 8 + [1] * 8
    assert {(cell.timesteps, cell.dtype) for cell in cells} == {
        (how, dtype) for how in BOTH.timesteps for dtype in BOTH.dtypes
    }


def test_order_is_that_of_the_columns_with_seeds_outermost(monkeypatch):
    """The backend changes fastest, so that the frameworks' cells of a recipe run beside each other."""
    monkeypatch.setattr("studies.plan.grid.check_cells", lambda cells, settings: None)
    settings = BOTH.replace(
        schedules=("linear", "cosine"), predictions=("v", "epsilon"), variances=("beta_tilde", "beta"),
        backends=("torch", "keras"),
    )  # fmt: skip
    parts = itertools.product(
        (0, 1), ("linear", "cosine"), ("v", "epsilon"), ("beta_tilde", "beta"), ("epsilon_mse", "posterior_kl"),
        ("uniform", "importance"), ("float32", "bfloat16"), ("torch", "keras"),
    )  # fmt: skip
    assert [
        (c.seed, c.schedule, c.prediction, c.variance, c.objective, c.timesteps, c.dtype, c.backend)
        for c in grid(settings)
    ] == list(parts)


def test_what_varies_is_announced(monkeypatch):
    monkeypatch.setattr("studies.plan.grid.check_backend", lambda name: None)
    first = announcement(BOTH, grid(BOTH), load_dataset("digits")).partition("\n")[0]
    assert first.startswith("16 cells on digits (2 objectives x 2 ways to draw t x 2 precisions x 2 seeds), ")


def test_names_leave_out_what_older_runs_do_not_have(monkeypatch):
    monkeypatch.setattr("studies.plan.grid.check_backend", lambda name: None)
    plain, precise, weighted, both = (cell.id for cell in grid(BOTH.replace(seeds=1, objectives=("posterior_kl",))))
    assert plain == "digits-linear-epsilon-beta_tilde-posterior_kl-torch-0"
    assert precise == "digits-linear-epsilon-beta_tilde-posterior_kl-bfloat16-torch-0"
    assert weighted == "digits-linear-epsilon-beta_tilde-posterior_kl-importance-torch-0"
    assert both == "digits-linear-epsilon-beta_tilde-posterior_kl-importance-bfloat16-torch-0"


@pytest.mark.parametrize(("engine", "refused"), [("torch", True), ("tensorflow", False), ("jax", False)])
def test_float64_is_refused_where_a_backend_cannot_keep_it(monkeypatch, engine, refused):
    """Before anything starts; what an engine under Keras keeps is known without it."""
    monkeypatch.setattr("studies.plan.grid.check_backend", lambda name: None)
    monkeypatch.setenv("KERAS_BACKEND", engine)
    settings = BOTH.replace(backends=("torch", "keras"), dtypes=("float32", "float64"))
    with pytest.raises(ValueError, match="keras on torch does not compute in float64") if refused else nullcontext():
        grid(settings)
    assert grid(settings.replace(backends=("torch",)))
    assert grid(settings.replace(dtypes=("float32", "bfloat16")))


def test_settings_are_read_as_they_were_written():
    assert from_json(to_json(BOTH)) == BOTH


def test_more_cells_than_anybody_runs_are_refused_at_once(monkeypatch):
    monkeypatch.setattr("studies.plan.grid.check_backend", lambda name: None)
    with pytest.raises(ValueError, match="a study has at most 100,000 cells, got 160,000; name fewer of its factors"):
        grid(BOTH.replace(seeds=10_000, predictions=("epsilon", "v")))
