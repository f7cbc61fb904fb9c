"""The forward schedule in training, beside the network: a few parameters by the same recipe, clipped on their own.

Their gradient is clipped apart from the network's, because it is larger and noisier: clipped together, the schedule
would set the network's steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backends.interface import Weights
from backends.recipe import TrainingRecipe
from backends.states import SCHEDULE
from backends.torch.arrays import TorchNamespace, to_numpy
from backends.torch.optimiser import FlatOptimiser
from core.learned_schedule import LearnedSchedule
from core.reverse import ReverseProcess, ReverseSteps
from core.schedules import Schedule


class TrainedSchedule:
    """The parameters of a `LearnedSchedule`, Adam's moments and their moving average."""

    def __init__(self, learned: LearnedSchedule, recipe: TrainingRecipe, xp: TorchNamespace) -> None:
        self._learned, self._xp = learned, xp
        self._parameters = nn.Parameter(xp.asarray(learned.initial()))
        self._optimiser = FlatOptimiser(recipe, self._parameters)

    def steps(self, family: ReverseProcess) -> ReverseSteps:
        """Those of `family` on the schedule as it stands, differentiable."""
        return self._learned.steps(family, self._parameters, self._xp.as_shared())

    def prior_loss(self, x_0: Tensor) -> Tensor:
        """The mean over examples of L_T, in the unit of the training loss."""
        return torch.mean(self._learned.prior_loss(self._parameters, x_0, self._xp.as_shared()))

    def update(self, step: int) -> None:
        """One step from the gradient that backward() left, which is then cleared."""
        self._optimiser.update(step)
        self._parameters.grad = None

    def frozen(self, *, ema: bool) -> Schedule:
        return self._learned.frozen(to_numpy(self._optimiser.average if ema else self._parameters))

    def state(self) -> Weights:
        return {f"{SCHEDULE}{part}": to_numpy(tensor) for part, tensor in self._optimiser.parts().items()}

    def load_state(self, parts: Mapping[str, NDArray[Any]], step: int) -> None:
        """Goes on from what `backends.states.schedule_parts` found, after so many steps."""
        self._optimiser.load({part: self._xp.asarray(array) for part, array in parts.items()}, step)
