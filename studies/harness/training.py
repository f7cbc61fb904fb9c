"""Training of cells, one alone or several as one program: each with its own draws, curve, saved state and end.

Cells trained together share what their program takes: each one's seconds are the program's divided by their number,
and a row "trained_together" says so. They are saved as cells trained alone are, and go on alone or together.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.checkpoints import load_weights, save_weights
from backends.interface import Backend, Draws, Execution, GroupTrainer, Trainer, Weights
from backends.networks import NetworkSettings, initial_weights, parameter_count
from core.bounds import bits_per_dim
from core.objectives import Losses, as_objective
from core.reverse import ReverseProcess
from core.timesteps import SecondMoments
from studies.datasets import Dataset
from studies.harness import store
from studies.harness.ahead import ahead
from studies.harness.cells import Cell
from studies.harness.compiling import execution_of
from studies.harness.draws import training_draws
from studies.harness.drift import Sketches, as_arrays, sketch, sketched_steps
from studies.harness.machine import uses_gpu
from studies.harness.schedules import learned_schedule, write_schedule
from studies.harness.settings import StudySettings
from studies.harness.store import Row, row

CURVE_POINTS = 60
SAVE_SECONDS = 60.0
"""How often the training state is saved, so that an interrupted cell goes on from there."""
STATE = "state.safetensors"

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

    @property
    def network(self) -> NetworkSettings:
        return self.settings.network(self.dataset.shape, self.process.learns_variance)

    @property
    def execution(self) -> Execution:
        return execution_of(self.cell, self.network, self.settings)


@dataclass(frozen=True, eq=False)
class Trained:
    """How a cell's training ended: its rows, and the averaged weights, or None where a loss stopped being finite.

    `together` is how many cells its program trained.
    """

    rows: list[Row]
    weights: Weights | None
    together: int = 1


class Record:
    """What one cell's training has brought so far; begun from the cell's saved state, where there is one.

    `trainer_state` is what its trainer goes on from, `diverged` the step by which a loss was no longer finite.
    """

    def __init__(self, context: CellContext) -> None:
        self.context = context
        self.rows: list[Row] = []
        self.moments = SecondMoments.empty(context.process.num_steps)
        self.sketches: Sketches = {}
        self.seconds = 0.0
        self.trainer_state: Mapping[str, NDArray[Any]] | None = None
        self.diverged: int | None = None
        path = context.folder / STATE
        if path.is_file():
            state, metadata = load_weights(path)
            prefix = "trainer/"
            self.trainer_state = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
            self.moments = SecondMoments(state["moments/losses"], state["moments/counts"])
            self.sketches = {int(name.partition("/")[2]): state[name] for name in state if name.startswith("sketch/")}
            self.rows, self.seconds = json.loads(metadata["rows"]), float(metadata["seconds"])

    @property
    def steps_taken(self) -> int:
        return 0 if self.trainer_state is None else int(self.trainer_state["step"])

    def save(self, trainer_state: Weights, seconds: float) -> None:
        state = {f"trainer/{name}": np.asarray(value) for name, value in trainer_state.items()}
        state |= {"moments/losses": self.moments.losses, "moments/counts": self.moments.counts}
        state |= {f"sketch/{step}": value for step, value in self.sketches.items()}
        metadata = {"rows": json.dumps(self.rows), "seconds": str(self.seconds + seconds)}
        save_weights(self.context.folder / STATE, state, metadata)

    def draws(self, step: int) -> Draws:
        cell, settings = self.context.cell, self.context.settings
        return training_draws(
            self.context.dataset.train,
            cell.seed,
            step,
            settings.batch_size,
            self.context.process.num_steps,
            cell.timesteps,
            self.moments.probabilities() if cell.timesteps == "importance" else None,
        )

    def remember(self, t: NDArray[np.int64], losses: Losses, step: int) -> None:
        """Adds to the history the losses that importance sampling goes by, which the objective knows."""
        loss = as_objective(self.context.cell.objective).remembers(losses)
        if not np.all(np.isfinite(loss)):
            self.diverged = step
        else:
            self.moments = self.moments.recorded(t, loss)

    def add_curve(
        self,
        weights: Sequence[NDArray],
        losses: Sequence[Losses],
        step: int,
        lasted: list[Row],
    ) -> None:
        """Both losses averaged over the window's draws, each weighted back to uniform t, and how long a step took."""
        weight = np.concatenate(weights)
        mse = weight * np.concatenate([np.asarray(of_batch.epsilon_mse, np.float64) for of_batch in losses])
        kl = weight * np.concatenate([np.asarray(of_batch.posterior_kl, np.float64) for of_batch in losses])
        if not (np.all(np.isfinite(mse)) and np.all(np.isfinite(kl))):
            self.diverged = step
            return
        bits = float(bits_per_dim(kl.mean() * self.context.process.num_steps, self.context.dataset.dims))
        curve = [
            row("train_epsilon_mse", mse.mean(), "per dim", step=step),
            row("train_posterior_kl", bits, "bits/dim", step=step),
            *lasted,
        ]
        self.rows += curve
        self.context.report("train", step, self.context.settings.train_steps, curve[0]["value"], rows=curve)


class Alone:
    """A `Trainer` as a group of one, with the schedule it learns beside the network, if it does."""

    def __init__(self, context: CellContext, weights: Weights) -> None:
        settings, cell = context.settings, context.cell
        network = context.backend.make_network(context.network, weights, context.execution)
        self._learned = learned_schedule(cell.schedule, settings.num_steps, context.dataset.levels)
        self._trainer: Trainer = context.backend.make_trainer(
            network, context.process, cell.objective, settings.recipe(), context.execution, self._learned
        )

    @property
    def step_count(self) -> int:
        return self._trainer.step_count

    def step(self, draws: Sequence[Draws]) -> Any:
        (only,) = draws
        return self._trainer.step(only)

    def losses(self, handle: Any) -> list[Losses]:
        return [self._trainer.losses(handle)]

    def weights(self, member: int, *, ema: bool = True) -> Weights:
        return self._trainer.weights(ema=ema)

    def state(self, member: int) -> Weights:
        return self._trainer.state()

    def load_states(self, given: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        (only,) = given
        self._trainer.load_state(only)

    def write_schedule(self, folder: Path) -> None:
        if self._learned is not None:
            write_schedule(folder, self._learned.start, self._trainer.schedule())


def train(records: Sequence[Record], started: float) -> list[Trained]:
    """Trains every cell to the end; those at the same step train together, and differ in objective and seed alone.

    `started` is when their process did.
    """
    trained: dict[Record, Trained] = {}
    for steps in sorted({record.steps_taken for record in records}):
        same = [record for record in records if record.steps_taken == steps]
        trained |= dict(zip(same, _train(same, started), strict=True))
        started = time.perf_counter()
    return [trained[record] for record in records]


def _train(records: Sequence[Record], started: float) -> list[Trained]:
    settings, share = records[0].context.settings, 1 / len(records)
    trainer = _trainer(records)
    by_importance = records[0].context.cell.timesteps == "importance"
    for record in records:
        if record.rows:
            record.context.report("train", trainer.step_count, settings.train_steps, rows=record.rows)
    window = max(1, settings.train_steps // CURVE_POINTS)
    to_sketch = sketched_steps(settings.train_steps)
    running = dict(enumerate(records))
    seen: list[tuple[list[NDArray[Any]], Any]] = []
    begun = saved = lap = time.perf_counter()
    timed, startup = 0, 0.0
    steps = range(trainer.step_count + 1, settings.train_steps + 1)
    for step, draws in zip(steps, _draws(records, steps), strict=True):
        handle = trainer.step(draws)
        seen.append(([one.weight for one in draws], handle))
        if by_importance:
            losses = trainer.losses(handle)
            for member, record in running.items():
                record.remember(draws[member].t, losses[member], step)
            running = _without_diverged(running)
        if startup == 0.0:  # the first step waits for compilation
            trainer.losses(handle)
            begun = lap = time.perf_counter()
            startup = begun - started
        else:
            timed += 1
        if step in to_sketch:
            for member, record in running.items():
                record.sketches[step] = sketch(trainer.weights(member, ema=False))
        if step % window == 0 or step == settings.train_steps:
            curves = [trainer.losses(handle) for _, handle in seen]
            lasted = [row("step_seconds", share * (time.perf_counter() - lap) / timed, "s", step=step)] if timed else []
            for member, record in running.items():
                record.add_curve(
                    [weights[member] for weights, _ in seen], [one[member] for one in curves], step, lasted
                )
            seen, timed, lap = [], 0, time.perf_counter()
            running = _without_diverged(running)
        if not running:
            break
        if time.perf_counter() - saved > SAVE_SECONDS and not seen:
            saved = time.perf_counter()
            _save(trainer, running, share * (saved - begun))
    spent = share * (time.perf_counter() - begun)
    if len(records) > 1:  # evaluated one after another, the last of them would otherwise have most to lose
        _save(trainer, running, spent)
    for record in running.values():
        record.rows += [row("train_seconds", record.seconds + spent, "s"), row("startup_seconds", share * startup, "s")]
        if len(records) > 1:
            record.rows.append(row("trained_together", len(records), "cells"))
        context = record.context
        sketches = as_arrays(record.sketches, parameter_count(context.network))
        store.write_arrays(context.folder / store.SKETCHES, sketches)
        if isinstance(trainer, Alone):
            trainer.write_schedule(context.folder)
    return [
        Trained([row("diverged", record.diverged, "step")], None, len(records))
        if record.diverged is not None
        else Trained(record.rows, trainer.weights(member), len(records))
        for member, record in enumerate(records)
    ]


def _draws(records: Sequence[Record], steps: Iterable[int]) -> Iterator[list[Draws]]:
    """Every record's draws of every step.

    A GPU finds them ready. On a CPU, where cells fill the cores, they are 0.1 to 0.3 % of a step and made in turn, and
    so are those that depend on the last step's losses.
    """

    def of(step: int) -> list[Draws]:
        return [record.draws(step) for record in records]

    context = records[0].context
    in_turn = context.cell.timesteps == "importance" or not uses_gpu(context.settings.device)
    return map(of, steps) if in_turn else ahead(of, steps)


def _trainer(records: Sequence[Record]) -> GroupTrainer:
    """The trainer of the records' networks, at the step they are at."""
    context = records[0].context
    settings = context.settings
    starts = [initial_weights(context.network, record.context.cell.seed) for record in records]
    trainer: GroupTrainer
    if len(records) == 1:
        trainer = Alone(context, starts[0])
    else:
        objectives = [record.context.cell.objective for record in records]
        trainer = context.backend.make_group_trainer(
            context.network, starts, context.process, objectives, settings.recipe(), context.execution
        )
    states = [record.trainer_state for record in records if record.trainer_state is not None]
    if states:
        trainer.load_states(states)
    return trainer


def _without_diverged(running: dict[int, Record]) -> dict[int, Record]:
    return {member: record for member, record in running.items() if record.diverged is None}


def _save(trainer: GroupTrainer, running: Mapping[int, Record], seconds: float) -> None:
    for member, record in running.items():
        record.save(trainer.state(member), seconds)
