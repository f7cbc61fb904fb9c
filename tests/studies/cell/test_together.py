"""Cells trained as one program: which ones are, and that it changes their numbers by rounding alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backends import installed_backends
from backends.checkpoints import load_weights
from studies.cell import training
from studies.cell.stages import run_cell, run_group
from studies.datasets import load_dataset
from studies.plan.command import to_json
from studies.plan.grid import grid
from studies.plan.grouping import GPU_PARAMETERS, LARGEST, groups_of
from studies.plan.settings import PRESETS, StudySettings, parse_settings
from studies.reporting.verdict import findings
from studies.reporting.view import views_of
from studies.run.runner import run_study
from studies.store import files
from studies.store.cells import Cell
from studies.store.folder import CellFolder, RunFolder
from studies.store.reading import read_run

BACKEND = installed_backends()[0]
TINY = {
    **PRESETS["smoke"],
    "backends": (BACKEND,),
    "num_steps": 30,
    "train_steps": 24,
    "mlp_width": 16,
    "mlp_depth": 1,
    "full_samples": 0,
    "samples": 24,
    "jobs": 1,
    "together": "on",
}


def settings_in(folder: Path, **changes: object) -> StudySettings:
    points = folder.parent / f"points-{folder.name}.npz"
    rng = np.random.default_rng(0)
    np.savez(points, train=rng.standard_normal((80, 2)), test=rng.standard_normal((40, 2)))
    settings = StudySettings(**{**TINY, "out": folder, "dataset": str(points), **changes})
    files.open_run(folder, to_json(settings), "compare_objectives")
    return settings


def quiet(*_: object, **__: object) -> None:
    """No one looks."""


def numbers(run: Path, cell: Cell) -> pd.DataFrame:
    """The cell's rows that a clock has no part in."""
    frame = pd.read_csv(RunFolder(run).cell(cell.id).rows)
    untimed = ~frame["metric"].str.endswith("seconds") & (frame["metric"] != "trained_together")
    return frame[untimed].reset_index(drop=True)


def check_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """To float32 rounding, which 24 steps of Adam and a sample's chain have carried on."""
    named = [name for name in files.COLUMNS if name not in ("value", "standard_error")]
    pd.testing.assert_frame_equal(one[named], other[named])
    np.testing.assert_allclose(one["value"], other["value"], rtol=2e-3, atol=2e-3)


def test_a_study_of_cells_together_is_that_of_cells_alone(tmp_path, capsys):
    """Every cell has its own folder, progress and rows, whose seconds are a share of the program's."""
    settings = settings_in(tmp_path / "on", objectives=("epsilon_mse", "posterior_kl"))
    cells = grid(settings)
    assert (
        run_study(
            "compare_objectives", settings, cells, [], load_dataset(settings.dataset, settings.test_examples)
        ).failed
        == {}
    )
    assert "[4/4]" in capsys.readouterr().out
    frame = pd.read_csv(RunFolder(settings.out).results)
    of_cells = frame[frame["metric"] == "trained_together"]
    assert of_cells["value"].tolist() == [4.0] * 4
    spent = frame[frame["metric"] == "train_seconds"]["value"]
    assert spent.nunique() == 1
    assert any("trained several to a program" in said for said in findings(views_of(read_run(settings.out))))
    alone = settings_in(tmp_path / "off")
    for cell in (cells[0], cells[3]):
        run_cell(alone.out, cell, alone, quiet)
        check_same(numbers(settings.out, cell), numbers(alone.out, cell))


class PowerCut(BaseException):
    """Stands for whatever ends a process."""


def test_an_interrupted_group_goes_on_alone_and_in_smaller_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(training, "CURVE_POINTS", 6)
    whole, cut = settings_in(tmp_path / "whole"), settings_in(tmp_path / "cut")
    cells = grid(whole)[:3]

    def stop(stage, done, total, loss=None, **_):
        if stage == "train" and done >= 12:
            raise PowerCut

    run_group(whole.out, cells, whole, quiet)
    with pytest.raises(PowerCut):
        run_group(cut.out, cells, cut, stop)
    reported: dict[str, list[int]] = {cell.id: [] for cell in cells}

    def listen(stage, done, total, loss=None, rows=(), cell=cells[0].id):
        reported[cell] += [one["step"] for one in rows if one["metric"] == "train_epsilon_mse"]

    run_cell(cut.out, cells[0], cut, listen)
    run_group(cut.out, cells[1:], cut, listen)
    for cell in cells:
        assert reported[cell.id] == [4, 8, 12, 16, 20, 24] if cell != cells[0] else reported[cell.id][-1] == 24
        check_same(numbers(whole.out, cell), numbers(cut.out, cell))


def test_what_goes_wrong_with_one_cell_ends_no_other(tmp_path, monkeypatch):
    """A cell whose loss is not finite, and one whose saved state is no state."""
    settings = settings_in(tmp_path, seeds=3, objectives=("epsilon_mse",))
    broken, diverging, sound = grid(settings)
    start = training.initial_weights

    def initial_weights(network, seed):
        return {name: w * (np.nan if seed == diverging.seed else 1) for name, w in start(network, seed).items()}

    monkeypatch.setattr(training, "initial_weights", initial_weights)
    folder = RunFolder(tmp_path).cell(broken.id).path
    folder.mkdir(parents=True)
    (CellFolder(folder).state).write_bytes(b"not a checkpoint")
    ended = []
    run_group(tmp_path, [broken, diverging, sound], settings, lambda stage, *_, cell, **__: ended.append(cell))
    assert set(ended) == {diverging.id, sound.id}
    assert files.failure(tmp_path, broken.id)
    assert numbers(tmp_path, diverging)["metric"].tolist() == ["parameters", "diverged"]
    assert "bound" in set(numbers(tmp_path, sound)["metric"])
    weights, _ = load_weights(RunFolder(tmp_path).cell(sound.id).checkpoint)
    assert all(np.isfinite(array).all() for array in weights.values())
    with pytest.raises(PowerCut):
        run_group(tmp_path, [sound], settings, _cut)  # goes out as it came: it is no cell's failure
    assert files.failure(tmp_path, sound.id) is None


def _cut(*_: object, **__: object) -> None:
    raise PowerCut


def sizes(settings: StudySettings, shape: tuple[int, ...], jobs: int = 1, on_gpu: bool = False) -> list[int]:
    groups = groups_of(grid(settings), settings, shape, jobs, on_gpu)
    assert sorted(cell.id for group in groups for cell in group) == sorted(cell.id for cell in grid(settings))
    for group in groups:
        assert (
            len({(cell.backend, cell.schedule, cell.prediction, cell.variance, cell.timesteps) for cell in group}) == 1
        )
    return [len(group) for group in groups]


def test_cells_train_together_where_it_is_faster():
    """Enough points or tiny networks on a CPU, anything small on a GPU; what shares no program never does."""
    auto = StudySettings(backends=("torch",), seeds=5)
    points, signals = (2,), (8, 8, 1)
    assert sizes(auto, points) == [10]
    assert sizes(auto, points, jobs=2) == [5, 5]
    assert sizes(auto, points, jobs=4) == [1] * 10
    assert sizes(auto.replace(together="on"), points, jobs=4) == [3, 3, 3, 1]
    assert sizes(auto.replace(widths=(8, 16)), signals) == [10]
    assert sizes(auto, signals) == [1] * 10
    assert sizes(auto, signals, on_gpu=True) == [10]
    assert sizes(auto.replace(seeds=10), signals, on_gpu=True) == [LARGEST, 20 - LARGEST]
    assert sizes(auto.replace(widths=(256, 512)), signals, on_gpu=True) == [1] * 10  # over GPU_PARAMETERS
    assert GPU_PARAMETERS < 10_000_000
    assert sizes(auto.replace(together="on"), signals) == [10]
    assert sizes(auto.replace(together="off"), points, on_gpu=True) == [1] * 10
    assert sizes(auto.replace(predictions=("epsilon", "v")), points) == [10, 10]
    assert sizes(auto.replace(schedules=("learned",), objectives=("posterior_kl",)), points) == [1] * 5


def test_keras_on_tensorflow_trains_perceptrons_together(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr("studies.plan.grid.check_backend", lambda name: None)
    on = StudySettings(backends=("keras",), seeds=2, together="on")
    assert sizes(on, (8, 8, 1)) == [1] * 4
    assert sizes(on, (2,)) == [4]
    assert sizes(on.replace(together="auto"), (2,)) == [4]
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert sizes(on, (8, 8, 1)) == [4]
    assert sizes(on.replace(together="auto", widths=(8, 16)), (8, 8, 1)) == [1] * 4


def test_an_unknown_choice_is_one_line():
    with pytest.raises(
        ValueError, match=r"invalid choice 'maybe' for argument '--together'. Expected one of \('auto', 'on', 'off'\)"
    ):
        parse_settings(["--together", "maybe"], "")
