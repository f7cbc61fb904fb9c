"""A study's settings: one frozen dataclass that is the command line, the settings file and the record in the report."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from backends import BACKENDS
from backends.interface import Execution
from backends.networks import MLPSettings, NetworkSettings, UNetSettings
from backends.recipe import TrainingRecipe
from core.objectives import OBJECTIVES
from core.predictions import PREDICTIONS
from core.samplers import SAMPLERS
from core.variances import FIRST_VARIANCES, VARIANCES
from studies.datasets.scale import NONE, RULES
from studies.plan.command import Flag, check_at_least, check_at_most, check_distinct, read_recorded, settings_from
from studies.plan.fields import Names
from studies.plan.flags import parse_flags
from studies.store.cells import FACTORS

DTYPES = ("float32", "float64", "bfloat16")
TIMESTEPS = ("uniform", "stratified", "importance")
CHOICES = ("auto", "on", "off")
SHARE = " and ".join(factor.name for factor in FACTORS if factor.shares_program)


@dataclass(frozen=True)
class StudySettings:
    """Every setting of a study. A study is the grid of the factors in the plural: one cell for each combination."""

    preset: Annotated[
        str,
        Names(PRESETS),
        Flag(help="starting values: 'default', or 'smoke', a study in small, to try it"),
    ] = "default"
    out: Annotated[Path, Flag(help="the run's folder; the same command with the same folder continues it")] = Path(
        "runs/objectives"
    )

    dataset: Annotated[
        str,
        Flag(
            help="digits, swiss_roll, swiss_roll_thin, mixture, italy_power_demand, or the path of an .npz with train,"
            " test[, levels]: uint8 images (N, H, W[, C]) as they are, whole numbers 0..K-1 with levels=K, or floats"
            " (N, H, W, C), (N, L, C) or (N, D) near unit scale, continuous; other numbers with --scale"
        ),
    ] = "digits"
    scale: Annotated[
        str,
        Names((NONE, *RULES)),
        Flag(
            help="how a file's continuous data are scaled, by the columns or channels of the training set: none,"
            " standard (mean 0, deviation 1) or minmax (-1 to 1); likelihoods are then in the file's own units, samples"
            " and their metrics in scaled ones"
        ),
    ] = "none"
    objectives: Annotated[
        tuple[str, ...],
        Names(OBJECTIVES),
        Flag(help="epsilon_mse (L_simple), posterior_kl (L_vlb), target_mse, hybrid"),
    ] = ("epsilon_mse", "posterior_kl")
    backends: Annotated[
        tuple[str, ...], Names(BACKENDS), Flag(help="torch, keras; none given: all that are installed")
    ] = ()
    predictions: Annotated[
        tuple[str, ...],
        Names(PREDICTIONS),
        Flag(help="what the network predicts: epsilon, x_0, mean, v, offset"),
    ] = ("epsilon",)
    variances: Annotated[
        tuple[str, ...],
        Names(VARIANCES),
        Flag(help="reverse variance: beta_tilde, beta, learned_range, learned_diagonal"),
    ] = ("beta_tilde",)
    schedules: Annotated[
        tuple[str, ...],
        Flag(
            help="linear, linear-scaled, cosine, quadratic, sigmoid, constant, harmonic, log-linear; for posterior_kl"
            " also learned (with the network, from linear-scaled) and learned-NAME (from another); name:T for a length"
            " of its own"
        ),
    ] = ("linear",)
    seeds: Annotated[
        int,
        Flag(help="how many seeds; each has its own initial weights, data order, steps and noise, shared by its cells"),
    ] = 3
    seeds_until: Annotated[
        float | None,
        Flag(help="after these seeds add more, until the interval of the two objectives' bound is +- this (bits/dim)"),
    ] = None
    num_steps: Annotated[int, Flag(help="T, the length of the chain")] = 1000
    first_variance: Annotated[
        str,
        Names(FIRST_VARIANCES),
        Flag(
            help="reverse variance at t = 1, where beta tilde is 0, of every kind: 'next' (beta tilde_2) or 'beta'"
            " (beta_1). With next, beta_tilde is fixedsmall and beta fixedlarge of the code of Ho et al. (2020) and of"
            " improved-diffusion, and learned_range its learn_sigma; beta with beta is beta_t at every step"
        ),
    ] = "next"

    widths: Annotated[tuple[int, ...], Flag(help="U-Net channels per level, finest first")] = (16, 32)
    blocks_per_level: Annotated[int, Flag(help="U-Net residual blocks per level")] = 1
    attention_levels: Annotated[tuple[int, ...], Flag(help="U-Net levels with attention, 0 the finest")] = ()
    mid_attention: Annotated[bool, Flag(help="attention in the middle of the U-Net")] = True
    norm_groups: Annotated[int, Flag(help="groups of the U-Net's group normalisation")] = 8
    mlp_width: Annotated[int, Flag(help="width of the perceptron used on points")] = 128
    mlp_depth: Annotated[int, Flag(help="residual blocks of the perceptron used on points")] = 3

    train_steps: Annotated[int, Flag(help="optimiser steps of each cell")] = 3500
    batch_size: Annotated[int, Flag(help="training examples a step")] = 64
    learning_rate: Annotated[float, Flag(help="peak rate of Adam, after warm-up and before cosine decay")] = 3e-3
    warmup_steps: Annotated[int, Flag(help="steps of linear warm-up")] = 100
    clip_norm: Annotated[
        float | None, Flag(help="largest global norm of the gradient, losses scaled to start near 1; None: no clipping")
    ] = 1.0
    ema_decay: Annotated[
        float, Flag(help="largest decay of the weights' moving average, min(ema_decay, (1+k)/(10+k)) after k steps")
    ] = 0.999
    timesteps: Annotated[
        tuple[str, ...],
        Names(TIMESTEPS),
        Flag(help="how training draws t: uniform, stratified, importance (by recorded second moments)"),
    ] = ("uniform",)

    dtypes: Annotated[
        tuple[str, ...],
        Names(DTYPES),
        Flag(help="what the network computes in: float32, float64, bfloat16 (autocast; weights and losses in float32)"),
    ] = ("float32",)

    bound_evaluations: Annotated[
        int,
        Flag(help="network evaluations per test example that the bound may cost; a pilot of 16 at t = 1 comes on top"),
    ] = 50
    bound_se: Annotated[
        float | None,
        Flag(help="evaluate the bound until its standard error (bits/dim) is this small, whatever it costs"),
    ] = None
    flow_examples: Annotated[
        int | None,
        Flag(
            help="test examples with an exact likelihood (probability flow) beside the bound; None: 8, or 32 where"
            " an example has at most 16 numbers"
        ),
    ] = None
    test_examples: Annotated[
        int | None, Flag(help="use only the first so many test examples; None: the whole test set")
    ] = None
    samples: Annotated[int, Flag(help="samples drawn by the respaced chain, and scored")] = 360
    sample_steps: Annotated[int, Flag(help="steps of the respaced chain")] = 100
    full_samples: Annotated[
        int,
        Flag(
            help="samples drawn by the whole chain of T steps beside them; 0: none; under 20 are not scored; none where"
            " --samples are by that chain already"
        ),
    ] = 64
    sampler: Annotated[str, Names(SAMPLERS), Flag(help="ancestral, ddim or dpm_solver, for the respaced chain")] = (
        "ancestral"
    )
    clip_x_0: Annotated[float | None, Flag(help="bound x_0_hat to [-this, this] while sampling; None: off")] = None

    tensorboard: Annotated[
        bool, Flag(help="write TensorBoard event files to OUT/tensorboard too (needs the extra 'tensorboard')")
    ] = False
    device: Annotated[str, Flag(help="auto, cpu, cuda, mps")] = "auto"
    compile: Annotated[
        str,
        Names(CHOICES),
        Flag(help="torch.compile, and XLA for Keras: auto (where an estimate says that it pays), on or off"),
    ] = "auto"
    together: Annotated[
        str,
        Names(CHOICES),
        Flag(help=f"train cells that differ in {SHARE} alone as one program: auto (where faster), on or off"),
    ] = "auto"
    jobs: Annotated[int, Flag(help="cells that run side by side; 0: one a core on a CPU, one on a GPU")] = 0
    threads: Annotated[int, Flag(help="threads of each cell on a CPU")] = 1

    def replace(self, **changes: Any) -> StudySettings:
        return dataclasses.replace(self, **changes)

    def recipe(self) -> TrainingRecipe:
        return TrainingRecipe(
            num_steps=self.train_steps,
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps,
            clip_norm=self.clip_norm,
            ema_decay=self.ema_decay,
        )

    def execution(self, dtype: str) -> Execution:
        """How cells run, compiled only where that is asked for; `compiling.execution_of` decides the rest."""
        return Execution(device=self.device, dtype=dtype, compile=self.compile == "on")

    def network(self, shape: tuple[int, ...], learns_variance: bool) -> NetworkSettings:
        """The network for examples of `shape`: an MLP for points (D,), a U-Net for signals."""
        if len(shape) == 1:
            return MLPSettings(shape, self.mlp_width, self.mlp_depth, learns_variance=learns_variance)
        return UNetSettings(
            shape,
            self.widths,
            self.blocks_per_level,
            self.attention_levels,
            self.mid_attention,
            self.norm_groups,
            learns_variance,
        )


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {
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
    },
}
"""Changes to the default settings by name. "smoke" is a study in small, every part of it.

Its schedule ends in noise within so few steps, as the unscaled linear one does not (alpha_bar_T = 0.36), and with just
enough of it that a network of 60 steps of training does not send samples to 1e4, as with cosine it does.
"""


GROUPS = {
    "run": "preset",
    "data": "dataset",
    "comparison": "objectives",
    "network": "widths",
    "training": "train_steps",
    "measurement": "bound_evaluations",
    "execution": "tensorboard",
}
"""The headings of --help, and the first setting under each."""


def parse_settings(
    argv: Sequence[str],
    description: str,
    base: Mapping[str, Any] | None = None,
    smoke: Mapping[str, Any] | None = None,
) -> StudySettings:
    """The settings of a command line, checked; a ValueError in one line for a value that no study could use.

    `base` holds a study's own defaults; a settings file goes over them, the preset over that, and the other flags
    over all. A preset leaves the study the factors that it is about; `smoke`: what it has otherwise in that preset.
    """
    own = {factor.setting for factor in FACTORS} & (base or {}).keys()
    presets = {name: {k: v for k, v in changes.items() if k not in own} for name, changes in PRESETS.items()}
    presets["smoke"] |= smoke or {}
    settings = parse_flags(StudySettings, argv, description, GROUPS, base, presets)
    check_settings(settings)
    return settings


def check_settings(settings: StudySettings) -> None:
    """ValueError for the first value that no study could use; names and combinations are checked with the cells."""
    at_least = {
        "seeds": 1, "num_steps": 1, "train_steps": 1, "batch_size": 1, "warmup_steps": 1, "bound_evaluations": 1,
        "samples": 20, "sample_steps": 1, "full_samples": 0, "jobs": 0, "threads": 1, "blocks_per_level": 1,
        "mlp_width": 1, "mlp_depth": 1, "test_examples": 2, "flow_examples": 0,
    }  # fmt: skip
    check_at_least(settings, at_least)
    check_at_most(settings)
    if settings.flow_examples == 1:
        raise ValueError("--flow-examples is 0, or at least 2 for an error bar, got 1")
    for name in ("learning_rate", "clip_norm", "bound_se", "clip_x_0", "seeds_until"):
        value = getattr(settings, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"--{name.replace('_', '-')} is a positive number, got {value}")
    if not 0 <= settings.ema_decay < 1:
        raise ValueError(f"--ema-decay lies in [0, 1), got {settings.ema_decay}")
    if settings.sample_steps > settings.num_steps:
        raise ValueError(
            f"--sample-steps is at most --num-steps, got {settings.sample_steps} of a chain of {settings.num_steps}"
        )
    check_distinct(settings, [factor.setting for factor in FACTORS])


def from_json(text: str) -> StudySettings:
    """The settings that `to_json` wrote."""
    return settings_from(json.loads(text), StudySettings)


def read_settings(run: Path) -> StudySettings:
    """The settings of the run in a folder. A ValueError in one line where the folder holds no run."""
    return read_recorded(run, StudySettings)
