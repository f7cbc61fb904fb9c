"""Training cut off and continued ends in the rows, weights and files of training left alone, bit for bit.

Cells whose training remembers more than its trainer's state: the losses that importance sampling draws t by, the
schedule that is learned, the sketches, the curve, and the seconds it took.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backends import installed_backends
from backends.checkpoints import load_weights, save_weights
from studies.cell import record, training
from studies.cell.draws import training_draws
from studies.cell.drift import sketched_steps
from studies.cell.stages import run_cell, run_group
from studies.plan import schedules
from studies.plan.command import to_json
from studies.plan.grid import grid
from studies.plan.settings import PRESETS, StudySettings
from studies.run.process import Report
from studies.store import files
from studies.store.cells import Cell
from studies.store.folder import RunFolder

BACKENDS = installed_backends()
STEPS, SAVED, CUT = 30, 15, 18
"""The state is saved every third step, after what is reported of that step: cut off at 18, it holds step 15."""

TINY: dict[str, Any] = {
    **PRESETS["smoke"],
    "seeds": 1,
    "num_steps": 6,
    "sample_steps": 6,
    "train_steps": STEPS,
    "warmup_steps": 4,
    "mlp_width": 16,
    "mlp_depth": 1,
    "bound_evaluations": 20,
    "full_samples": 0,
    "samples": 24,
    "jobs": 1,
    "together": "on",
}


class PowerCut(BaseException):
    """Stands for whatever ends a process; it is no cell's failure."""


@pytest.fixture(autouse=True)
def _saves_every_third_step(monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(training, "CURVE_POINTS", STEPS // 3)


def settings_in(folder: Path, backend: str, **changes: Any) -> StudySettings:
    """Of a run just opened, on 80 points of the plane."""
    points = folder.parent / "points.npz"
    rng = np.random.default_rng(0)
    np.savez(points, train=rng.standard_normal((80, 2)), test=rng.standard_normal((40, 2)))
    settings = StudySettings(**{**TINY, "out": folder, "dataset": str(points), "backends": (backend,), **changes})
    files.open_run(folder, to_json(settings), "compare_objectives")
    return settings


def quiet(*_: object, **__: object) -> None:
    """No one looks."""


def run_until(stop_at: str, after: int, settings: StudySettings, cells: Sequence[Cell]) -> None:
    """Runs the cells, alone or as one program, until one reports step `after` of the stage `stop_at`."""

    def report(stage: str, done: int, *_: object, **__: object) -> None:
        if stage == stop_at and done >= after:
            raise PowerCut

    with pytest.raises(PowerCut):
        run_all(settings, cells, report)


def run_all(settings: StudySettings, cells: Sequence[Cell], report: Report = quiet) -> None:
    if len(cells) == 1:
        run_cell(settings.out, cells[0], settings, report)
    else:
        run_group(settings.out, cells, settings, report)


@dataclass(frozen=True)
class Outcome:
    """Everything that a finished cell's folder holds of its training."""

    rows: pd.DataFrame
    weights: dict[str, np.ndarray]
    sketches: dict[str, np.ndarray]
    schedule: bytes | None

    @classmethod
    def of(cls, settings: StudySettings, cell: Cell) -> Outcome:
        folder = RunFolder(settings.out).cell(cell.id)
        assert files.is_finished(settings.out, cell.id)
        assert not folder.state.exists()
        learned = folder.path / schedules.FILE
        return cls(
            pd.read_csv(folder.rows),
            load_weights(folder.checkpoint)[0],
            dict(np.load(folder.sketches)),
            learned.read_bytes() if learned.exists() else None,
        )


def check_equal(found: Outcome, expected: Outcome) -> None:
    """Bit for bit, but for what a clock says, of which there is as much."""
    where = ["metric", "step", "t", "sampler"]
    timed = expected.rows["metric"].str.endswith("seconds")
    pd.testing.assert_frame_equal(
        found.rows[where].sort_values(where, ignore_index=True),
        expected.rows[where].sort_values(where, ignore_index=True),
    )
    pd.testing.assert_frame_equal(
        found.rows[~found.rows["metric"].str.endswith("seconds")].reset_index(drop=True),
        expected.rows[~timed].reset_index(drop=True),
        check_exact=True,
    )
    for one, other in ((found.weights, expected.weights), (found.sketches, expected.sketches)):
        assert one.keys() == other.keys()
        for name, array in other.items():
            np.testing.assert_array_equal(one[name], array, err_msg=name)
    assert expected.sketches["steps"].tolist() == sorted(sketched_steps(STEPS))
    assert found.schedule == expected.schedule


def saved_state(settings: StudySettings, cell: Cell) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    return load_weights(RunFolder(settings.out).cell(cell.id).state)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("objective", ["posterior_kl", "epsilon_mse"])
def test_importance_sampling_goes_on_from_its_history(tmp_path, monkeypatch, backend, objective):
    """t is drawn by the last 10 losses at each t, which are all there long before the cut and so decide every later t.

    The first draw after it is by the losses saved. Forgotten, t would be uniform until they are there again.
    """
    changes = {"timesteps": ("importance",), "objectives": (objective,)}
    whole, cut = (settings_in(tmp_path / name, backend, **changes) for name in ("whole", "cut"))
    cells = grid(whole)
    run_all(whole, cells)
    run_until("train", CUT, cut, cells)
    state, _ = saved_state(cut, cells[0])
    assert state["trainer/step"] == SAVED
    assert state["moments/losses"].shape == (6, 10)
    assert np.all(state["moments/counts"] >= 10)
    assert state["moments/counts"].sum() == SAVED * whole.batch_size
    root = np.sqrt(np.mean(state["moments/losses"] ** 2, axis=1))
    assert root.max() > 1.2 * root.min()  # far from uniform
    drawn = {}

    def recorded(x, seed, step, batch_size, num_steps, how, probabilities):
        drawn[step] = probabilities
        return training_draws(x, seed, step, batch_size, num_steps, how, probabilities)

    monkeypatch.setattr(record, "training_draws", recorded)
    run_all(cut, cells)
    assert list(drawn) == list(range(SAVED + 1, STEPS + 1))
    np.testing.assert_allclose(drawn[SAVED + 1], 0.999 * root / root.sum() + 0.001 / 6, rtol=1e-12)
    check_equal(Outcome.of(cut, cells[0]), Outcome.of(whole, cells[0]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_learned_schedule_goes_on_from_where_it_was(tmp_path, backend):
    changes = {"schedules": ("learned",), "objectives": ("posterior_kl",), "num_steps": 24}
    whole, cut = (settings_in(tmp_path / name, backend, **changes) for name in ("whole", "cut"))
    cells = grid(whole)
    run_all(whole, cells)
    run_until("train", CUT, cut, cells)
    state, _ = saved_state(cut, cells[0])
    for part in ("weights", "ema", "adam_m", "adam_v"):
        assert np.any(state[f"trainer/schedule/{part}"] != 0)
    run_all(cut, cells)
    found = Outcome.of(cut, cells[0])
    assert found.schedule is not None
    check_equal(found, Outcome.of(whole, cells[0]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("stage", "after"), [("train", CUT), ("bound", 1)])
def test_cells_trained_together_go_on_from_their_histories(tmp_path, backend, stage, after):
    """Each from its own losses; cut off in training, or when training is over and the first is being measured."""
    changes = {"timesteps": ("importance",), "objectives": ("epsilon_mse", "posterior_kl")}
    whole, cut = (settings_in(tmp_path / name, backend, **changes) for name in ("whole", "cut"))
    cells = grid(whole)
    run_all(whole, cells)
    run_until(stage, after, cut, cells)
    states = [saved_state(cut, cell)[0] for cell in cells]
    assert {int(state["trainer/step"]) for state in states} == {SAVED if stage == "train" else STEPS}
    assert np.all(states[0]["moments/losses"] != states[1]["moments/losses"])
    run_all(cut, cells)
    for cell in cells:
        check_equal(Outcome.of(cut, cell), Outcome.of(whole, cell))


def test_the_seconds_of_every_part_add_up(tmp_path):
    """A cell cut off twice took what each part took: said by its state to have taken a million seconds, it did."""
    settings = settings_in(tmp_path / "run", BACKENDS[0], objectives=("posterior_kl",))
    cells = grid(settings)
    run_until("train", 9, settings, cells)
    state, metadata = saved_state(settings, cells[0])
    assert 0 < float(metadata["seconds"]) < 600
    assert 0 < float(metadata["processor_seconds"]) < 600
    long = {"seconds": "1000000", "processor_seconds": "2000000"}
    save_weights(RunFolder(settings.out).cell(cells[0].id).state, state, {**metadata, **long})
    run_until("train", CUT, settings, cells)
    so_far = float(saved_state(settings, cells[0])[1]["seconds"])
    assert 1e6 < so_far < 1e6 + 600
    run_all(settings, cells)
    rows = Outcome.of(settings, cells[0]).rows.set_index("metric")["value"]
    assert so_far < rows["train_seconds"] < 1e6 + 600
    assert 2e6 < rows["train_processor_seconds"] < 2e6 + 600
