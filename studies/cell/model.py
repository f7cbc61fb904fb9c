"""A cell's process and network as a study works with them: made from settings, or as a finished run left them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from backends import load_backend
from backends.checkpoints import load_network, load_network_settings
from backends.interface import PlacedModel
from core.reverse import ReverseProcess, reverse_process
from core.schedules import Schedule
from studies.datasets import Dataset
from studies.plan.schedules import is_learned, read_schedule, schedule_of
from studies.plan.settings import StudySettings
from studies.store.cells import Cell
from studies.store.folder import RunFolder


def starting_process(cell: Cell, settings: StudySettings, dataset: Dataset) -> ReverseProcess:
    """The reverse process that the cell's training starts with; where it learns a schedule, it ends on another."""
    return _process(schedule_of(cell.schedule, settings.num_steps), cell, settings, dataset)


def trained_process(cell: Cell, settings: StudySettings, dataset: Dataset, folder: Path) -> ReverseProcess:
    """The reverse process of the cell's trained network; a learned schedule is read from the cell's `folder`."""
    schedule = schedule_of(cell.schedule, settings.num_steps)
    if is_learned(cell.schedule):
        schedule = read_schedule(folder, schedule)
    return _process(schedule, cell, settings, dataset)


def _process(schedule: Schedule, cell: Cell, settings: StudySettings, dataset: Dataset) -> ReverseProcess:
    return reverse_process(
        schedule,
        cell.prediction,
        cell.variance,
        first_variance=settings.first_variance,
        levels=dataset.levels,
    )


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network with the process it was trained on, and the seed whose noise its samples are drawn from."""

    placed: PlacedModel
    shape: tuple[int, ...]
    seed: int

    @property
    def process(self) -> ReverseProcess:
        return self.placed.process


def check_models(run: Path, cells: Iterable[Cell], settings: StudySettings, dataset: Dataset) -> None:
    """ValueError for the first of a run's trained cells whose checkpoint or schedule is another's; reads no weights."""
    for cell in cells:
        folder = RunFolder(run).cell(cell.id)
        process = trained_process(cell, settings, dataset, folder.path)
        load_network_settings(folder.checkpoint, settings.network(dataset.shape, process.learns_variance))


def load_model(run: Path, cell: Cell, settings: StudySettings, dataset: Dataset, device: str = "auto") -> TrainedModel:
    """The cell's network as its run, of `settings`, left it, with its process."""
    folder = RunFolder(run).cell(cell.id)
    process = trained_process(cell, settings, dataset, folder.path)
    weights, network_settings = load_network(
        folder.checkpoint, settings.network(dataset.shape, process.learns_variance)
    )
    backend, execution = load_backend(cell.backend), replace(settings.execution(cell.dtype), device=device)
    network = backend.make_network(network_settings, weights, execution)
    return TrainedModel(backend.place(network, process, execution), dataset.shape, cell.seed)
