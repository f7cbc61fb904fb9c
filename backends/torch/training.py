"""Training by `backends.recipe`: one optimiser step is noise, network, loss, gradient, clipping, Adam, average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backends import states
from backends.checks import check_training
from backends.interface import Draws, Weights
from backends.parts import DeviceDraws
from backends.recipe import TrainingRecipe
from backends.states import schedule_parts
from backends.torch.arrays import to_numpy
from backends.torch.learned_schedule import TrainedSchedule
from backends.torch.losses import Model, losses, process_for
from backends.torch.optimiser import Flat, FlatOptimiser
from core.learned_schedule import LearnedSchedule
from core.objectives import Losses, Objective, unit_scale
from core.reverse import ReverseSteps
from core.schedules import Schedule


class TorchTrainer:
    """A network in training (`backends.interface.Trainer`). Its weights are changed in place.

    A loss that stops being finite is neither hidden nor an error here: it is in the handle that `step` returns.
    """

    def __init__(
        self,
        model: Model,
        objective: str | Objective,
        recipe: TrainingRecipe,
        learned: LearnedSchedule | None = None,
    ) -> None:
        self._objective = check_training(objective, model.process, learned)
        self.step_count = 0
        self._model = model
        self._scale = unit_scale(model.process, self._objective)
        self._weights: dict[str, nn.Parameter] = dict(model.network.named_parameters())
        self._flat = Flat(list(self._weights.values()))
        self._optimiser = FlatOptimiser(recipe, self._flat.vector)
        self._learned = learned
        self._schedule = None if learned is None else TrainedSchedule(learned, recipe, model.xp)
        self._run = model.compiled(self._forward)

    def _forward(self, process: ReverseSteps, draws: DeviceDraws) -> tuple[Tensor, Losses]:
        """What is minimised (), and what is recorded (N,)."""
        batch, output = self._model.run_batch(self._model.network, process, draws)
        trained, recorded = losses(process, self._objective, batch, output, self._model.xp)
        return torch.mean(draws.weight * trained) * self._scale, recorded

    def step(self, draws: Draws) -> Losses:
        """One optimiser step; returns the losses without waiting for the device."""
        on_device = self._model.upload(draws)
        process = process_for(self._model, draws)
        steps = process if self._schedule is None else self._schedule.steps(process)
        minimised, recorded = self._run(steps, on_device)
        if self._schedule is not None:
            minimised = minimised + self._scale * self._schedule.prior_loss(on_device.x_0)
        minimised.backward()
        self._flat.gather_gradient()
        self._optimiser.update(self.step_count + 1)
        if self._schedule is not None:
            self._schedule.update(self.step_count + 1)
        self.step_count += 1
        return recorded

    def losses(self, handle: Losses) -> Losses:
        return Losses(*map(to_numpy, handle))

    def weights(self, *, ema: bool = True) -> Weights:
        return self._named(self._optimiser.average if ema else self._flat.vector)

    def schedule(self, *, ema: bool = True) -> Schedule:
        return self._model.process.schedule if self._schedule is None else self._schedule.frozen(ema=ema)

    def state(self) -> Weights:
        learned = {} if self._schedule is None else self._schedule.state()
        named = {part: self._named(vector) for part, vector in self._optimiser.parts().items()}
        return {**states.joined(named, self.step_count), **learned}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from `state`, or raises a ValueError in one line and changes nothing."""
        parts = {part: self._part(state, part) for part in states.PARTS}
        schedule = schedule_parts(self._learned, state)
        step = states.step_of(state)
        self._optimiser.load(parts, step)
        if self._schedule is not None:
            self._schedule.load_state(schedule, step)
        self.step_count = step

    def _part(self, state: Mapping[str, NDArray[Any]], part: str) -> Tensor:
        """The arrays "part/NAME" in one vector."""
        named = states.part_of(state, part, self._model.network.settings)
        vector = torch.empty_like(self._optimiser.average)
        for view, name in zip(self._flat.views(vector), self._weights, strict=True):
            view.copy_(self._model.xp.asarray(named[name]))
        return vector

    def _named(self, vector: Tensor) -> Weights:
        return {name: to_numpy(view) for name, view in zip(self._weights, self._flat.views(vector), strict=True)}
