"""Event files for TensorBoard: what a cell measured, once each, also after an interruption."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from backends.recipe import TrainingRecipe
from studies.harness.cells import Cell
from studies.harness.events import EventLog
from studies.harness.store import row
from tests.studies.event_files import scalars_and_images
from tests.studies.synthetic_run import make_run

RECIPE = TrainingRecipe(num_steps=3000)


def curve(*steps: int) -> list[dict]:
    return [
        one
        for step in steps
        for one in (
            row("train_epsilon_mse", 1 / step, "per dim", step=step),
            row("train_posterior_kl", 2 / step, "bits/dim", step=step),
            row("step_seconds", 0.01, "s", step=step),
        )
    ]


@pytest.fixture
def run(tmp_path) -> tuple[Path, Cell]:
    folder = make_run(tmp_path / "run", objectives=["epsilon_mse"], backends=["torch"], seeds=1)
    return folder, Cell("digits", "linear", "epsilon", "beta_tilde", "epsilon_mse", "torch", 0)


def test_scalars_by_step_and_the_samples_at_the_end(run):
    folder, cell = run
    with EventLog(folder, [], RECIPE) as log:
        log.started(cell)
        log.progress(cell, {"stage": "train", "done": 50, "rows": curve(50)})
        log.progress(cell, {"stage": "train", "done": 100, "rows": curve(100)})
        log.progress(cell, {"stage": "bound", "done": 1})
        log.ended(cell, None)
    scalars, images = scalars_and_images(folder / "tensorboard" / cell.id)
    assert scalars["train/epsilon_mse"] == [(50, pytest.approx(0.02)), (100, pytest.approx(0.01))]
    assert scalars["train/posterior_kl"] == [(50, pytest.approx(0.04)), (100, pytest.approx(0.02))]
    assert scalars["time/step_seconds"] == [(50, pytest.approx(0.01)), (100, pytest.approx(0.01))]
    rates = [(50, pytest.approx(1e-3, rel=1e-6)), (100, pytest.approx(2e-3, rel=1e-6))]  # half way up, and the peak
    assert scalars["train/learning_rate"] == rates
    rows = pd.read_csv(folder / "results.csv").set_index("metric")["value"]
    assert scalars["test/bound"] == [(3000, pytest.approx(rows["bound"], rel=1e-6))]
    assert scalars["ancestral-100/frechet_floor"] == [(3000, pytest.approx(0.9, rel=1e-6))]
    assert not any("bound_at_t" in tag for tag in scalars)
    assert set(images) == {"samples/ancestral-100", "samples/ancestral-1000"}
    picture = np.asarray(Image.open(io.BytesIO(images["samples/ancestral-100"])))
    assert picture.shape[2] == 3
    assert picture.std() > 10  # something is drawn


def test_a_cell_that_goes_on_has_no_step_twice(run):
    """The process died after step 100, its state was saved at 50: the new one reports what it has, and goes on."""
    folder, cell = run
    with EventLog(folder, [], RECIPE) as log:
        log.started(cell)
        log.progress(cell, {"rows": curve(50)})
        log.progress(cell, {"rows": curve(100)})
    with EventLog(folder, [], RECIPE) as log:
        log.started(cell)
        log.progress(cell, {"rows": curve(50)})
        log.progress(cell, {"rows": curve(100)})
        log.progress(cell, {"rows": curve(150)})
        log.ended(cell, "it failed")
    scalars, images = scalars_and_images(folder / "tensorboard" / cell.id)
    for tag in ("train/epsilon_mse", "train/learning_rate", "time/step_seconds"):
        assert [step for step, _ in scalars[tag]] == [50, 100, 150]
    assert images == {}


def test_a_finished_cell_gets_its_file_from_its_rows(run):
    """Asked for after the run: the same tags and steps, written once."""
    folder, cell = run
    for _ in range(2):
        with EventLog(folder, [cell], RECIPE):
            pass
    scalars, images = scalars_and_images(folder / "tensorboard" / cell.id)
    assert [step for step, _ in scalars["train/epsilon_mse"]] == list(range(50, 3001, 50))
    assert len(scalars["test/bound"]) == 1
    assert len(images) == 2


def test_what_comes_after_an_interruption_is_let_go(run):
    """The workers of an interrupted study end after its files are closed."""
    folder, cell = run
    with EventLog(folder, [], RECIPE) as log:
        log.started(cell)
        log.progress(cell, {"rows": curve(50)})
    log.progress(cell, {"rows": curve(100)})
    log.ended(cell, "terminated")
    scalars, _ = scalars_and_images(folder / "tensorboard" / cell.id)
    assert [step for step, _ in scalars["train/epsilon_mse"]] == [50]


@pytest.mark.parametrize("dataset", ["swiss_roll", "series", "colour"])
def test_any_signal_has_its_picture(tmp_path, dataset):
    folder = make_run(tmp_path / "run", dataset=dataset, objectives=["epsilon_mse"], backends=["torch"], seeds=1)
    cell = Cell(dataset, "linear", "epsilon", "beta_tilde", "epsilon_mse", "torch", 0)
    with EventLog(folder, [cell], RECIPE):
        pass
    _, images = scalars_and_images(folder / "tensorboard" / cell.id)
    assert all(Image.open(io.BytesIO(image)).format == "PNG" for image in images.values())
    assert len(images) == 2


def test_a_missing_writer_is_one_line(run, monkeypatch):
    folder, cell = run
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'diffusion-objectives\[tensorboard\]'") as caught:
        EventLog(folder, [cell], RECIPE)
    assert "\n" not in str(caught.value)
    assert not (folder / "tensorboard").exists()
