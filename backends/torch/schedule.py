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
from backends.learned import PREFIX
from backends.recipe import TrainingRecipe
from backends.torch.arrays import TorchNamespace, to_numpy
from core.learned_schedule import LearnedSchedule
from core.reverse import ReverseProcess
from core.schedules import Schedule


class TrainedSchedule:
    """The parameters of a `LearnedSchedule`, Adam's moments and their moving average."""

    def __init__(self, learned: LearnedSchedule, recipe: TrainingRecipe, xp: TorchNamespace) -> None:
        self._learned, self._recipe, self._xp = learned, recipe, xp
        self._parameters = nn.Parameter(xp.asarray(learned.initial()))
        self._average = self._parameters.detach().clone()
        betas = (recipe.adam_beta_1, recipe.adam_beta_2)
        self._adam = torch.optim.Adam([self._parameters], recipe.learning_rate, betas, recipe.adam_epsilon)

    def process(self, family: ReverseProcess) -> ReverseProcess:
        """`family` on the schedule as it stands, differentiable."""
        return self._learned.process(family, self._parameters, self._xp.as_shared())

    def prior_loss(self, x_0: Tensor) -> Tensor:
        """The mean over examples of L_T, in the unit of the training loss."""
        return torch.mean(self._learned.prior_loss(self._parameters, x_0, self._xp.as_shared()))

    def update(self, step: int) -> None:
        """One step from the gradient that backward() left, which is then cleared."""
        recipe = self._recipe
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_([self._parameters], recipe.clip_norm)
        for group in self._adam.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        with torch.no_grad():
            self._average.lerp_(self._parameters, 1 - recipe.ema_decay_at(step))

    def frozen(self, *, ema: bool) -> Schedule:
        return self._learned.frozen(to_numpy(self._average if ema else self._parameters))

    def state(self) -> Weights:
        moments = self._adam.state[self._parameters]
        nothing = torch.zeros_like(self._average)
        parts = {
            "weights": self._parameters,
            "ema": self._average,
            "adam_m": moments.get("exp_avg", nothing),
            "adam_v": moments.get("exp_avg_sq", nothing),
        }
        return {f"{PREFIX}{part}": to_numpy(tensor) for part, tensor in parts.items()}

    def load_state(self, parts: Mapping[str, NDArray[Any]], step: int) -> None:
        """Goes on from what `backends.learned.schedule_parts` found, after so many steps."""
        on_device = {part: self._xp.asarray(array) for part, array in parts.items()}
        with torch.no_grad():
            self._parameters.copy_(on_device["weights"])
            self._average.copy_(on_device["ema"])
        moments = {"exp_avg": on_device["adam_m"], "exp_avg_sq": on_device["adam_v"]}
        adam = {0: {"step": torch.tensor(float(step)), **moments}}
        self._adam.load_state_dict({"state": adam, "param_groups": self._adam.state_dict()["param_groups"]})
