"""What one cell's training has brought so far: its context, curve, history and saved state."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.checkpoints import load_weights, save_weights
from backends.interface import Backend, Draws, Execution, Weights
from backends.networks import NetworkSettings
from core.bounds import bits_per_dim
from core.objectives import Losses, as_objective
from core.reverse import ReverseProcess
from core.timesteps import SecondMoments
from studies.cell.draws import training_draws
from studies.cell.drift import Sketches
from studies.cell.measured import measured
from studies.cell.units import in_units_of_file
from studies.datasets import Dataset
from studies.plan.compiling import execution_of
from studies.plan.settings import StudySettings
from studies.run.process import Report
from studies.store.cells import Cell
from studies.store.files import Row
from studies.store.folder import CellFolder


@dataclass(frozen=True, eq=False)
class CellContext:
    """What every stage of a cell works with; `start` is the process that its training starts with."""

    cell: Cell
    settings: StudySettings
    dataset: Dataset
    start: ReverseProcess
    backend: Backend
    folder: CellFolder
    report: Report

    @property
    def network(self) -> NetworkSettings:
        return self.settings.network(self.dataset.shape, self.start.learns_variance)

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
        self.moments = SecondMoments.empty(context.start.num_steps)
        self.sketches: Sketches = {}
        self.seconds = 0.0
        self.processor_seconds: float | None = 0.0  # None: it goes on from a state of before these were counted
        self.trainer_state: Mapping[str, NDArray[Any]] | None = None
        self.diverged: int | None = None
        path = context.folder.state
        if path.is_file():
            state, metadata = load_weights(path)
            prefix = "trainer/"
            self.trainer_state = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
            self.moments = SecondMoments(state["moments/losses"], state["moments/counts"])
            self.sketches = {int(name.partition("/")[2]): state[name] for name in state if name.startswith("sketch/")}
            self.rows, self.seconds = json.loads(metadata["rows"]), float(metadata["seconds"])
            known = metadata.get("processor_seconds")
            self.processor_seconds = None if known is None else float(known)

    @property
    def steps_taken(self) -> int:
        return 0 if self.trainer_state is None else int(self.trainer_state["step"])

    def save(self, trainer_state: Weights, seconds: float, processor_seconds: float) -> None:
        """Saves the training with what it took so far by the clock and by the processor, since the last start."""
        state = {f"trainer/{name}": np.asarray(value) for name, value in trainer_state.items()}
        state |= {"moments/losses": self.moments.losses, "moments/counts": self.moments.counts}
        state |= {f"sketch/{step}": value for step, value in self.sketches.items()}
        metadata = {"rows": json.dumps(self.rows), "seconds": str(self.seconds + seconds)}
        if self.processor_seconds is not None:
            metadata["processor_seconds"] = str(self.processor_seconds + processor_seconds)
        save_weights(self.context.folder.state, state, metadata)

    def draws(self, step: int) -> Draws:
        cell, settings = self.context.cell, self.context.settings
        return training_draws(
            self.context.dataset.train,
            cell.seed,
            step,
            settings.batch_size,
            self.context.start.num_steps,
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
        bits = float(bits_per_dim(kl.mean() * self.context.start.num_steps, self.context.dataset.dims))
        averages = [
            measured("train_epsilon_mse", mse.mean(), step=step),
            measured("train_posterior_kl", bits, step=step),
        ]
        curve = [*in_units_of_file(averages, self.context.dataset), *lasted]
        self.rows += curve
        self.context.report("train", step, self.context.settings.train_steps, curve[0]["value"], rows=curve)
