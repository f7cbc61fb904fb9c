"""The values that a study has where its command line gives none, on which the README's numbers rest, as they stand."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from studies.plan.settings import parse_settings
from tests.studies.custody.command import Commands, Seen
from tests.studies.custody.entry import parsed

DEFAULT: dict[str, Any] = {
    "preset": "default",
    "out": Path("runs/objectives"),
    "dataset": "digits",
    "scale": "none",
    "objectives": ("epsilon_mse", "posterior_kl"),
    "backends": (),
    "predictions": ("epsilon",),
    "variances": ("beta_tilde",),
    "schedules": ("linear",),
    "seeds": 3,
    "seeds_until": None,
    "num_steps": 1000,
    "first_variance": "next",
    "widths": (16, 32),
    "blocks_per_level": 1,
    "attention_levels": (),
    "mid_attention": True,
    "norm_groups": 8,
    "mlp_width": 128,
    "mlp_depth": 3,
    "train_steps": 3500,
    "batch_size": 64,
    "learning_rate": 0.003,
    "warmup_steps": 100,
    "clip_norm": 1.0,
    "ema_decay": 0.999,
    "timesteps": ("uniform",),
    "dtypes": ("float32",),
    "bound_evaluations": 50,
    "bound_se": None,
    "flow_examples": None,
    "test_examples": None,
    "samples": 360,
    "sample_steps": 100,
    "full_samples": 64,
    "sampler": "ancestral",
    "clip_x_0": None,
    "tensorboard": False,
    "device": "auto",
    "compile": "auto",
    "together": "auto",
    "jobs": 0,
    "threads": 1,
}
SMOKE: dict[str, Any] = {
    "preset": "smoke",
    "out": Path("runs/smoke"),
    "widths": (8, 16),
    "seeds": 2,
    "num_steps": 100,
    "schedules": ("log-linear",),
    "train_steps": 60,
    "warmup_steps": 10,
    "batch_size": 32,
    "test_examples": 60,
    "bound_evaluations": 40,
    "flow_examples": 0,
    "samples": 60,
    "sample_steps": 10,
    "full_samples": 16,
}
"""What the preset changes."""

SAMPLERS: dict[str, Any] = {
    "preset": "default",
    "run": Path("runs/objectives"),
    "out": Path("runs/samplers"),
    "samplers": ("ancestral", "ddim", "dpm_solver", "dpm_solver-logsnr"),
    "steps": (10, 20, 50, 100, 250, 1000),
    "dpm_solver_up_to": 100,
    "samples": 256,
    "clip_x_0": None,
    "interpolations": 0,
    "cells": (),
    "device": "auto",
    "jobs": 0,
    "threads": 1,
}
ESTIMATORS: dict[str, Any] = {
    "preset": "default",
    "run": None,
    "out": Path("runs/estimators"),
    "cells": (),
    "examples": (64, 256, 0),
    "noise_draws": 8,
    "repeats": 1000,
    "network_repeats": 60,
    "train_steps": 2000,
    "device": "auto",
    "jobs": 0,
    "threads": 1,
}
THROUGHPUT: dict[str, Any] = {
    "preset": "default",
    "out": Path("runs/throughput"),
    "run": None,
    "workloads": ("digits", "images"),
    "widths": (32, 64),
    "contestants": ("torch", "keras", "diffusers", "denoising-diffusion-pytorch"),
    "modes": "eager",
    "dtypes": ("float32",),
    "rounds": 9,
    "block_seconds": 0.5,
    "clock": "wall",
    "growth": True,
    "device": "auto",
    "threads": 1,
}
SMOKE_OF: dict[str, dict[str, Any]] = {
    "compare_samplers": {
        "run": Path("runs/smoke"),
        "out": Path("runs/smoke-samplers"),
        "steps": (10, 20, 50),
        "dpm_solver_up_to": 20,
        "samples": 60,
        "cells": ("seed=0",),
    },
    "compare_estimators": {
        "out": Path("runs/smoke-estimators"),
        "examples": (16, 48),
        "noise_draws": 4,
        "repeats": 40,
        "network_repeats": 4,
        "train_steps": 60,
    },
    "compare_throughput": {
        "out": Path("runs/smoke-throughput"),
        "workloads": ("digits",),
        "widths": (8, 16),
        "rounds": 3,
        "block_seconds": 0.2,
        "growth": False,
    },
}
"""What the preset changes of those."""

BASES: dict[str, dict[str, Any]] = {
    "compare_parameterizations": {
        "predictions": ["mean", "epsilon", "x_0", "v"],
        "objectives": ["posterior_kl", "target_mse", "hybrid"],
        "variances": ["learned_diagonal", "beta_tilde", "learned_range"],
    },
    "compare_schedules": {
        "schedules": [
            "linear-scaled:50", "linear-scaled:250", "linear-scaled:1000", "linear-scaled:4000",
            "cosine:50", "cosine:250", "cosine:1000", "cosine:4000",
            "learned:50", "learned:250", "learned:1000", "learned:4000",
        ],
        "sample_steps": 50,
    },
    "sohl_dickstein_2015": {
        "dataset": "swiss_roll_thin",
        "objectives": ["posterior_kl"],
        "predictions": ["offset"],
        "variances": ["learned_diagonal"],
        "schedules": ["log-linear", "learned-log-linear"],
        "num_steps": 40,
        "train_steps": 4000,
        "batch_size": 512,
        "sample_steps": 40,
        "full_samples": 0,
    },
}  # fmt: skip
"""What else differs from the default study."""


def test_the_default_study():
    assert parsed("compare_objectives") == DEFAULT


def test_the_smoke_preset():
    assert parsed("compare_objectives", "--preset", "smoke") == {**DEFAULT, **SMOKE}


@pytest.mark.parametrize(
    ("script", "values"),
    [("compare_samplers", SAMPLERS), ("compare_estimators", ESTIMATORS), ("compare_throughput", THROUGHPUT)],
)
def test_the_studies_of_a_finished_run(script, values):
    assert parsed(script) == values


@pytest.mark.parametrize(
    ("script", "values"),
    [("compare_samplers", SAMPLERS), ("compare_estimators", ESTIMATORS), ("compare_throughput", THROUGHPUT)],
)
def test_the_smoke_preset_of_the_studies_of_a_finished_run(script, values):
    assert parsed(script, "--preset=smoke") == {**values, "preset": "smoke", **SMOKE_OF[script]}
    with pytest.raises(ValueError, match="unknown preset 'huge'; known: default, smoke"):
        parsed(script, "--preset", "huge")


def started(script: str, folder: Path, *words: str) -> Seen:
    """The script's study as it is begun: its settings, and its cells, none of which runs."""
    return Commands(folder).run(script, ["--backends", "fake_one", "--jobs", "1", *words], execute=False)


def recorded(values: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps(values, default=str)))


@pytest.mark.parametrize("script", BASES)
def test_the_bases_of_other_studies(script, tmp_path):
    seen = started(script, tmp_path)
    expected = {**recorded(DEFAULT), **BASES[script], "backends": ["fake_one"], "jobs": 1, "out": str(seen.out)}
    assert seen.settings == {**expected, "study": script}


def test_flags_go_over_presets_and_presets_over_bases(tmp_path):
    words = ["--preset", "smoke", "--num-steps", "50"]
    seen = started("sohl_dickstein_2015", tmp_path, *words)
    asked = {"preset": "smoke", "num_steps": 50, "train_steps": 60, "samples": 60, "dataset": "swiss_roll_thin"}
    assert {name: seen.settings[name] for name in asked} == asked


@pytest.mark.parametrize(
    ("script", "values", "cells"),
    [
        (
            "compare_parameterizations",
            {
                "predictions": ["epsilon", "v"], "objectives": ["posterior_kl", "target_mse"],
                "schedules": ["log-linear"], "variances": ["learned_diagonal", "beta_tilde"],
                "dataset": "mixture", "seeds": 1,
            },
            6,
        ),
        (
            "compare_schedules",
            {
                "schedules": ["linear-scaled:100", "cosine:100", "cosine:50", "learned:100"], "dataset": "mixture",
                "seeds": 1, "sample_steps": 10,
            },
            7,
        ),
        (
            "sohl_dickstein_2015",
            {"schedules": ["log-linear", "learned-log-linear"], "num_steps": 40, "sample_steps": 40, "seeds": 1},
            2,
        ),
    ],
)  # fmt: skip
def test_the_smoke_preset_of_other_studies(script, values, cells, tmp_path):
    """Every one has a folder of its own, so that one does not stand in another's way."""
    folder = parse_folder(script)
    seen = started(script, tmp_path, "--preset", "smoke")
    assert {name: seen.settings[name] for name in values} == values
    assert (seen.settings["train_steps"], seen.settings["flow_examples"]) == (60, 0)
    assert len(seen.cells) == cells
    assert folder == Path(f"runs/smoke-{script.removeprefix('compare_')}")


def parse_folder(script: str) -> Path:
    """Where the script's smoke study lies."""
    module = importlib.import_module(f"studies.{script}")
    return parse_settings(["--preset", "smoke"], "", module.BASE, module.SMOKE).out


def test_the_cells_of_the_schedules(tmp_path):
    """Every schedule by both objectives, but a learned one by the bound alone."""
    seen = started("compare_schedules", tmp_path, "--seeds", "1")
    cells = {tuple(name.removeprefix("digits-").rsplit("-", 5)[:4:3]) for name in seen.cells}
    names = [(kind, length) for kind in ("linear-scaled", "cosine") for length in (50, 250, 1000, 4000)]
    both = {(f"{kind}_{length}", objective) for kind, length in names for objective in ("epsilon_mse", "posterior_kl")}
    assert cells == both | {(f"learned_{length}", "posterior_kl") for length in (50, 250, 1000, 4000)}
    assert len(seen.cells) == len(cells)


def test_the_cells_of_the_parameterizations(tmp_path):
    """Four predictions by the four columns of the table."""
    seen = started("compare_parameterizations", tmp_path, "--seeds", "1")
    columns = [
        ("learned_diagonal", "posterior_kl"), ("beta_tilde", "posterior_kl"), ("beta_tilde", "target_mse"),
        ("learned_range", "hybrid"),
    ]  # fmt: skip
    assert {tuple(name.split("-")[2:5]) for name in seen.cells} == {
        (prediction, *column) for prediction in ("mean", "epsilon", "x_0", "v") for column in columns
    }
