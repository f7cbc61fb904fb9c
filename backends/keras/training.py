"""Training by `backends.recipe`: one optimiser step is noise, network, loss, gradient, clipping, Adam, average."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends import states
from backends.checks import check_training
from backends.interface import Draws, Weights
from backends.keras.arrays import mean, to_numpy
from backends.keras.engines import ENGINE
from backends.keras.learned_schedule import TrainedSchedule
from backends.keras.losses import Model, losses
from backends.keras.network import export_weights, from_neutral, load_neutral, neutral_variables, to_neutral
from backends.keras.optimiser import FlatOptimiser
from backends.parts import DeviceDraws
from backends.recipe import TrainingRecipe
from backends.states import schedule_parts
from core.arrays import Array
from core.learned_schedule import LearnedSchedule
from core.objectives import Losses, Objective, unit_scale
from core.schedules import Schedule


class KerasTrainer:
    """A model in training (`backends.interface.Trainer`). Its weights are changed in place.

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
        self._names, self._weights = zip(*neutral_variables(model.network), strict=True)
        self._bounds = np.cumsum([math.prod(weight.shape) for weight in self._weights])[:-1].tolist()
        with model.placing():
            flat = np.concatenate([to_numpy(weight).ravel() for weight in self._weights])
            self._optimiser = FlatOptimiser(recipe, flat, model.xp.dtype)
            self._learned = learned
            self._schedule = None if learned is None else TrainedSchedule(learned, recipe, model.xp)
            self._step = self._compiled_step()

    def _compiled_step(self) -> Callable[[Array, DeviceDraws], Losses]:
        model, schedule, family = self._model, self._schedule, self._model.cast

        def minimised(draws: DeviceDraws) -> tuple[Array, Losses]:
            steps = family if schedule is None else schedule.steps(family)
            batch, output = model.run_batch(model.network, steps, draws)
            trained, recorded = losses(steps, self._objective, batch, output, model.xp)
            loss = mean(draws.weight * trained)
            loss = loss if schedule is None else loss + schedule.prior_loss(draws.x_0)
            return loss * self._scale, recorded

        extra = [] if schedule is None else [schedule.parameters]
        differentiated = ENGINE.differentiated(minimised, [*self._weights, *extra])

        def step(numbers: Array, draws: DeviceDraws) -> Losses:
            (_, recorded), gradients = differentiated(draws)
            self._update(_flattened(gradients[: len(self._weights)]), numbers)
            if schedule is not None:
                schedule.update(gradients[-1], numbers)
            return recorded

        return ENGINE.compiled(step, self._changing(), model.execution.compile)

    def _update(self, gradient: Array, numbers: Array) -> None:
        moved = self._optimiser.moved(_flattened(self._weights), gradient, numbers)
        for weight, part in zip(self._weights, ops.split(moved, self._bounds), strict=True):
            weight.assign(ops.reshape(part, weight.shape))

    def _changing(self) -> list[keras.Variable]:
        learned = [] if self._schedule is None else self._schedule.variables
        return [*self._model.network.variables, *self._optimiser.variables.values(), *learned]

    def step(self, draws: Draws) -> Losses:
        """One optimiser step; returns the losses without waiting for the device."""
        number, model = self.step_count + 1, self._model
        with model.placing():
            handle = self._step(self._optimiser.numbers_at(number, model.xp), model.upload(draws))
        self.step_count = number
        return handle

    def losses(self, handle: Losses) -> Losses:
        return Losses(*map(to_numpy, handle))

    def weights(self, *, ema: bool = True) -> Weights:
        return self._neutral(to_numpy(self._optimiser.average)) if ema else export_weights(self._model.network)

    def schedule(self, *, ema: bool = True) -> Schedule:
        return self._model.process.schedule if self._schedule is None else self._schedule.frozen(ema=ema)

    def state(self) -> Weights:
        parts = {"weights": self.weights(ema=False)}
        parts |= {part: self._neutral(to_numpy(variable)) for part, variable in self._optimiser.variables.items()}
        learned = {} if self._schedule is None else self._schedule.state()
        return {**states.joined(parts, self.step_count), **learned}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from `state`, or raises a ValueError in one line and changes nothing."""
        loaded = {part: states.part_of(state, part, self._model.network.settings) for part in states.PARTS}
        schedule = schedule_parts(self._learned, state)
        step = states.step_of(state)
        load_neutral(self._model.network, loaded["weights"])
        for part, variable in self._optimiser.variables.items():
            named = (from_neutral(loaded[part][name]).ravel() for name in self._names)
            variable.assign(np.concatenate(list(named)))
        if self._schedule is not None:
            self._schedule.load_state(schedule)
        self.step_count = step

    def _neutral(self, flat: NDArray[Any]) -> Weights:
        parts = np.split(flat, self._bounds)
        shaped = (part.reshape(weight.shape) for part, weight in zip(parts, self._weights, strict=True))
        return {name: to_neutral(part) for name, part in zip(self._names, shaped, strict=True)}


def _flattened(arrays: Sequence[Any]) -> Array:
    return ops.concatenate([ops.reshape(array, (-1,)) for array in arrays])
