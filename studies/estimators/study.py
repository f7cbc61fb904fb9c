"""The study: the models, trained first where no run is given; each compared in its own process; then the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backends import check_backend, installed_backends
from studies.cell.model import check_models
from studies.datasets import load_dataset
from studies.estimators.settings import EstimatorSettings, example_counts
from studies.plan.command import to_json
from studies.plan.grid import check_cells
from studies.plan.machine import check_device, default_jobs
from studies.plan.settings import PRESETS, StudySettings, read_settings
from studies.reporting.terminal import folded, terminal_width
from studies.run.environment import record_environment
from studies.run.executor import LocalProcesses
from studies.run.remeasure import measure_and_report
from studies.run.runner import run_study
from studies.store import files
from studies.store.cells import Cell
from studies.store.data import dataset_of
from studies.store.files import asked_cells, is_trained
from studies.store.measured import check_measured

STUDY = "compare_estimators"
STAGES = {"tabulate": (0.0, 0.4), "compare": (0.4, 1.0)}
MODELS = (("epsilon_mse", "beta_tilde"), ("hybrid", "learned_range"))
"""Objective and reverse variance of the models trained where no run is given."""


def run_and_report(settings: EstimatorSettings, argv: Sequence[str]) -> int:
    """Runs what is not finished yet and writes the report; returns the exit status: 0, or 1 where a cell failed."""
    out = settings.out
    if settings.run is None:  # an error now, before anything is written
        check_cells(*_models(settings))
    else:
        finished_cells(settings)
    check_measured(out, settings.models)
    files.open_run(out, to_json(settings), STUDY)
    record_environment(out, STUDY, argv)
    if settings.run is None:
        _train_models(settings, argv)
    cells = finished_cells(settings)
    jobs = settings.jobs or default_jobs(settings.device, settings.threads)
    said = announcement(settings, cells, jobs, test_size(settings))
    print(folded(said, terminal_width()), flush=True)
    executor = LocalProcesses("studies.estimators.cell", settings.threads)
    return measure_and_report(executor, out, cells, jobs, STAGES, _report)


def _report(out: Path) -> tuple[str, Path]:
    from studies.estimators.report import make_report  # matplotlib, only needed now

    return make_report(out)


def finished_cells(settings: EstimatorSettings) -> list[Cell]:
    """The run's cells asked for that have a network; raises in one line where there are none."""
    trained = read_settings(settings.models)
    dataset = dataset_of(settings.models, trained.dataset, trained.test_examples, trained.scale)
    available = len(dataset.test)
    asked = asked_cells(settings.models, settings.cells)
    cells = [cell for cell in asked if is_trained(settings.models, cell)]
    if not cells:
        raise ValueError(f"{settings.models} has no finished cell with a network; run its study to the end first")
    for cell in cells:
        check_backend(cell.backend)
    if not example_counts(settings, available):
        raise ValueError(f"--examples are at most {available} for this run's test set, got {min(settings.examples)}")
    check_models(settings.models, cells, trained, dataset)
    check_device((cell.backend for cell in cells), settings.device)
    return cells


def test_size(settings: EstimatorSettings) -> int:
    """The number of the run's test examples."""
    trained = read_settings(settings.models)
    return len(dataset_of(settings.models, trained.dataset, trained.test_examples, trained.scale).test)


def _models(settings: EstimatorSettings) -> tuple[list[Cell], StudySettings]:
    """Two small models on digits, in the first backend installed, and the settings that they are trained with."""
    backends = installed_backends()
    if not backends:
        raise ImportError("no backend is installed; pip install 'diffusion-objectives[torch]', or [keras], or both")
    models = StudySettings(**PRESETS[settings.preset]).replace(
        preset=settings.preset,
        out=settings.models,
        objectives=tuple(objective for objective, _ in MODELS),
        variances=tuple(variance for _, variance in MODELS),
        backends=(backends[0],),
        seeds=1,
        train_steps=settings.train_steps,
        samples=20,
        sample_steps=10,
        full_samples=0,
        device=settings.device,
        jobs=settings.jobs,
        threads=settings.threads,
    )
    cells = [Cell("digits", "linear", "epsilon", variance, objective, backends[0], 0) for objective, variance in MODELS]
    return cells, models


def _train_models(settings: EstimatorSettings, argv: Sequence[str]) -> None:
    """Trains the models; nothing is done where they are finished."""
    cells, models = _models(settings)
    print(f"training {len(cells)} models on digits, {models.train_steps} steps each, in {models.out}", flush=True)
    outcome = run_study(STUDY, models, cells, argv, load_dataset(models.dataset, models.test_examples, models.scale))
    for cell_id, reason in outcome.failed.items():
        print(f"failed: {cell_id}: {reason}")


def announcement(settings: EstimatorSettings, cells: Sequence[Cell], jobs: int, available: int) -> str:
    """What the study will do, and what it leaves out."""
    lines = [
        f"{len(cells)} models of {settings.models}, {jobs} side by side: terms with {settings.noise_draws} noise draws"
        f" each, then the estimators on {', '.join(map(str, example_counts(settings, available)))} test examples",
        f"  {settings.repeats} estimates from the table and {settings.network_repeats} with the network for each",
        f"  results in {settings.out}; stop at any time, the same command goes on from there",
    ]
    more = [str(count) for count in settings.examples if count > available]
    if more:
        lines.append(f"  left out, more examples than the {available} of the test set: {', '.join(more)}")
    return "\n".join(lines)
