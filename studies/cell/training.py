"""Training of cells, one alone or several as one program: each with its own draws, curve, saved state and end.

Cells trained together share what their program takes: each one's seconds are the program's divided by their number,
and a row "trained_together" says so. They are saved as cells trained alone are, and go on alone or together.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from backends.interface import Draws, GroupTrainer, Trainer, Weights
from backends.networks import initial_weights, parameter_count
from core.objectives import Losses
from studies.cell.ahead import ahead
from studies.cell.drift import as_arrays, sketch, sketched_steps
from studies.cell.record import CellContext, Record, Trained
from studies.plan.machine import uses_gpu
from studies.plan.schedules import learned_schedule, write_schedule
from studies.store import files
from studies.store.files import row

CURVE_POINTS = 60
SAVE_SECONDS = 60.0
"""How often the training state is saved, so that an interrupted cell goes on from there."""


class Alone:
    """A `Trainer` as a group of one, with the schedule it learns beside the network, if it does."""

    def __init__(self, context: CellContext, weights: Weights) -> None:
        settings, cell = context.settings, context.cell
        network = context.backend.make_network(context.network, weights, context.execution)
        self._learned = learned_schedule(cell.schedule, settings.num_steps, context.dataset.levels)
        placed = context.backend.place(network, context.process, context.execution)
        self._trainer: Trainer = placed.trainer(cell.objective, settings.recipe(), self._learned)

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
        files.write_arrays(context.folder / files.SKETCHES, sketches)
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
