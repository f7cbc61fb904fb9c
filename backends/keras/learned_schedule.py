"""The forward schedule in training, beside the network: a few parameters by the same recipe, clipped on their own.

Their gradient is clipped apart from the network's, because it is larger and noisier: clipped together, the schedule
would set the network's steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from numpy.typing import NDArray

from backends.interface import Weights
from backends.keras.arrays import KerasNamespace, mean, to_numpy
from backends.keras.optimiser import FlatOptimiser
from backends.recipe import TrainingRecipe
from backends.states import SCHEDULE
from core.arrays import Array
from core.learned_schedule import LearnedSchedule
from core.reverse import ReverseProcess, ReverseSteps
from core.schedules import Schedule


class TrainedSchedule:
    """The parameters of a `LearnedSchedule`, Adam's moments and their moving average."""

    def __init__(self, learned: LearnedSchedule, recipe: TrainingRecipe, xp: KerasNamespace) -> None:
        self._learned, self._xp = learned, xp
        self.parameters = keras.Variable(learned.initial(), dtype=xp.dtype)
        self._optimiser = FlatOptimiser(recipe, learned.initial(), xp.dtype)

    @property
    def variables(self) -> list[keras.Variable]:
        return [self.parameters, *self._optimiser.variables.values()]

    def steps(self, family: ReverseProcess) -> ReverseSteps:
        """Those of `family` on the schedule as it stands, differentiable."""
        return self._learned.steps(family, self.parameters.value, self._xp.as_shared())

    def prior_loss(self, x_0: Array) -> Array:
        """The mean over examples of L_T, in the unit of the training loss."""
        return mean(self._learned.prior_loss(self.parameters.value, x_0, self._xp.as_shared()))

    def update(self, gradient: Array, numbers: Array) -> None:
        """One step; `numbers` are `FlatOptimiser.numbers_at` of it."""
        self.parameters.assign(self._optimiser.moved(self.parameters.value, gradient, numbers))

    def frozen(self, *, ema: bool) -> Schedule:
        return self._learned.frozen(to_numpy(self._optimiser.average if ema else self.parameters))

    def state(self) -> Weights:
        parts = {"weights": self.parameters, **self._optimiser.variables}
        return {f"{SCHEDULE}{part}": to_numpy(variable) for part, variable in parts.items()}

    def load_state(self, parts: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from what `backends.states.schedule_parts` found."""
        for part, variable in {"weights": self.parameters, **self._optimiser.variables}.items():
            variable.assign(parts[part])
