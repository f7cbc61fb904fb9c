"""TensorBoard event files of a study, one folder a cell, the same whichever framework trains it.

The study's own process writes them from what the cells report: tensorboardX would import PyTorch, where it is
installed, into the process of a Keras cell. A cell's file is a function of its rows: it is begun afresh whenever the
cell starts, and a cell that goes on from a saved state first reports the rows it has, so no step is there twice.
"""

from __future__ import annotations

import csv
import importlib.util
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.recipe import TrainingRecipe
from studies.store.cells import Cell
from studies.store.folder import CellFolder, RunFolder

STRIPS = 5  # of the image, ten samples each
TRAINING = {"train_epsilon_mse": "train/epsilon_mse", "train_posterior_kl": "train/posterior_kl"}


def check_tensorboard() -> None:
    """ImportError in one line where event files cannot be written."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise ImportError("--tensorboard needs tensorboardX; pip install 'diffusion-objectives[tensorboard]'")


class EventLog:
    """Writes RUN/tensorboard/CELL_ID; `started`, `progress` and `ended` are as of `watch.Watch`, from any thread.

    Scalars by training step: both losses, the learning rate and the seconds of a step while it trains; at the last step
    the bound, the test MSE and every sample metric with its floor, and an image of the first samples. Entering writes
    the finished cells that have no file yet.
    """

    def __init__(self, run: Path, cells: Sequence[Cell], recipe: TrainingRecipe) -> None:
        check_tensorboard()
        self.run, self.cells, self.recipe = RunFolder(run), cells, recipe
        self.lock = threading.Lock()
        self.writers: dict[str, Any] = {}

    def __enter__(self) -> EventLog:
        for cell in self.cells:
            if self.run.cell(cell.id).rows.is_file() and not self.run.events(cell.id).is_dir():
                self.started(cell)
                with open(self.run.cell(cell.id).rows, newline="") as file:
                    self.progress(cell, {"rows": [cell_row for cell_row in csv.DictReader(file) if cell_row["step"]]})
                self.ended(cell, None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.lock:
            for writer in self.writers.values():
                writer.close()
            self.writers = {}

    def started(self, cell: Cell) -> None:
        from tensorboardX import SummaryWriter

        folder = self.run.events(cell.id)
        shutil.rmtree(folder, ignore_errors=True)
        with self.lock:
            self.writers[cell.id] = SummaryWriter(str(folder), flush_secs=10)

    def progress(self, cell: Cell, news: Mapping[str, Any]) -> None:
        with self.lock:
            writer, steps = self.writers.get(cell.id), set()
            if writer is None:  # closed: the study was interrupted
                return
            for news_row in news.get("rows", ()):
                if news_row.get("t"):  # a value at one t of the chain: no scalar
                    continue
                step = int(float(news_row["step"]))
                steps.add(step)
                writer.add_scalar(tag_of(news_row), float(news_row["value"]), step)
            for step in sorted(steps):
                writer.add_scalar("train/learning_rate", self.recipe.learning_rate_at(step), step)

    def ended(self, cell: Cell, failure: str | None) -> None:
        with self.lock:
            writer, folder = self.writers.pop(cell.id, None), self.run.cell(cell.id)
            if writer is None:
                return
            if failure is None:
                with open(folder.rows, newline="") as file:
                    final = [
                        final_row for final_row in csv.DictReader(file) if not (final_row["step"] or final_row["t"])
                    ]
                for final_row in final:
                    writer.add_scalar(tag_of(final_row), float(final_row["value"]), self.recipe.num_steps)
                for name, image in sample_images(self.run, folder):
                    writer.add_image(f"samples/{name}", image, self.recipe.num_steps, dataformats="HWC")
            writer.close()

    def refresh(self) -> None:
        """Nothing: the writers flush themselves every ten seconds."""


def tag_of(row: Mapping[str, Any]) -> str:
    """Where TensorBoard shows a row: "train/epsilon_mse", "test/bound", "ancestral-100/frechet"."""
    metric = str(row["metric"])
    if row.get("sampler"):
        return f"{row['sampler']}/{metric}"
    if metric.endswith("seconds"):
        return f"time/{metric}"
    return TRAINING.get(metric, f"test/{metric}")


def sample_images(run: RunFolder, folder: CellFolder) -> Iterable[tuple[str, NDArray[np.uint8]]]:
    """Name and picture (H, W, 3) of the first samples of each chain, real data above; none for a cell without any."""
    from studies.reporting.pictures import real_and_made
    from studies.reporting.plotting import INK, pixels
    from studies.reporting.strips import across

    if not folder.samples.is_file():
        return
    with np.load(folder.samples) as stored, np.load(run.reference) as real:
        for name in stored.files:
            samples = stored[name]
            if "/" in name or not np.all(np.isfinite(samples)):
                continue
            of_strip = across(samples.shape[1:])
            strips = 1 if samples.ndim == 2 else max(1, min(STRIPS, len(samples) // of_strip))
            parts = [samples] if strips == 1 else np.split(samples[: strips * of_strip], strips)
            labelled = [(f"samples from {i * len(part) + 1}", INK, part) for i, part in enumerate(parts)]
            yield name, pixels(real_and_made(name, real["test"], labelled)[0])
