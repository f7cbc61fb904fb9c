"""One cell, in a process of its own: train, likelihood, sample, score; results come back as files.

Run as `python -m studies.harness.cell RUN CELL_ID`; progress goes to standard output as one JSON object a
line. A process a cell, because TensorFlow and JAX take a whole GPU where they can, and a crash in one cell
must not end the others.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends import load_backend
from backends.checkpoints import load_weights, save_network, save_weights
from backends.interface import Backend, Trainer, Weights
from backends.networks import initial_weights, parameter_count
from core.bounds import bits_per_dim
from core.reverse import ReverseProcess
from core.timesteps import SecondMoments
from studies.datasets import Dataset, load_dataset
from studies.harness import store
from studies.harness.cells import Cell, cell_process
from studies.harness.draws import training_draws
from studies.harness.drift import Sketches, as_arrays, sketch, sketched_steps
from studies.harness.likelihood import likelihood
from studies.harness.process import print_progress, run_in_process
from studies.harness.sampling import Chain, TrainedModel, draw_samples, score
from studies.harness.schedules import learned_schedule, write_schedule
from studies.harness.settings import StudySettings, read_settings
from studies.harness.store import Row, row
from studies.metrics.evaluation import LEAST

CURVE_POINTS = 60
SAVE_SECONDS = 60.0
"""How often the training state is saved, so that an interrupted cell goes on from there."""
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

Report = Callable[..., None]


@dataclass(frozen=True, eq=False)
class CellContext:
    """What every stage of a cell works with."""

    cell: Cell
    settings: StudySettings
    dataset: Dataset
    process: ReverseProcess
    backend: Backend
    folder: Path
    report: Report


class Diverged(Exception):
    """A loss is no longer finite; `step` says when it was seen."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the training loss stopped being finite by step {step}")
        self.step = step


def run_cell(run: Path, cell: Cell, settings: StudySettings, report: Report) -> None:
    """Runs the cell and writes its folder; rows.csv comes last and marks it finished."""
    started = time.perf_counter()
    dataset = load_dataset(settings.dataset, settings.test_examples)
    folder = store.cell_folder(run, cell.id)
    folder.mkdir(parents=True, exist_ok=True)
    context = CellContext(
        cell, settings, dataset, cell_process(cell, settings, dataset), load_backend(cell.backend), folder, report
    )
    network_settings = settings.network(dataset.shape, context.process.learns_variance)
    rows: list[Row] = [row("parameters", parameter_count(network_settings), "weights")]
    try:
        trained, weights = train(context, network_settings, started)
        rows += trained
        context = replace(context, process=cell_process(cell, settings, dataset, folder))
        save_network(folder / store.CHECKPOINT, weights, network_settings, cell_metadata(context))
        network = context.backend.make_network(network_settings, weights, settings.execution())
        model = TrainedModel(context.backend, network, context.process, settings.execution(), dataset.shape, cell.seed)
        rows += likelihood(model, dataset, settings, report)
        rows += sample(context, model)
    except Diverged as error:
        rows.append(row("diverged", error.step, "step"))
    execution = settings.execution()
    description = context.backend.describe(execution)
    store.write_json(folder / "cell.json", {"factors": asdict(cell), "description": description})
    store.write_rows(folder / store.ROWS, [{**asdict(cell), **row} for row in rows])
    (folder / "state.safetensors").unlink(missing_ok=True)
    (folder / store.FAILURE).unlink(missing_ok=True)


def cell_metadata(context: CellContext) -> dict[str, str]:
    """What a checkpoint says of itself beside its network: enough to rebuild its process."""
    settings = context.settings
    return {
        **{key: str(value) for key, value in asdict(context.cell).items()},
        "num_steps": str(settings.num_steps),
        "first_variance": settings.first_variance,
        "levels": str(context.dataset.levels),
    }


def train(context: CellContext, network_settings: Any, started: float) -> tuple[list[Row], Weights]:
    """Trains to the end, from the saved state if there is one; returns curve rows and the averaged weights."""
    settings, cell = context.settings, context.cell
    execution = settings.execution()
    weights = initial_weights(network_settings, cell.seed)
    network = context.backend.make_network(network_settings, weights, execution)
    learned = learned_schedule(cell.schedule, settings.num_steps, context.dataset.levels)
    trainer = context.backend.make_trainer(
        network, context.process, cell.objective, settings.recipe(), execution, learned
    )
    rows, moments, sketches, spent = _resume(context, trainer)
    if rows:
        context.report("train", trainer.step_count, settings.train_steps, rows=rows)
    window = max(1, settings.train_steps // CURVE_POINTS)
    handles: list[tuple[NDArray[np.float64], Any]] = []
    to_sketch = sketched_steps(settings.train_steps)
    begun = saved = lap = time.perf_counter()
    timed, startup = 0, 0.0
    for step in range(trainer.step_count + 1, settings.train_steps + 1):
        draws = training_draws(
            context.dataset.train,
            cell.seed,
            step,
            settings.batch_size,
            context.process.num_steps,
            cell.timesteps,
            moments.probabilities(),
        )
        handle = trainer.step(draws)
        handles.append((draws.weight, handle))
        if cell.timesteps == "importance":
            moments = _recorded(moments, cell.objective, draws.t, trainer.losses(handle), step)
        if startup == 0.0:  # the first step waits for compilation
            trainer.losses(handle)
            begun = lap = time.perf_counter()
            startup = begun - started
        else:
            timed += 1
        if step in to_sketch:
            sketches[step] = sketch(trainer.weights(ema=False))
        if step % window == 0 or step == settings.train_steps:
            curve = _curve(context, trainer, handles, step)
            handles = []
            if timed:
                curve.append(row("step_seconds", (time.perf_counter() - lap) / timed, "s", step=step))
            rows += curve
            timed, lap = 0, time.perf_counter()
            context.report("train", step, settings.train_steps, curve[0]["value"], rows=curve)
        if time.perf_counter() - saved > SAVE_SECONDS and not handles:
            saved = time.perf_counter()
            _save(context, trainer, rows, moments, sketches, spent + saved - begun)
    rows.append(row("train_seconds", spent + time.perf_counter() - begun, "s"))
    rows.append(row("startup_seconds", startup, "s"))
    store.write_arrays(context.folder / store.SKETCHES, as_arrays(sketches, parameter_count(network_settings)))
    if learned is not None:
        write_schedule(context.folder, learned.start, trainer.schedule())
    return rows, trainer.weights(ema=True)


def _recorded(
    moments: SecondMoments, objective: str, t: NDArray[np.int64], losses: tuple[NDArray, NDArray], step: int
) -> SecondMoments:
    """The history with the losses of the term that is hard to sample: the KL, unless only the MSE is trained."""
    mse, kl = losses
    loss = mse if objective in ("epsilon_mse", "target_mse") else kl
    if not np.all(np.isfinite(loss)):
        raise Diverged(step)
    return moments.recorded(t, loss)


def _curve(context: CellContext, trainer: Trainer, handles: list[tuple[NDArray, Any]], step: int) -> list[Row]:
    """Both losses averaged over the window's draws, each weighted back to uniform t."""
    losses = [trainer.losses(handle) for _, handle in handles]
    weight = np.concatenate([draws_weight for draws_weight, _ in handles])
    mse = weight * np.concatenate([np.asarray(one, np.float64) for one, _ in losses])
    kl = weight * np.concatenate([np.asarray(two, np.float64) for _, two in losses])
    if not (np.all(np.isfinite(mse)) and np.all(np.isfinite(kl))):
        raise Diverged(step)
    bits = float(bits_per_dim(kl.mean() * context.process.num_steps, context.dataset.dims))
    return [
        row("train_epsilon_mse", mse.mean(), "per dim", step=step),
        row("train_posterior_kl", bits, "bits/dim", step=step),
    ]


def _save(
    context: CellContext,
    trainer: Trainer,
    rows: list[Row],
    moments: SecondMoments,
    sketches: Sketches,
    seconds: float,
) -> None:
    state = {f"trainer/{name}": np.asarray(value) for name, value in trainer.state().items()}
    state |= {"moments/losses": moments.losses, "moments/counts": moments.counts}
    state |= {f"sketch/{step}": value for step, value in sketches.items()}
    metadata = {"rows": json.dumps(rows), "seconds": str(seconds)}
    save_weights(context.folder / "state.safetensors", state, metadata)


def _resume(context: CellContext, trainer: Trainer) -> tuple[list[Row], SecondMoments, Sketches, float]:
    """Loads the saved state into the trainer, where there is one; returns its rows, history, sketches and seconds."""
    path = context.folder / "state.safetensors"
    if not path.is_file():
        return [], SecondMoments.empty(context.process.num_steps), {}, 0.0
    state, metadata = load_weights(path)
    prefix = "trainer/"
    trainer.load_state({name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)})
    moments = SecondMoments(state["moments/losses"], state["moments/counts"])
    sketches = {int(name.partition("/")[2]): state[name] for name in state if name.startswith("sketch/")}
    return json.loads(metadata["rows"]), moments, sketches, float(metadata["seconds"])


def sample(context: CellContext, model: TrainedModel) -> list[Row]:
    """Samples by the respaced chain and by the whole one, from noise shared by the seed's cells, and their scores."""
    settings, dataset = context.settings, context.dataset
    num_steps = context.process.num_steps
    chains = {Chain(settings.sampler, min(settings.sample_steps, num_steps)): settings.samples}
    if settings.full_samples:
        chains.setdefault(Chain("ancestral", num_steps), settings.full_samples)
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
    store.write_arrays(context.folder / "samples.npz", arrays)
    rows = [row("sample_seconds", seconds, "s")]
    context.report("score", 0, 1)
    for chain, count in chains.items():
        if count >= LEAST:
            rows += score(dataset, chain.name, arrays[chain.name], SAMPLE_METRICS)
    return rows


def run_folder_cell(run: Path, cell: Cell) -> None:
    """The cell of a run's folder, with the settings recorded there."""
    run_cell(run, cell, read_settings(run), print_progress)


if __name__ == "__main__":
    raise SystemExit(run_in_process(run_folder_cell))
