"""One cell, in a process of its own: train, bound, sample, score; results come back as files.

Run as `python -m studies.harness.cell RUN CELL_ID`; progress goes to standard output as one JSON object a
line. A process a cell, because TensorFlow and JAX take a whole GPU where they can, and a crash in one cell
must not end the others.
"""

from __future__ import annotations

import json
import math
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends import load_backend
from backends.checkpoints import load_weights, save_network, save_weights
from backends.interface import Backend, Trainer, Weights
from backends.networks import initial_weights, parameter_count
from core.bounds import bits_per_dim
from core.reverse import ReverseProcess, reverse_process
from core.samplers import make_sampler
from core.timesteps import SecondMoments
from studies.datasets import Dataset, load_dataset
from studies.harness import store
from studies.harness.bound import BoundEstimate, evaluate_bound
from studies.harness.cells import Cell, cell_process
from studies.harness.draws import sampler_noise, starting_noise, training_draws
from studies.harness.settings import StudySettings, from_json
from studies.metrics import evaluate
from studies.metrics.evaluation import LEAST

CURVE_POINTS = 60
SAVE_SECONDS = 60.0
"""How often the training state is saved, so that an interrupted cell goes on from there."""
SAMPLE_BATCH = 512
TRAJECTORY_EXAMPLES, TRAJECTORY_STEPS = 8, 8
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

Row = dict[str, Any]
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
    rows: list[Row] = [_row("parameters", parameter_count(network_settings), "weights")]
    try:
        trained, weights = train(context, network_settings, started)
        rows += trained
        save_network(folder / "checkpoint.safetensors", weights, network_settings, cell_metadata(context))
        network = context.backend.make_network(network_settings, weights, settings.execution())
        rows += bound(context, network)
        rows += sample(context, network)
    except Diverged as error:
        rows.append(_row("diverged", error.step, "step"))
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
    trainer = context.backend.make_trainer(network, context.process, cell.objective, settings.recipe(), execution)
    rows, moments, spent = _resume(context, trainer)
    window = max(1, settings.train_steps // CURVE_POINTS)
    handles: list[tuple[NDArray[np.float64], Any]] = []
    begun = saved = time.perf_counter()
    startup = 0.0
    for step in range(trainer.step_count + 1, settings.train_steps + 1):
        draws = training_draws(
            context.dataset.train,
            cell.seed,
            step,
            settings.batch_size,
            context.process.num_steps,
            settings.timesteps,
            moments.probabilities(),
        )
        handle = trainer.step(draws)
        handles.append((draws.weight, handle))
        if settings.timesteps == "importance":
            moments = _recorded(moments, cell.objective, draws.t, trainer.losses(handle), step)
        if startup == 0.0:  # the first step waits for compilation
            trainer.losses(handle)
            startup, begun = time.perf_counter() - started, time.perf_counter()
        if step % window == 0 or step == settings.train_steps:
            rows += _curve(context, trainer, handles, step)
            handles = []
            context.report("train", step, settings.train_steps, rows[-2]["value"])
        if time.perf_counter() - saved > SAVE_SECONDS and not handles:
            saved = time.perf_counter()
            _save(context, trainer, rows, moments, spent + saved - begun)
    rows.append(_row("train_seconds", spent + time.perf_counter() - begun, "s"))
    rows.append(_row("startup_seconds", startup, "s"))
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
        _row("train_epsilon_mse", mse.mean(), "per dim", step=step),
        _row("train_posterior_kl", bits, "bits/dim", step=step),
    ]


def _save(context: CellContext, trainer: Trainer, rows: list[Row], moments: SecondMoments, seconds: float) -> None:
    state = {f"trainer/{name}": np.asarray(value) for name, value in trainer.state().items()}
    state |= {"moments/losses": moments.losses, "moments/counts": moments.counts}
    metadata = {"rows": json.dumps(rows), "seconds": str(seconds)}
    save_weights(context.folder / "state.safetensors", state, metadata)


def _resume(context: CellContext, trainer: Trainer) -> tuple[list[Row], SecondMoments, float]:
    """Loads the saved state into the trainer, where there is one; returns its rows, history and seconds spent."""
    path = context.folder / "state.safetensors"
    if not path.is_file():
        return [], SecondMoments.empty(context.process.num_steps), 0.0
    state, metadata = load_weights(path)
    prefix = "trainer/"
    trainer.load_state({name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)})
    moments = SecondMoments(state["moments/losses"], state["moments/counts"])
    return json.loads(metadata["rows"]), moments, float(metadata["seconds"])


def bound(context: CellContext, network: Any) -> list[Row]:
    """The test-set bound, split by term and by t."""
    settings, test = context.settings, context.dataset.test
    begun = time.perf_counter()
    nats_per_bit_per_dim = context.dataset.dims * math.log(2)
    estimate = evaluate_bound(
        context.backend.bound_terms(network, context.process, settings.execution()),
        context.process,
        test,
        context.cell.seed,
        evaluations_per_example=settings.bound_evaluations,
        target_se=None if settings.bound_se is None else settings.bound_se * nats_per_bit_per_dim,
        progress=lambda done, total: context.report("bound", done, total),
    )
    return [*bound_rows(estimate), _row("bound_seconds", time.perf_counter() - begun, "s")]


def bound_rows(estimate: BoundEstimate) -> list[Row]:
    """A bound's tidy rows, in bits per dim."""

    def bits(nats: float) -> float:
        return float(bits_per_dim(nats, estimate.dims))

    mse, mse_error = estimate.epsilon_mse
    size, kl = estimate.strata.size, estimate.kl
    rows = [
        _row("bound", bits(estimate.nats), "bits/dim", standard_error=bits(estimate.standard_error)),
        _row("bound_total_se", bits(estimate.total_standard_error), "bits/dim"),
        _row("bound_prior", bits(estimate.prior), "bits/dim"),
        _row("bound_diffusion", bits(float(np.sum((size * kl.mean)[1:]))), "bits/dim"),
        _row("bound_decoder", bits(kl.mean[0]), "bits/dim", standard_error=bits(kl.standard_error[0])),
        _row("epsilon_mse", mse, "per dim", standard_error=mse_error),
        _row("bound_evaluations", estimate.evaluations_per_example, "evaluations per example"),
    ]
    for h in range(len(estimate.strata)):
        where = {"t": int(estimate.strata.first[h]), "t_last": int(estimate.strata.last[h])}
        rows.append(
            _row("bound_at_t", bits(kl.mean[h]), "bits/dim", standard_error=bits(kl.standard_error[h]), **where)
        )
        error = estimate.mse.standard_error[h]
        rows.append(_row("epsilon_mse_at_t", estimate.mse.mean[h], "per dim", standard_error=error, **where))
    return rows


def sample(context: CellContext, network: Any) -> list[Row]:
    """Samples by the respaced chain and by the whole one, from noise shared by the seed's cells, and their scores."""
    settings = context.settings
    num_steps = context.process.num_steps
    chains = [(settings.sampler, min(settings.sample_steps, num_steps), settings.samples)]
    if settings.full_samples and chains[0][:2] != ("ancestral", num_steps):
        chains.append(("ancestral", num_steps, settings.full_samples))
    begun = time.perf_counter()
    arrays: dict[str, np.ndarray] = {}
    for i, (sampler, steps, count) in enumerate(chains):
        context.report("sample", i, len(chains))
        arrays |= draw_samples(context, network, sampler, steps, count)
    seconds = time.perf_counter() - begun
    store.write_arrays(context.folder / "samples.npz", arrays)
    rows = [_row("sample_seconds", seconds, "s")]
    context.report("score", 0, 1)
    for sampler, steps, count in chains:
        if count >= LEAST:
            rows += score(context, f"{sampler}-{steps}", arrays[f"{sampler}-{steps}"])
    return rows


def draw_samples(context: CellContext, network: Any, sampler: str, steps: int, count: int) -> dict[str, np.ndarray]:
    """`count` samples by `steps` steps of `sampler`, and the x_0_hat of the first few along the way."""
    settings, full = context.settings, context.process
    schedule = full.schedule if steps == full.num_steps else full.schedule.respaced(steps)
    process = reverse_process(
        schedule, full.prediction, full.variance, first_variance=full.first_variance, levels=full.levels
    )
    name, shape, seed = f"{sampler}-{steps}", context.dataset.shape, context.cell.seed
    keep = sorted({int(t) for t in np.rint(np.linspace(1, steps, TRAJECTORY_STEPS))}, reverse=True)
    parts: list[np.ndarray] = []
    trajectory: dict[int, np.ndarray] = {}
    for start in range(0, count, SAMPLE_BATCH):
        size, stream = min(SAMPLE_BATCH, count - start), f"{name} from {start}"
        part, kept = context.backend.sample(
            network,
            process,
            make_sampler(sampler, clip=settings.clip_x_0),
            starting_noise(seed, stream, size, shape),
            partial(sampler_noise, seed, stream, size, shape),
            settings.execution(),
            keep=() if start else keep,
        )
        parts.append(part)
        trajectory |= kept
    return {
        name: np.concatenate(parts).astype(np.float32),
        f"{name}/trajectory": np.stack([trajectory[t][:TRAJECTORY_EXAMPLES] for t in keep]).astype(np.float32),
        f"{name}/trajectory_steps": schedule.steps[keep],
    }


def score(context: CellContext, name: str, samples: np.ndarray) -> list[Row]:
    """Sample metrics, each beside its floor: the same metric between train and test."""
    dataset = context.dataset
    if not np.all(np.isfinite(samples)):
        return [_row("samples_not_finite", int(np.sum(~np.isfinite(samples))), "values", sampler=name)]
    rows: list[Row] = []
    for scored in evaluate(samples, dataset.train, dataset.test, labels=dataset.train_labels, names=SAMPLE_METRICS):
        for metric, value in ((scored["metric"], scored["value"]), (f"{scored['metric']}_floor", scored["floor"])):
            rows.append(_row(metric, value, scored["unit"], sampler=name))
    return rows


def _row(metric: str, value: float, unit: str, **more: Any) -> Row:
    return {"metric": metric, "value": float(value), "unit": unit, **more}


def _print_progress(stage: str, done: int, total: int, loss: float | None = None) -> None:
    print(json.dumps({"stage": stage, "done": done, "total": total, "loss": loss}), flush=True)


def main(run: Path, cell_id: str) -> int:
    folder = store.cell_folder(run, cell_id)
    try:
        settings_text = json.loads((run / "settings.json").read_text())
        settings_text.pop("study")
        cell = Cell(**json.loads((folder / "cell.json").read_text())["factors"])
        run_cell(run, cell, from_json(json.dumps(settings_text)), _print_progress)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        store.write_text(folder / store.FAILURE, f"{reason}\n\n{traceback.format_exc()}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2]))
