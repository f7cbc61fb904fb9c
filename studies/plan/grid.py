"""The cells of a study: one training run for every combination of its factors, checked before anything starts."""

from __future__ import annotations

import itertools

from backends import check_backend, installed_backends
from core.learned_schedule import check_learnable
from core.objectives import check_objective
from core.reverse import reverse_process
from core.samplers import make_sampler
from core.variances import check_variance
from studies.datasets import dataset_label
from studies.plan.schedules import learned_schedule, schedule_of
from studies.plan.settings import StudySettings
from studies.store.cells import Cell


def grid(settings: StudySettings) -> list[Cell]:
    """Every combination of the settings' factors, seeds outermost, so that an interrupted study has whole seeds.

    Raises a ValueError or ImportError in one line for a name or a combination that cannot run.
    """
    if not settings.backends and not installed_backends():
        raise ImportError("no backend is installed; pip install 'diffusion-objectives[torch]', or [keras], or both")
    combinations = itertools.product(
        range(settings.seeds),
        settings.schedules,
        settings.predictions,
        settings.variances,
        settings.objectives,
        settings.timesteps,
        settings.dtypes,
        settings.backends or installed_backends(),
    )
    label = dataset_label(settings.dataset)
    cells = [Cell(label, sch, p, v, o, b, seed, t, d) for seed, sch, p, v, o, t, d, b in combinations]
    if not cells:
        raise ValueError("the study has no cells; name at least one objective, prediction, variance and schedule")
    check_cells(cells, settings)
    return cells


def check_cells(cells: list[Cell], settings: StudySettings) -> None:
    """Raises for the first cell that cannot run, before any of them has started."""
    for cell in cells:
        check_backend(cell.backend)
        check_variance(cell.variance)
        check_objective(cell.objective, cell.variance)
        if learned_schedule(cell.schedule, settings.num_steps, None) is not None:
            check_learnable(cell.objective)
    for schedule, prediction, variance in {(cell.schedule, cell.prediction, cell.variance) for cell in cells}:
        reverse_process(
            schedule_of(schedule, settings.num_steps), prediction, variance, first_variance=settings.first_variance
        )
    make_sampler(settings.sampler, clip=settings.clip_x_0)
