"""What a study of the bound's estimators is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from studies.plan.command import Flag, check_at_least, check_at_most, check_own_folder
from studies.plan.fields import Names
from studies.plan.flags import parse_flags


@dataclass(frozen=True)
class EstimatorSettings:
    """Every setting of a study of estimators."""

    preset: Annotated[
        str,
        Names(PRESETS),
        Flag(
            help="starting values: 'default', or 'smoke', which makes 40 estimates for at most 48 test examples, and"
            " where no run is given trains its two models for 60 steps"
        ),
    ] = "default"
    run: Annotated[
        Path | None,
        Flag(help="a finished run whose models are evaluated; none given: trains two on digits first, in OUT/models"),
    ] = None
    out: Annotated[Path, Flag(help="the results' folder; the same command with the same folder continues it")] = Path(
        "runs/estimators"
    )
    cells: Annotated[
        tuple[str, ...],
        Flag(help="only these cells of the run, as in objective=posterior_kl backend=torch seed=0; none given: all"),
    ] = ()
    examples: Annotated[
        tuple[int, ...], Flag(help="numbers of test examples, the first so many of them; 0: the whole test set")
    ] = (64, 256, 0)
    noise_draws: Annotated[int, Flag(help="noise draws tabulated for each example and step")] = 8
    repeats: Annotated[int, Flag(help="estimates from the table, for scatter and coverage")] = 1000
    network_repeats: Annotated[int, Flag(help="estimates with fresh network evaluations; 0: none")] = 60
    train_steps: Annotated[int, Flag(help="optimiser steps of the models trained where no run is given")] = 2000
    device: Annotated[str, Flag(help="auto, cpu, cuda, mps")] = "auto"
    jobs: Annotated[int, Flag(help="cells that run side by side; 0: one a core on a CPU, one on a GPU")] = 0
    threads: Annotated[int, Flag(help="threads of each cell on a CPU")] = 1

    @property
    def models(self) -> Path:
        """The folder of the run whose models are evaluated."""
        return self.run or self.out / "models"


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "smoke": {
        "out": Path("runs/smoke-estimators"),
        "examples": (16, 48),
        "noise_draws": 4,
        "repeats": 40,
        "network_repeats": 4,
        "train_steps": 60,
    },
}
"""Changes to the default settings by name; the models trained where no run is given are of the same preset."""

GROUPS = {"run": "preset", "comparison": "examples", "execution": "device"}
"""The headings of --help, and the first setting under each."""


def parse_estimator_settings(argv: Sequence[str], description: str) -> EstimatorSettings:
    """The settings of a command line, checked; a ValueError in one line for a value that no run could use."""
    settings = parse_flags(EstimatorSettings, argv, description, GROUPS, presets=PRESETS)
    at_least = {"noise_draws": 2, "repeats": 20, "network_repeats": 0, "train_steps": 1, "jobs": 0, "threads": 1}
    check_at_least(settings, at_least)
    check_at_most(settings)
    if settings.network_repeats == 1:
        raise ValueError("--network-repeats is 0 or at least 2, got 1: one estimate has no scatter")
    wrong = [count for count in settings.examples if count < 2 and count != 0]
    if wrong or not settings.examples:
        raise ValueError(f"--examples are numbers of at least 2, or 0 for all, got {wrong[0] if wrong else 'none'}")
    check_own_folder(settings.out, settings.run)
    if settings.run is None and settings.cells:
        raise ValueError("--cells chooses among the cells of a run; name it with --run")
    return settings


def example_counts(settings: EstimatorSettings, available: int) -> list[int]:
    """The numbers of test examples asked for that the test set has, smallest first."""
    return sorted({count or available for count in settings.examples if count <= available})
