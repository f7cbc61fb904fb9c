"""What a study of samplers is asked to do: which run, which of its cells, which chains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from core.samplers import make_sampler
from studies.plan.command import Flag, check_at_least, check_at_most, check_own_folder
from studies.plan.fields import Names
from studies.plan.flags import parse_flags
from studies.store.cells import wanted_factors
from studies.store.sampler_chains import SPACINGS, Chain, Family

LEAST_SAMPLES = 20  # metrics.evaluation.LEAST, whose import would slow --help


@dataclass(frozen=True)
class SamplerSettings:
    """Every setting of a study of samplers; every cell is sampled by every chain, a sampler at a number of steps."""

    preset: Annotated[
        str,
        Names(PRESETS),
        Flag(
            help="starting values: 'default', or 'smoke', which draws 60 samples in 10 to 50 steps of the first seed's"
            " cells, by default of the run that compare_objectives.py --preset smoke leaves"
        ),
    ] = "default"
    run: Annotated[Path, Flag(help="the folder of the run whose checkpoints are sampled")] = Path("runs/objectives")
    out: Annotated[Path, Flag(help="the results' folder; the same command with the same folder continues it")] = Path(
        "runs/samplers"
    )
    samplers: Annotated[
        tuple[str, ...],
        Flag(help="ancestral, ddim (eta 0), dpm_solver (DPM-Solver++ 2M), each with -quadratic or -logsnr spacing too"),
    ] = ("ancestral", "ddim", "dpm_solver", "dpm_solver-logsnr")
    steps: Annotated[
        tuple[int, ...], Flag(help="network evaluations of each chain; more than a cell's T are left out for it")
    ] = (10, 20, 50, 100, 250, 1000)
    dpm_solver_up_to: Annotated[
        int, Flag(help="longest chain of dpm_solver: it is of second order, and has converged long before the others")
    ] = 100
    samples: Annotated[int, Flag(help="samples drawn by each chain, and scored")] = 256
    clip_x_0: Annotated[float | None, Flag(help="bound x_0_hat to [-this, this] while sampling; None: off")] = None
    interpolations: Annotated[
        int,
        Flag(
            help="pairs of test examples to encode by DDIM run backwards, in the longest of --steps, and to decode with"
            " what lies between them, for a figure; 0: none"
        ),
    ] = 0
    cells: Annotated[
        tuple[str, ...],
        Flag(help="only these cells of the run, as in objective=posterior_kl backend=torch seed=0,1; none given: all"),
    ] = ()
    device: Annotated[str, Flag(help="auto, cpu, cuda, mps")] = "auto"
    jobs: Annotated[int, Flag(help="cells that run side by side; 0: one a core on a CPU, one on a GPU")] = 0
    threads: Annotated[int, Flag(help="threads of each cell on a CPU")] = 1


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {
        "run": Path("runs/smoke"),
        "out": Path("runs/smoke-samplers"),
        "steps": (10, 20, 50),
        "dpm_solver_up_to": 20,
        "samples": 60,
        "cells": ("seed=0",),
    },
}
"""Changes to the default settings by name."""

GROUPS = {"run": "preset", "comparison": "samplers", "execution": "device"}
"""The headings of --help, and the first setting under each."""


def parse_sampler_settings(argv: Sequence[str], description: str) -> SamplerSettings:
    """The settings of a command line, checked; a ValueError in one line for a value that no run could use."""
    settings = parse_flags(SamplerSettings, argv, description, GROUPS, presets=PRESETS)
    least = {"samples": LEAST_SAMPLES, "dpm_solver_up_to": 1, "interpolations": 0, "jobs": 0, "threads": 1}
    check_at_least(settings, least)
    check_at_most(settings)
    if not settings.steps or min(settings.steps) < 1:
        raise ValueError(f"--steps are numbers of at least 1, got {' '.join(map(str, settings.steps)) or 'none'}")
    if not settings.samplers:
        raise ValueError("--samplers names at least one sampler, got none")
    for words in settings.samplers:
        family = Family.named(words)
        make_sampler(family.sampler, clip=settings.clip_x_0)
        if family.spacing not in SPACINGS:
            raise ValueError(f"unknown spacing {family.spacing!r} in --samplers {words}; known: {', '.join(SPACINGS)}")
    check_own_folder(settings.out, settings.run)
    wanted_factors(settings.cells)
    return settings


def chains(settings: SamplerSettings, num_steps: int) -> list[Chain]:
    """The chains of a cell of T = num_steps: longest first, so that what all are compared with comes first.

    Spacings that visit every step are the same chain, and drawn once.
    """
    by_name = {}
    for steps in sorted(set(settings.steps), reverse=True):
        for family in map(Family.named, settings.samplers):
            if steps <= num_steps and not (family.sampler == "dpm_solver" and steps > settings.dpm_solver_up_to):
                chain = Chain(family.sampler, steps, "uniform" if steps == num_steps else family.spacing)
                by_name[chain.name] = chain
    return list(by_name.values())


def encoding_chain(settings: SamplerSettings, num_steps: int) -> Chain:
    """The chain that test examples are encoded and decoded by: the longest that a cell of T = num_steps has."""
    return Chain("ddim", max(steps for steps in settings.steps if steps <= num_steps))
