"""The cells of a study: one training run for every combination of its factors, checked before anything starts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

from backends import capabilities, check_backend, installed_backends
from core.learned_schedule import check_learnable
from core.objectives import check_objective
from core.reverse import reverse_process
from core.samplers import make_sampler
from studies.datasets import dataset_label
from studies.plan.machine import check_device
from studies.plan.schedules import check_different, learned_schedule, schedule_of
from studies.plan.settings import StudySettings
from studies.store.cells import FACTORS, Cell

MOST_CELLS = 100_000
"""Beyond what any study runs; listing more takes minutes."""
LONGEST_NAME = 255
"""What file systems allow."""


def grid(settings: StudySettings) -> list[Cell]:
    """Every combination of the settings' factors, seeds outermost, so that an interrupted study has whole seeds.

    Raises a ValueError or ImportError in one line for a name or a combination that cannot run.
    """
    if not settings.backends and not installed_backends():
        raise ImportError("no backend is installed; pip install 'diffusion-objectives[torch]', or [keras], or both")
    values: dict[str, Iterable[Any]] = {factor.name: getattr(settings, factor.setting) for factor in FACTORS}
    values["dataset"] = (dataset_label(settings.dataset),)
    values["backend"] = settings.backends or installed_backends()
    values["seed"] = range(settings.seeds)
    count = math.prod(len(list(of_factor)) for of_factor in values.values())
    if count > MOST_CELLS:
        raise ValueError(f"a study has at most {MOST_CELLS:,} cells, got {count:,}; name fewer of its factors or seeds")
    cells = [Cell(**dict(zip(values, combination, strict=True))) for combination in itertools.product(*values.values())]
    cells.sort(key=lambda cell: cell.seed)
    if not cells:
        raise ValueError("the study has no cells; name at least one objective, prediction, variance and schedule")
    check_cells(cells, settings)
    return cells


def check_cells(cells: list[Cell], settings: StudySettings) -> None:
    """Raises for the first cell that cannot run, before any of them has started."""
    for cell in cells:
        if len(cell.id.encode()) > LONGEST_NAME:
            raise ValueError(
                f"a cell's folder has a name of at most {LONGEST_NAME} bytes, got {len(cell.id.encode())} of "
                f"{cell.id[:20]}...; give the data file a shorter name"
            )
        capabilities(cell.backend).check_dtype(cell.dtype)
        check_backend(cell.backend)
        check_objective(cell.objective, cell.variance)
        if learned_schedule(cell.schedule, settings.num_steps, None) is not None:
            check_learnable(cell.objective)
    check_different(dict.fromkeys(cell.schedule for cell in cells), settings.num_steps)
    for schedule, prediction, variance in {(cell.schedule, cell.prediction, cell.variance) for cell in cells}:
        reverse_process(
            schedule_of(schedule, settings.num_steps), prediction, variance, first_variance=settings.first_variance
        )
    make_sampler(settings.sampler, clip=settings.clip_x_0)
    check_device((cell.backend for cell in cells), settings.device)
