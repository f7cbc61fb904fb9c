"""One cell in a process of its own: every chain's samples of a trained network, scored; results come back as files.

Run as `python -m studies.harness.samplers.cell OUT CELL_ID`.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

from backends import load_backend
from backends.checkpoints import load_network
from studies.datasets import Dataset, load_dataset
from studies.harness import store
from studies.harness.cells import Cell, cell_process
from studies.harness.process import print_progress, run_in_process
from studies.harness.samplers.settings import SamplerSettings, chains
from studies.harness.sampling import TrainedModel, draw_samples, score
from studies.harness.settings import StudySettings, read_recorded, read_settings
from studies.harness.store import Row, row

METRICS = ("frechet", "frechet_features", "sliced_w2", "precision", "recall")
STREAM = "compare_samplers"
"""All chains share one stream of noise, so that they differ by the sampler alone."""


def load_model(cell: Cell, settings: SamplerSettings, trained: StudySettings, dataset: Dataset) -> TrainedModel:
    """The cell's network as its run, of the settings `trained`, left it, with its process."""
    folder = store.cell_folder(settings.run, cell.id)
    process = cell_process(cell, trained, dataset, folder)
    weights, network_settings = load_network(
        folder / store.CHECKPOINT, trained.network(dataset.shape, process.learns_variance)
    )
    backend, execution = load_backend(cell.backend), replace(trained.execution(cell.dtype), device=settings.device)
    network = backend.make_network(network_settings, weights, execution)
    return TrainedModel(backend, network, process, execution, dataset.shape, cell.seed)


def run_cell(out: Path, cell: Cell) -> None:
    """Samples and scores the cell; rows.csv comes last and marks it finished."""
    settings = read_recorded(out, SamplerSettings)
    trained = read_settings(settings.run)
    dataset = load_dataset(trained.dataset, trained.test_examples)
    model = load_model(cell, settings, trained, dataset)
    todo = chains(settings, model.process.num_steps)
    total, done = sum(chain.steps for chain in todo), 0
    rows: list[Row] = []
    arrays = {}
    for chain in todo:
        print_progress("sample", done, total)
        begun = time.perf_counter()
        samples = draw_samples(model, chain, settings.samples, clip=settings.clip_x_0, stream=STREAM).samples
        rows.append(row("sample_seconds", time.perf_counter() - begun, "s", sampler=chain.name))
        rows += score(dataset, chain.name, samples, METRICS)
        arrays[chain.name] = samples
        done += chain.steps
    folder = store.cell_folder(out, cell.id)
    store.write_arrays(folder / "samples.npz", arrays)
    description = model.backend.describe(model.execution)
    store.write_json(folder / "cell.json", {"factors": asdict(cell), "description": description})
    store.write_rows(folder / store.ROWS, [{**asdict(cell), **one} for one in rows])
    (folder / store.FAILURE).unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit(run_in_process(run_cell))
