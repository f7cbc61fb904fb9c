"""The study: the cells of the run that can be sampled, each in its own process, then the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backends import check_backend
from studies.cell.model import check_models
from studies.datasets import Dataset
from studies.plan.command import to_json
from studies.plan.machine import check_device, default_jobs
from studies.plan.schedules import schedule_of
from studies.plan.settings import StudySettings, read_settings
from studies.reporting.terminal import folded, terminal_width
from studies.run.environment import record_environment
from studies.run.executor import LocalProcesses
from studies.run.remeasure import measure_and_report
from studies.samplers.settings import SamplerSettings, chains
from studies.store import files
from studies.store.cells import Cell
from studies.store.data import dataset_of, record_data
from studies.store.files import asked_cells, is_trained
from studies.store.measured import check_measured

STUDY = "compare_samplers"
STAGES = {"sample": (0.0, 1.0)}


def sampled_cells(settings: SamplerSettings) -> list[Cell]:
    """The run's cells asked for that have a network, seeds outermost; raises in one line where none can be sampled."""
    trained = read_settings(settings.run)
    ready = [cell for cell in asked_cells(settings.run, settings.cells) if is_trained(settings.run, cell)]
    if not ready:
        raise ValueError(f"{settings.run} has no finished cell to sample; run its study to the end first")
    dataset = dataset_of(settings.run, trained.dataset, trained.test_examples, trained.scale)
    check_interpolations(settings, dataset)
    for cell in ready:
        check_backend(cell.backend)
        if not chains(settings, num_steps(cell, trained)):
            raise ValueError(
                f"no chain is left of --samplers and --steps for {cell.id}, whose T is {num_steps(cell, trained)}"
            )
    check_models(settings.run, ready, trained, dataset)
    check_device((cell.backend for cell in ready), settings.device)
    return sorted(ready, key=lambda cell: cell.seed)


def check_interpolations(settings: SamplerSettings, dataset: Dataset) -> None:
    """ValueError where the dataset has not the test examples, or the dims, that --interpolations take."""
    pairs = settings.interpolations
    if 2 * pairs > len(dataset.test):
        raise ValueError(
            f"--interpolations {pairs} takes {2 * pairs} test examples, and {dataset.name} has {len(dataset.test)}"
        )
    if pairs and dataset.dims < 2:
        raise ValueError(
            f"--interpolations takes data of at least 2 values an example, for a circle between two, and {dataset.name}"
            " has 1"
        )


def num_steps(cell: Cell, trained: StudySettings) -> int:
    """T of the cell's chain."""
    return schedule_of(cell.schedule, trained.num_steps).num_steps


def run_and_report(settings: SamplerSettings, cells: Sequence[Cell], argv: Sequence[str]) -> int:
    """Runs what is not finished yet and writes the report; returns the exit status: 0, or 1 where a cell failed."""
    out, jobs = settings.out, settings.jobs or default_jobs(settings.device, settings.threads)
    check_measured(out, settings.run)
    files.open_run(out, to_json(settings), STUDY)
    record_environment(out, STUDY, argv)
    if settings.interpolations:  # real examples, beside what is between them in the report
        trained = read_settings(settings.run)
        dataset = dataset_of(settings.run, trained.dataset, trained.test_examples, trained.scale)
        record_data(out, trained.dataset, dataset)
    print(folded(announcement(settings, cells, jobs), terminal_width()), flush=True)
    executor = LocalProcesses("studies.samplers.cell", settings.threads)
    return measure_and_report(executor, out, cells, jobs, STAGES, _report)


def _report(out: Path) -> tuple[str, Path]:
    from studies.samplers.report import make_report  # matplotlib, only needed now

    return make_report(out)


def announcement(settings: SamplerSettings, cells: Sequence[Cell], jobs: int) -> str:
    """What the study will do, and what it leaves out."""
    trained = read_settings(settings.run)
    todo = {cell: chains(settings, num_steps(cell, trained)) for cell in cells}
    most = max(todo.values(), key=len)
    lines = [
        f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'} of {settings.run}, {jobs} side by side:"
        f" {settings.samples} samples of each by"
        f" {len(most)} {'chain' if len(most) == 1 else 'chains'} of up to {most[0].steps} steps",
        f"  {sum(chain.steps for chain in most)} network evaluations of {settings.samples} samples a cell",
        f"  results in {settings.out}; stop at any time, the same command goes on from there",
    ]
    left_out = [cell.id for cell in asked_cells(settings.run, settings.cells) if not is_trained(settings.run, cell)]
    if left_out:
        lines.append(f"  left out, not finished or without a network: {', '.join(left_out)}")
    return "\n".join(lines)
