"""The main job, start to finish, with whatever backends this environment has; and what happens when it is disturbed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backends import installed_backends
from backends.checkpoints import load_weights
from studies.cell import stages as cell_module
from studies.cell import training
from studies.cell.drift import sketched_steps
from studies.metrics.vocabulary import VOCABULARY, outside_range
from studies.plan.command import to_json
from studies.plan.grid import grid
from studies.plan.settings import PRESETS, StudySettings
from studies.store import files
from studies.store.folder import RunFolder
from tests.studies.event_files import scalars_and_images

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = installed_backends()


def study(*words: str, script: str = "compare_objectives") -> subprocess.CompletedProcess[str]:
    """Runs a study script as a user would, from the checkout."""
    return subprocess.run(
        [sys.executable, f"studies/{script}.py", *words], cwd=ROOT, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    run = tmp_path_factory.mktemp("study") / "run"
    return run, study("--preset", "smoke", "--out", str(run), "--tensorboard")


def test_an_environment_has_a_backend():
    assert BACKENDS


def test_the_command_ends_with_a_report(smoke):
    run, done = smoke
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {run / 'report.html'}"
    assert (run / "report.html").stat().st_size > 10_000
    for name in ("settings.json", "environment.json", "results.csv", "reference.npz"):
        assert (run / name).is_file()


def test_it_says_what_it_will_do_and_shows_every_cell(smoke):
    _, done = smoke
    count = 2 * 2 * len(BACKENDS)
    assert done.stdout.startswith(f"{count} cells on digits")
    assert f"[{count}/{count}]" in done.stdout


def test_every_metric_is_in_the_vocabulary(smoke):
    """A row that no reader knows is refused, and so is a unit other than the one it is known by."""
    run, _ = smoke
    results = pd.read_csv(run / "results.csv")
    assert set(results["metric"]) <= set(VOCABULARY)
    known = {name: about.unit for name, about in VOCABULARY.items() if about.unit}
    written = {(row.metric, row.unit) for row in results.itertuples() if row.metric in known}
    assert written <= set(known.items())
    assert [row for row in results.itertuples() if outside_range(row.metric, row.value)] == []


def test_every_cell_has_its_measurements(smoke):
    run, _ = smoke
    results = pd.read_csv(run / "results.csv")
    assert tuple(results.columns) == files.COLUMNS
    cells = results.groupby(["objective", "backend", "seed"])
    assert len(cells) == 2 * 2 * len(BACKENDS)
    needed = {
        "train_epsilon_mse", "train_posterior_kl", "bound", "bound_prior", "bound_diffusion", "bound_decoder",
        "bound_at_t", "epsilon_mse", "bound_evaluations", "frechet", "frechet_floor", "train_seconds",
        "bound_data_se", "bound_step_se", "bound_noise_se", "rate", "distortion", "rate_at_t", "bound_above_floor",
        "epsilon_mse_above_floor_at_t", "floors_seconds", "scored_samples", "scored_reference",
    }  # fmt: skip
    for _, rows in cells:
        assert needed <= set(rows["metric"])
        value = rows.set_index("metric")["value"]
        split = value["bound_prior"] + value["bound_diffusion"] + value["bound_decoder"]
        assert split == pytest.approx(value["bound"], rel=1e-9)
        by_t = rows[rows["metric"] == "bound_at_t"]
        spent = np.sum(by_t["value"] * (by_t["t_last"] - by_t["t"] + 1))
        assert spent + value["bound_prior"] == pytest.approx(value["bound"], rel=1e-9)
        assert by_t["t_last"].max() == 100


def test_cells_of_a_seed_share_their_draws(smoke):
    """Before training has moved the weights far, both objectives have seen the same losses on the same draws."""
    run, _ = smoke
    results = pd.read_csv(run / "results.csv")
    first = results[(results["metric"] == "train_epsilon_mse") & (results["step"] == 1)]
    for _, rows in first.groupby("seed"):
        assert rows["value"].max() == pytest.approx(rows["value"].min(), rel=1e-5)


def test_event_files_are_alike_in_every_framework(smoke):
    run, _ = smoke
    found = [scalars_and_images(run / "tensorboard" / path.name) for path in sorted(run.glob("cells/*"))]
    tags = {tuple(sorted(scalars)) for scalars, _ in found}
    assert len(tags) == 1
    assert {"train/epsilon_mse", "train/posterior_kl", "train/learning_rate", "test/bound"} <= set(*tags)
    for scalars, images in found:
        assert [step for step, _ in scalars["train/epsilon_mse"]] == list(range(1, 61))
        assert len(scalars["time/step_seconds"]) == 59  # not of the first step, which compiles
        assert len(images) == 2


def test_the_same_command_redoes_nothing(smoke):
    run, _ = smoke
    written = {path: path.stat().st_mtime_ns for path in run.glob("cells/*/*")}
    done = study("--preset", "smoke", "--out", str(run))
    assert done.returncode == 0
    assert "finished already" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in run.glob("cells/*/*")} == written


def test_a_failed_cell_is_named_and_the_rest_go_on(smoke, tmp_path):
    finished, _ = smoke
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    broken = sorted((run / "cells").iterdir())[0]
    (broken / "rows.csv").unlink()
    (broken / "state.safetensors").write_bytes(b"not a checkpoint")
    done = study("--preset", "smoke", "--out", str(run))
    assert done.returncode == 1
    assert f"failed: {broken.name}" in done.stdout
    assert broken.name in (run / "report.html").read_text()
    (broken / "state.safetensors").unlink()
    mended = study("--preset", "smoke", "--out", str(run))
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert not (broken / "failed.txt").exists()


def test_other_settings_do_not_overwrite_a_run(smoke):
    run, _ = smoke
    before = (run / "results.csv").read_bytes()
    done = study("--preset", "smoke", "--train-steps", "61", "--out", str(run))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "train_steps 60 there, 61 asked" in done.stderr
    assert (run / "results.csv").read_bytes() == before


def test_seeds_are_added_until_the_interval_is_narrow(smoke, tmp_path):
    """Stein's rule over the finished seeds: a wide target is met at once, and the same run takes further seeds."""
    finished, _ = smoke
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    done = study("--preset", "smoke", "--out", str(run), "--seeds-until", "50")
    assert done.returncode == 0, done.stderr
    assert "bits/dim (95 %, 2 seeds, Stein's two-stage rule)" in done.stdout
    assert files.first_stage(run) == 2
    assert "The number of seeds was set by the first 2" in (run / "report.html").read_text()
    other = study("--preset", "smoke", "--out", str(run), "--seeds", "3", "--objectives", "posterior_kl")
    assert other.returncode == 2  # further seeds may be added, but not to other objectives than the run's
    assert "objectives" in other.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backends", "mxnet"], "invalid choice 'mxnet' for argument '--backends'. Expected one of ('torch', "),
        (["--objectives", "gan"], "invalid choice 'gan' for argument '--objectives'. Expected one of ('epsilon_mse', "),
        (["--dataset", "imagenet"], "unknown dataset 'imagenet'; known: digits"),
        (["--num-steps", "0"], "--num-steps is at least 1, got 0"),
        (["--schedules", "square"], "unknown schedule 'square'; known: linear"),
        (["--schedules", "linear-scaled", "--num-steps", "10", "--sample-steps", "5"], "T is at least 21, got 10"),
        (
            ["--predictions", "score"],
            "invalid choice 'score' for argument '--predictions'. Expected one of ('epsilon', ",
        ),
        (["--variances", "learned_range"], "epsilon_mse has no gradient for a learned_range variance"),
        (
            ["--first-variance", "zero"],
            "invalid choice 'zero' for argument '--first-variance'. Expected one of ('next', ",
        ),
        (["--flow-examples", "1"], "--flow-examples is 0, or at least 2 for an error bar, got 1"),
        (["--learning-rate", "nan"], "--learning-rate is a positive number, got nan"),
        (["--widths", "16", "32", "64", "128", "256"], "5 levels need lengths divisible by 16"),
        (["--attention-levels", "5"], "attention_levels count the widths (16, 32) from 0, the finest, to 1, got 5"),
        (
            ["--attention-levels", "0", "-1"],
            "attention_levels count the widths (16, 32) from 0, the finest, to 1, got -1",
        ),
        (["--seeds-until", "0.1", "--seeds", "1"], "from 2 or more first seeds, got 2 objectives and 1 seeds"),
        (["--preset", "huge"], "unknown preset 'huge'; known: default, smoke"),
        (["--sampler", "euler"], "invalid choice 'euler' for argument '--sampler'. Expected one of ('ancestral', "),
        (["--out", "/proc/none"], "cannot write to /proc/none"),
    ],
)
def test_bad_input_is_one_line(tmp_path, words, message):
    out = [] if "--out" in words else ["--out", str(tmp_path / "run")]
    done = study(*words, *out)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_missing_framework_is_one_line(tmp_path):
    missing = {"torch", "keras"} - set(BACKENDS)
    if not missing:  # both are here: hide one from the script
        blind = "import sys; sys.path[:0] = ['.']; import importlib.util as u\n"
        blind += "find = u.find_spec; u.find_spec = lambda name: None if name == 'torch' else find(name)\n"
        blind += "from studies.compare_objectives import main; sys.exit(main(sys.argv[1:]))"
        command, name = [sys.executable, "-c", blind], "torch"
    else:
        name = missing.pop()
        command = [sys.executable, "studies/compare_objectives.py"]
    words = ["--backends", name, "--out", str(tmp_path / "run")]
    done = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"pip install 'diffusion-objectives[{name}]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


class PowerCut(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupted_cell_goes_on_exactly(tmp_path, monkeypatch, backend):
    """Training cut off half way and continued ends with the curve and the weights of training left alone."""
    changes = {**PRESETS["smoke"], "train_steps": 24, "full_samples": 0, "samples": 24, "backends": (backend,)}
    settings = StudySettings(**changes)
    cell = grid(settings)[0]
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(training, "CURVE_POINTS", 6)

    reported = []

    def cut(stage, done, total, loss=None, rows=()):
        if stage == "train" and done >= 12:
            raise PowerCut

    runs = {}
    for name in ("whole", "cut"):
        run = tmp_path / name
        files.open_run(run, to_json(settings), "compare_objectives")
        if name == "cut":
            with pytest.raises(PowerCut):
                cell_module.run_cell(run, cell, settings, cut)
            assert not files.is_finished(run, cell.id)
        reported.append([])
        cell_module.run_cell(run, cell, settings, lambda *_, rows=(), **__: reported[-1].extend(rows))
        folder = RunFolder(run).cell(cell.id).path
        runs[name] = pd.read_csv(folder / "rows.csv"), load_weights(folder / "checkpoint.safetensors")[0]
    rows = {name: frame[~frame["metric"].str.endswith("seconds")].reset_index() for name, (frame, _) in runs.items()}
    pd.testing.assert_frame_equal(rows["whole"].drop(columns="index"), rows["cut"].drop(columns="index"))
    steps = [[one["step"] for one in of_run if one["metric"] == "train_posterior_kl"] for of_run in reported]
    assert steps[0] == steps[1] == list(range(4, 25, 4))  # what was restored is reported again, once
    whole, cut_off = runs["whole"][1], runs["cut"][1]
    assert all(np.array_equal(whole[name], cut_off[name]) for name in whole)
    sketches = [np.load(RunFolder(tmp_path / name).cell(cell.id).sketches) for name in runs]
    assert sketches[0]["steps"].tolist() == sketches[1]["steps"].tolist() == sorted(sketched_steps(24))
    np.testing.assert_array_equal(sketches[0]["sketches"], sketches[1]["sketches"])


def test_help_is_quick_to_read_and_names_every_setting():
    done = study("--help")
    assert done.returncode == 0
    for name in json.loads(to_json(StudySettings())):
        assert f"--{name.replace('_', '-')}" in done.stdout


def test_how_steps_are_drawn_is_a_factor_of_its_own():
    """Cells that differ in it have folders, and so weights and rows, of their own; uniform steps need no mention."""
    settings = StudySettings(seeds=1, objectives=("posterior_kl",), backends=BACKENDS[:1])
    both = grid(settings.replace(timesteps=("uniform", "importance")))
    assert [cell.timesteps for cell in both] == ["uniform", "importance"]
    assert both[:1] == grid(settings)
    assert len({cell.id for cell in both}) == 2
    assert "uniform" not in both[0].id
