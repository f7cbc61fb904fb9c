"""A group of cells, of one or many: trained as one program, then measured and sampled one after another.

Cells of a group differ in objective and seed alone. Each has its folder, progress, rows and saved state, whether it
is alone or not. What goes wrong with one cell's files or measurements is its failure alone; what goes wrong in the
program is that of all its cells.

A cell is its stages: its training, then `measurements`. What a stage came to is in the cell's folder when it ends, and
stays there whatever becomes of the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from backends import load_backend
from backends.checkpoints import save_network
from backends.networks import parameter_count
from studies.cell.likelihood import likelihood
from studies.cell.measured import measured
from studies.cell.model import TrainedModel, starting_process, trained_process
from studies.cell.record import CellContext, Record, Trained
from studies.cell.sampling import draw_samples, score
from studies.cell.training import train
from studies.datasets import Dataset
from studies.metrics.evaluation import LEAST
from studies.plan.settings import StudySettings, read_settings
from studies.run.process import ENDED, Report, failure_noted
from studies.store import files
from studies.store.cell_rows import CellRows
from studies.store.cells import Cell
from studies.store.data import dataset_of
from studies.store.files import Row
from studies.store.folder import RunFolder
from studies.store.sampler_chains import Chain

SAMPLE_METRICS = (
    "frechet",
    "frechet_features",
    "sliced_w2",
    "mmd2_1",
    "precision",
    "recall",
    "coverage",
    "memorisation",
)


def run_recorded(run: Path, cells: Sequence[Cell], report: Report) -> None:
    """`run_group` with the settings recorded in the run's folder."""
    run_group(run, cells, read_settings(run), report)


def run_group(run: Path, cells: Sequence[Cell], settings: StudySettings, report: Report) -> None:
    """Runs the cells and writes their folders; `report` is told the `cell` too, and when one has ended."""
    started = time.perf_counter()
    dataset = dataset_of(run, settings.dataset, settings.test_examples, settings.scale)
    records: list[Record] = []
    for cell in cells:
        with failure_noted([RunFolder(run).cell(cell.id)]):
            records.append(Record(make_context(run, cell, settings, dataset, partial(report, cell=cell.id))))
    trainings: list[Trained] = []
    with failure_noted([record.context.folder for record in records]):
        trainings = train(records, started)
    to_finish: list[tuple[CellContext, Trained, CellRows]] = []
    for record, trained in zip(records, trainings, strict=False):  # none where training failed
        with failure_noted([record.context.folder]):
            to_finish.append((record.context, trained, keep_training(record.context, trained)))
    for context, trained, rows in to_finish:
        with failure_noted([context.folder]):
            finish_cell(context, trained, rows)
        context.report(ENDED, 1, 1)


def run_cell(run: Path, cell: Cell, settings: StudySettings, report: Report) -> None:
    """Runs one cell whose failure is raised, not noted; rows.csv comes last and marks it finished."""
    started = time.perf_counter()
    context = make_context(
        run, cell, settings, dataset_of(run, settings.dataset, settings.test_examples, settings.scale), report
    )
    (trained,) = train([Record(context)], started)
    finish_cell(context, trained, keep_training(context, trained))


def make_context(run: Path, cell: Cell, settings: StudySettings, dataset: Dataset, report: Report) -> CellContext:
    folder = RunFolder(run).cell(cell.id)
    folder.path.mkdir(parents=True, exist_ok=True)
    start, backend = starting_process(cell, settings, dataset), load_backend(cell.backend)
    return CellContext(cell, settings, dataset, start, backend, folder, report)


def keep_training(context: CellContext, trained: Trained) -> CellRows:
    """Writes the trained network and the rows of training, the first of the cell's."""
    if trained.weights is not None:
        save_network(context.folder.checkpoint, trained.weights, context.network, cell_metadata(context))
    rows = CellRows(context.folder, context.cell)
    rows.add("train", [measured("parameters", parameter_count(context.network)), *trained.rows])
    return rows


def finish_cell(context: CellContext, trained: Trained, rows: CellRows) -> None:
    """Measures a trained cell, each stage's rows added to `rows` when it ends; rows.csv last."""
    if trained.weights is not None:
        process = trained_process(context.cell, context.settings, context.dataset, context.folder.path)
        network = context.backend.make_network(context.network, trained.weights, context.execution)
        placed = context.backend.place(network, process, context.execution)
        model = TrainedModel(placed, context.dataset.shape, context.cell.seed)
        for stage, measure in measurements(context, model).items():
            rows.add(stage, measure())
    description = context.backend.describe(context.execution)
    if trained.together > 1:
        description["training"] = f"one program of {trained.together} cells; each one's seconds are a share of its"
    rows.finish(description)


def measurements(context: CellContext, model: TrainedModel) -> dict[str, Callable[[], list[Row]]]:
    """The stages that follow training, in order; each needs what the ones before it wrote, and nothing else of them."""
    return {
        **likelihood(model, context.dataset, context.settings, context.report),
        "sample": partial(sample, context, model),
        "score": partial(score_samples, context, model.process.num_steps),
    }


def cell_metadata(context: CellContext) -> dict[str, str]:
    """What a checkpoint says of itself beside its network: enough to rebuild its process."""
    settings = context.settings
    return {
        **{key: str(value) for key, value in asdict(context.cell).items()},
        "num_steps": str(settings.num_steps),
        "first_variance": settings.first_variance,
        "levels": str(context.dataset.levels),
    }


def _chains(settings: StudySettings, num_steps: int) -> dict[Chain, int]:
    """The respaced chain and, where it is asked for, the whole one, with how many samples each draws."""
    chains = {Chain(settings.sampler, min(settings.sample_steps, num_steps)): settings.samples}
    if settings.full_samples:
        chains.setdefault(Chain("ancestral", num_steps), settings.full_samples)
    return chains


def sample(context: CellContext, model: TrainedModel) -> list[Row]:
    """Draws and writes samples by the respaced chain and by the whole one, from noise shared by the seed's cells."""
    settings = context.settings
    chains = _chains(settings, model.process.num_steps)
    begun = time.perf_counter()
    arrays: dict[str, np.ndarray] = {}
    for i, (chain, count) in enumerate(chains.items()):
        context.report("sample", i, len(chains))
        drawn = draw_samples(model, chain, count, clip=settings.clip_x_0, stream=chain.name)
        arrays |= {
            chain.name: drawn.samples,
            f"{chain.name}/trajectory": drawn.guesses,
            f"{chain.name}/trajectory_steps": drawn.guess_steps,
        }
    seconds = time.perf_counter() - begun
    files.write_arrays(context.folder.samples, arrays)
    return [measured("sample_seconds", seconds)]


def score_samples(context: CellContext, num_steps: int) -> list[Row]:
    """The scores of the samples that were written, of every chain that drew enough of them."""
    context.report("score", 0, 1)
    rows: list[Row] = []
    with np.load(context.folder.samples, allow_pickle=False) as samples:
        for chain, count in _chains(context.settings, num_steps).items():
            if count >= LEAST:
                rows += score(context.dataset, chain.name, samples[chain.name], SAMPLE_METRICS)
    return rows
