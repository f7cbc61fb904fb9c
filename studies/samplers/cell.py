"""One cell in a process of its own: every chain's samples of a trained network, scored; results come back as files.

Every chain is a stage: its rows are there when it ends, and its samples whatever becomes of the next.

Run as `python -m studies.samplers.cell OUT CELL_ID...`.
"""

from __future__ import annotations

import time
from pathlib import Path

from backends import load_backend
from studies.cell.model import load_model
from studies.cell.sampling import draw_samples, score
from studies.plan.command import read_recorded
from studies.plan.settings import read_settings
from studies.run.process import Report, one_after_another, run_in_process
from studies.samplers.interpolation import interpolate
from studies.samplers.settings import SamplerSettings, chains, encoding_chain
from studies.store import files
from studies.store.cell_rows import CellRows
from studies.store.cells import Cell
from studies.store.data import dataset_of
from studies.store.files import row
from studies.store.folder import RunFolder
from studies.store.measured import record_measured

METRICS = ("frechet", "frechet_features", "sliced_w2", "precision", "recall")
STREAM = "compare_samplers"
"""All chains share one stream of noise, so that they differ by the sampler alone."""


def run_cell(out: Path, cell: Cell, report: Report) -> None:
    """Samples and scores the cell; rows.csv comes last and marks it finished."""
    settings = read_recorded(out, SamplerSettings)
    trained = read_settings(settings.run)
    dataset = dataset_of(settings.run, trained.dataset, trained.test_examples, trained.scale)
    record_measured(out, settings.run, cell.id)
    model = load_model(settings.run, cell, trained, dataset, settings.device)
    todo = chains(settings, model.process.num_steps)
    total, done = sum(chain.steps for chain in todo), 0
    folder = RunFolder(out).cell(cell.id)
    rows, arrays = CellRows(folder, cell), {}
    try:
        for chain in todo:
            report("sample", done, total)
            begun = time.perf_counter()
            samples = draw_samples(model, chain, settings.samples, clip=settings.clip_x_0, stream=STREAM).samples
            spent = row("sample_seconds", time.perf_counter() - begun, "s", sampler=chain.name)
            arrays[chain.name] = samples
            rows.add(chain.name, [spent, *score(dataset, chain.name, samples, METRICS)])
            done += chain.steps
    finally:
        files.write_arrays(folder.samples, arrays)
    if settings.interpolations:
        ends = dataset.test[: 2 * settings.interpolations].reshape(settings.interpolations, 2, *dataset.shape)
        between = interpolate(model, encoding_chain(settings, model.process.num_steps), ends)
        files.write_arrays(folder.interpolations, between.as_arrays())
    rows.finish(load_backend(cell.backend).describe(model.placed.execution))


if __name__ == "__main__":
    raise SystemExit(run_in_process(one_after_another(run_cell)))
