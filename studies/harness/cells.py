"""The cells of a study: one training run for every combination of its factors, checked before anything starts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from backends import check_backend, installed_backends
from core.learned_schedule import check_learnable
from core.objectives import check_objective
from core.reverse import ReverseProcess, reverse_process
from core.samplers import make_sampler
from studies.datasets import Dataset, dataset_label
from studies.harness.schedules import is_learned, learned_schedule, read_schedule, schedule_of
from studies.harness.settings import StudySettings
from studies.harness.store import LATER_FACTORS

FACTORS = ("dataset", "schedule", "prediction", "variance", "objective", "timesteps", "dtype", "backend", "seed")


@dataclass(frozen=True)
class Cell:
    """One training run: a value of every factor."""

    dataset: str
    schedule: str
    prediction: str
    variance: str
    objective: str
    backend: str
    seed: int
    timesteps: str = LATER_FACTORS["timesteps"]
    dtype: str = LATER_FACTORS["dtype"]

    @property
    def id(self) -> str:
        """The name of the cell's folder; of LATER_FACTORS it has those with another value."""
        named = [name for name in FACTORS if getattr(self, name) != LATER_FACTORS.get(name)]
        return "-".join(str(getattr(self, name)).replace(":", "_") for name in named)


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
        check_objective(cell.objective, cell.variance)
        if learned_schedule(cell.schedule, settings.num_steps, None) is not None:
            check_learnable(cell.objective)
    for schedule, prediction, variance in {(cell.schedule, cell.prediction, cell.variance) for cell in cells}:
        reverse_process(
            schedule_of(schedule, settings.num_steps), prediction, variance, first_variance=settings.first_variance
        )
    make_sampler(settings.sampler, clip=settings.clip_x_0)


def cell_process(cell: Cell, settings: StudySettings, dataset: Dataset, trained: Path | None = None) -> ReverseProcess:
    """The reverse process that the cell trains; given its folder once `trained`, with the schedule it has learned."""
    schedule = schedule_of(cell.schedule, settings.num_steps)
    if trained is not None and is_learned(cell.schedule):
        schedule = read_schedule(trained, schedule)
    return reverse_process(
        schedule,
        cell.prediction,
        cell.variance,
        first_variance=settings.first_variance,
        levels=dataset.levels,
    )
