"""Learned schedules in a study: how they are asked for, what a cell keeps of them, and who finds it again."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backends import installed_backends
from core.learned_schedule import LearnedSchedule
from core.schedules import cosine, linear
from studies.cell import stages as cell_module
from studies.cell import training
from studies.cell.model import load_model, starting_process, trained_process
from studies.compare_schedules import BASE, schedule_cells
from studies.datasets import load_dataset
from studies.plan.command import to_json
from studies.plan.grid import grid
from studies.plan.schedules import learned_schedule, read_schedule, schedule_of, write_schedule
from studies.plan.settings import PRESETS, StudySettings
from studies.reporting.figures import figures_of
from studies.reporting.view import views_of
from studies.store import files
from studies.store.folder import CellFolder, RunFolder
from studies.store.reading import read_run

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("words", "start", "num_steps"),
    [
        ("learned", "linear-scaled", 40),
        ("learned:50", "linear-scaled", 50),
        ("learned-cosine", "cosine", 40),
        ("learned-cosine:60", "cosine", 60),
        ("learned-linear-scaled", "linear-scaled", 40),
    ],
)
def test_a_learned_schedule_names_its_start(words, start, num_steps):
    """ "learned-NAME:T"; the first end is still for continuous data, and moves where there are levels."""
    expected = schedule_of(start, num_steps)
    for levels, reach in ((None, 0.0), (17, 3.0)):
        learned = learned_schedule(words, 40, levels)
        np.testing.assert_array_equal(learned.start.log_snr, expected.log_snr)
        assert learned.first_reach == reach
    assert learned_schedule(start, 40, None) is None


@pytest.mark.parametrize("start", [linear(1000), cosine(50)], ids=str)
def test_schedule_csv_reads_back(tmp_path, start):
    """Numbers written in full: the schedule read is the one written, but for a rounding of log SNR."""
    learned = LearnedSchedule(start)
    schedule = learned.frozen(np.linspace(-1, 1, learned.size))
    write_schedule(tmp_path, start, schedule)
    found = read_schedule(tmp_path, start)
    assert found.name == schedule.name
    np.testing.assert_allclose(found.log_snr[1:], schedule.log_snr[1:], rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.beta, schedule.beta, rtol=1e-11)
    table = pd.read_csv(tmp_path / "schedule.csv")
    np.testing.assert_array_equal(table["start_beta"], start.beta[1:])
    np.testing.assert_array_equal(table["t"], np.arange(1, start.num_steps + 1))


def test_a_cell_without_its_schedule_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"holds no schedule.csv of its learned schedule"):
        read_schedule(tmp_path, linear(10))


def test_compare_schedules_learns_with_the_bound_only():
    """Learned schedules stand in its default beside the others, trained by the KL; the MSE keeps the named ones."""
    settings = StudySettings(**{**BASE, "seeds": 1})
    cells = schedule_cells(settings)
    learned = {cell.schedule for cell in cells if cell.schedule.startswith("learned")}
    assert learned == {f"learned:{length}" for length in (50, 250, 1000, 4000)}
    assert {cell.objective for cell in cells if cell.schedule in learned} == {"posterior_kl"}
    others = [cell for cell in cells if cell.schedule not in learned]
    assert others == grid(settings.replace(schedules=tuple(n for n in settings.schedules if n not in learned)))


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        ("compare_objectives", ["--schedules", "learned"], "a learned schedule needs posterior_kl, whose loss is the"),
        ("compare_schedules", ["--objectives", "epsilon_mse"], "got epsilon_mse: its best schedule is degenerate"),
        ("compare_schedules", ["--schedules", "learned-square"], "unknown schedule 'square'; known: linear"),
        ("compare_schedules", ["--schedules", "learned-cosine:1"], "a learned schedule has at least 2 steps, got 1"),
    ],
)
def test_bad_input_is_one_line(tmp_path, script, words, message):
    command = [sys.executable, f"studies/{script}.py", *words, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_cell_keeps_its_schedule_and_everyone_finds_it(tmp_path, monkeypatch):
    """Trained with an interruption, the cell evaluates, samples and reports on the schedule it has learned."""
    settings = StudySettings(
        **{
            **PRESETS["smoke"],
            "dataset": "swiss_roll",
            "schedules": ("learned-cosine",),
            "objectives": ("posterior_kl",),
            "backends": (installed_backends()[0],),
            "num_steps": 30,
            "train_steps": 40,
            "seeds": 1,
            "mlp_width": 16,
            "mlp_depth": 1,
            "full_samples": 0,
            "samples": 24,
            "out": tmp_path,
        }
    )
    (cell,) = grid(settings)
    run, dataset = tmp_path / "run", load_dataset("swiss_roll", settings.test_examples)
    files.open_run(run, to_json(settings), "compare_schedules")
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)

    class PowerCut(Exception):
        pass

    def cut(stage, done, total, loss=None, **more):
        if stage == "train" and done >= 20:
            raise PowerCut

    with pytest.raises(PowerCut):
        cell_module.run_cell(run, cell, settings, cut)
    cell_module.run_cell(run, cell, settings, lambda *_, **__: None)
    folder = RunFolder(run).cell(cell.id).path
    start = schedule_of(cell.schedule, 30)
    learned = read_schedule(folder, start)
    assert np.abs(learned.log_snr[1:] - start.log_snr[1:]).max() > 1e-3
    assert learned.log_snr[1] == pytest.approx(start.log_snr[1], abs=1e-12)  # continuous data: held still
    process = trained_process(cell, settings, dataset, folder)
    np.testing.assert_array_equal(process.schedule.log_snr, learned.log_snr)
    np.testing.assert_array_equal(starting_process(cell, settings, dataset).schedule.log_snr, start.log_snr)
    model = load_model(run, cell, settings, dataset)
    np.testing.assert_array_equal(model.process.schedule.log_snr, learned.log_snr)
    rows = pd.read_csv(CellFolder(folder).rows)
    prior = rows[rows["metric"] == "bound_prior"]["value"].item()
    assert prior == pytest.approx(prior_bits(learned, dataset.test), rel=1e-9)
    rows.to_csv(RunFolder(run).results, index=False)
    files.write_json(folder / "cell.json", {"factors": asdict(cell), "description": {}})
    (plot,) = [plot for plot in figures_of(views_of(read_run(run))) if plot.name == "learned-schedule"]
    np.testing.assert_allclose(plot.data["log_snr"], learned.log_snr[1:], atol=1e-12)
    assert len(plot.panels) == 3


def prior_bits(schedule, x_0):
    """L_T in bits per dim, by the formula in one line."""
    share = schedule.alpha_bar[-1]
    return np.mean(0.5 * (share * x_0**2 - share - np.log1p(-share))) / np.log(2)
