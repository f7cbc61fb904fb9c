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
from studies.cell.measured import measured
from studies.cell.record import CellContext, Record, Trained
from studies.plan.machine import uses_gpu
from studies.plan.schedules import learned_schedule, write_schedule
from studies.store import files

CURVE_POINTS = 60
SAVE_SECONDS = 60.0
"""How often the training state is saved, so that an interrupted cell goes on from there."""


class Alone:
    """A `Trainer` as a group of one, with the schedule it learns beside the network, if it does."""

    def __init__(self, context: CellContext, weights: Weights) -> None:
        settings, cell = context.settings, context.cell
        network = context.backend.make_network(context.network, weights, context.execution)
        self._learned = learned_schedule(cell.schedule, settings.num_steps, context.dataset.levels)
        placed = context.backend.place(network, context.start, context.execution)
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
    group = _GroupInTraining(records, _trainer(records), started)
    group.report_restored()
    steps = range(group.trainer.step_count + 1, group.last_step + 1)
    for step, draws in zip(steps, _draws(records, steps), strict=True):
        group.take_step(step, draws)
        if not group.running:
            break
        group.save_if_due()
    group.end()
    return group.trained()


class _GroupInTraining:
    """Records and their trainer, step by step. `running`: by member, those whose losses have all been finite."""

    def __init__(self, records: Sequence[Record], trainer: GroupTrainer, started: float) -> None:
        context = records[0].context
        self.records, self.trainer = records, trainer
        self.running = dict(enumerate(records))
        self.last_step = context.settings.train_steps
        self._by_importance = context.cell.timesteps == "importance"
        self._window_steps = max(1, self.last_step // CURVE_POINTS)
        self._sketched_steps = sketched_steps(self.last_step)
        self._window = _Window()
        self._clock = _Clock(started, share=1 / len(records))

    def report_restored(self) -> None:
        """Reports the curve of what was trained before an interruption, so that whoever watches has all of it."""
        for record in self.records:
            if record.rows:
                record.context.report("train", self.trainer.step_count, self.last_step, rows=record.rows)

    def take_step(self, step: int, draws: Sequence[Draws]) -> None:
        handle = self.trainer.step(draws)
        self._window.add(draws, handle)
        if self._by_importance:
            self._remember(step, draws, handle)
        if self._clock.at_start:  # the first step waits for compilation
            self.trainer.losses(handle)
            self._clock.end_startup()
            self._window.restart_lap()
        else:
            self._window.count_lap_step()
        if step in self._sketched_steps:
            for member, record in self.running.items():
                record.sketches[step] = sketch(self.trainer.weights(member, ema=False))
        if step % self._window_steps == 0 or step == self.last_step:
            self._add_to_curves(step)

    def _remember(self, step: int, draws: Sequence[Draws], handle: Any) -> None:
        losses = self.trainer.losses(handle)
        for member, record in self.running.items():
            record.remember(draws[member].t, losses[member], step)
        self._leave_out_diverged()

    def _add_to_curves(self, step: int) -> None:
        losses = [self.trainer.losses(handle) for handle in self._window.handles]
        seconds = self._window.step_seconds()
        timing = [] if seconds is None else [measured("step_seconds", self._clock.share * seconds, step=step)]
        for member, record in self.running.items():
            weights = [of_step[member] for of_step in self._window.weights]
            record.add_curve(weights, [of_step[member] for of_step in losses], step, timing)
        self._window = _Window()
        self._leave_out_diverged()

    def _leave_out_diverged(self) -> None:
        self.running = {member: record for member, record in self.running.items() if record.diverged is None}

    def save_if_due(self) -> None:
        """Saves the training when it is time to, but only where a window of the curve has just closed.

        A saved state then holds no losses that its curve lacks.
        """
        if self._clock.save_is_due() and not self._window.handles:
            self._clock.restart_saving()
            self._save()

    def _save(self) -> None:
        for member, record in self.running.items():
            record.save(self.trainer.state(member), self._clock.spent(), self._clock.processor_spent())

    def end(self) -> None:
        """Adds what training took to the rows of those that reached the end, and writes what they leave behind."""
        seconds, processor_seconds, count = self._clock.spent(), self._clock.processor_spent(), len(self.records)
        if count > 1:  # evaluated one after another, the last of them would otherwise have most to lose
            self._save()
        for record in self.running.values():
            record.rows += [
                measured("train_seconds", record.seconds + seconds),
                measured("startup_seconds", self._clock.startup),
            ]
            if record.processor_seconds is not None:
                record.rows.append(measured("train_processor_seconds", record.processor_seconds + processor_seconds))
            if count > 1:
                record.rows.append(measured("trained_together", count))
            context = record.context
            files.write_arrays(context.folder.sketches, as_arrays(record.sketches, parameter_count(context.network)))
            if isinstance(self.trainer, Alone):
                self.trainer.write_schedule(context.folder.path)

    def trained(self) -> list[Trained]:
        count = len(self.records)
        return [
            Trained([measured("diverged", record.diverged)], None, count)
            if record.diverged is not None
            else Trained(record.rows, self.trainer.weights(member), count)
            for member, record in enumerate(self.records)
        ]


class _Window:
    """The steps since the curves' last point: the weights of every member's draws, handles on losses, and the time."""

    def __init__(self) -> None:
        self.weights: list[list[NDArray[Any]]] = []
        self.handles: list[Any] = []
        self._lap_steps = 0
        self._lap_begun = time.perf_counter()

    def add(self, draws: Sequence[Draws], handle: Any) -> None:
        self.weights.append([of_member.weight for of_member in draws])
        self.handles.append(handle)

    def restart_lap(self) -> None:
        """Starts the lap's time again from now: what came before is not counted."""
        self._lap_begun = time.perf_counter()

    def count_lap_step(self) -> None:
        self._lap_steps += 1

    def step_seconds(self) -> float | None:
        """Seconds a step; None where none was timed."""
        return (time.perf_counter() - self._lap_begun) / self._lap_steps if self._lap_steps else None


class _Clock:
    """Seconds of a group's training, of which every member has a `share`; the first step is part of the start-up.

    By the clock, and of all the process's threads on the processor: other load on the machine makes the first longer.
    """

    def __init__(self, started: float, share: float) -> None:
        self.share = share
        self.at_start, self.startup = True, 0.0
        self._started = started
        self._begun = self._saved = time.perf_counter()
        self._processor_begun = time.process_time()

    def end_startup(self) -> None:
        self._begun, self._processor_begun = time.perf_counter(), time.process_time()
        self.startup, self.at_start = self.share * (self._begun - self._started), False

    def spent(self) -> float:
        return self.share * (time.perf_counter() - self._begun)

    def processor_spent(self) -> float:
        return self.share * (time.process_time() - self._processor_begun)

    def save_is_due(self) -> bool:
        return time.perf_counter() - self._saved > SAVE_SECONDS

    def restart_saving(self) -> None:
        self._saved = time.perf_counter()


def _draws(records: Sequence[Record], steps: Iterable[int]) -> Iterator[list[Draws]]:
    """Every record's draws of every step.

    For a GPU a thread makes them one step ahead, so that it never waits for them. On a CPU, whose cores the cells
    fill, they take 0.1 to 0.3 % of a step and are made when they are needed; so are draws that depend on the last
    step's losses.
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
            context.network, starts, context.start, objectives, settings.recipe(), context.execution
        )
    states = [record.trainer_state for record in records if record.trainer_state is not None]
    if states:
        trainer.load_states(states)
    return trainer
