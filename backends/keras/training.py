"""Training by `backends.recipe`: one optimiser step is noise, network, loss, gradient, clipping, Adam, average."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.interface import Draws, Execution, Weights
from backends.keras.arrays import mean, namespace, on_device, to_numpy
from backends.keras.engines import ENGINE
from backends.keras.likelihood import check_draws, check_network, losses, upload
from backends.keras.network import MLP, UNet, export_weights, from_neutral, load_neutral, neutral_variables, to_neutral
from backends.networks import check_weights
from backends.recipe import CLIP_EPSILON, TrainingRecipe
from core.arrays import Array
from core.objectives import check_objective, unit_scale
from core.reverse import ReverseProcess

Handle = tuple[Array, Array]
"""epsilon_mse and posterior_kl (N,), still on the device."""


class KerasTrainer:
    """A model in training (`backends.interface.Trainer`). Its weights are changed in place.

    A loss that stops being finite is neither hidden nor an error here: it is in the handle that `step` returns.
    """

    def __init__(
        self,
        network: UNet | MLP,
        process: ReverseProcess,
        objective: str,
        recipe: TrainingRecipe,
        execution: Execution,
    ) -> None:
        check_objective(objective, process.variance)
        check_network(network, process)
        self.step_count = 0
        self._network, self._process, self._objective = network, process, objective
        self._recipe, self._execution = recipe, execution
        self._xp = namespace(execution)
        self._scale = unit_scale(process, objective)
        self._names, self._weights = zip(*neutral_variables(network), strict=True)
        self._bounds = np.cumsum([math.prod(weight.shape) for weight in self._weights])[:-1].tolist()
        with on_device(execution.device):
            flat = np.concatenate([to_numpy(weight).ravel() for weight in self._weights])
            self._average, self._adam_m, self._adam_v = (
                keras.Variable(start, trainable=False, dtype=self._xp.dtype) for start in (flat, 0 * flat, 0 * flat)
            )
            self._step = self._compiled_step(process.cast(self._xp.asarray))

    def _compiled_step(self, process: ReverseProcess) -> Callable[..., Handle]:
        def minimised(x_0: Array, epsilon: Array, t: Array, told: Array, weight: Array) -> tuple[Array, Handle]:
            trained, mse, kl = losses(process, self._objective, self._xp, self._network, x_0, epsilon, t, told)
            return mean(weight * trained) * self._scale, (mse, kl)

        differentiated = ENGINE.differentiated(minimised, self._weights)

        def step(numbers: Array, *draws: Array) -> Handle:
            (_, both), gradients = differentiated(*draws)
            self._update(_flattened(gradients), numbers[0], numbers[1], numbers[2])
            return both

        return ENGINE.compiled(step, self._changing(), self._execution.compile)

    def _update(self, gradient: Array, rate: Array, v_scale: Array, ema_share: Array) -> None:
        """Clipping, Adam and the moving average on all weights end to end.

        Weight by weight it would be thousands of small operations, most of what there is to compile and dispatch.
        """
        recipe, m, v = self._recipe, self._adam_m, self._adam_v
        if recipe.clip_norm is not None:
            norm = ops.sqrt(ops.sum(gradient * gradient))
            gradient = gradient * ops.minimum(recipe.clip_norm / (norm + CLIP_EPSILON), ops.ones_like(norm))
        m.assign(recipe.adam_beta_1 * m + (1 - recipe.adam_beta_1) * gradient)
        v.assign(recipe.adam_beta_2 * v + (1 - recipe.adam_beta_2) * (gradient * gradient))
        moved = _flattened(self._weights) - rate * m / (ops.sqrt(v * v_scale) + recipe.adam_epsilon)
        self._average.assign(self._average + ema_share * (moved - self._average))
        for weight, part in zip(self._weights, ops.split(moved, self._bounds), strict=True):
            weight.assign(ops.reshape(part, weight.shape))

    def _numbers_at(self, step: int) -> Array:
        """What Adam and the average take from the step's number k: rate / (1 - beta_1^k), 1 / (1 - beta_2^k), and the
        share of the new weights in the average.
        """
        recipe = self._recipe
        rate = recipe.learning_rate_at(step) / (1 - recipe.adam_beta_1**step)
        return self._xp.asarray([rate, 1 / (1 - recipe.adam_beta_2**step), 1 - recipe.ema_decay_at(step)])

    def _changing(self) -> list[keras.Variable]:
        return [*self._network.variables, self._average, self._adam_m, self._adam_v]

    def step(self, draws: Draws) -> Handle:
        """One optimiser step; returns the two losses without waiting for the device."""
        check_draws(draws, self._network.settings.shape, self._process)
        number = self.step_count + 1
        with on_device(self._execution.device):
            handle = self._step(self._numbers_at(number), *upload(self._xp, draws, self._process))
        self.step_count = number
        return handle

    def losses(self, handle: Handle) -> tuple[NDArray[Any], NDArray[Any]]:
        mse, kl = handle
        return to_numpy(mse), to_numpy(kl)

    def weights(self, *, ema: bool = True) -> Weights:
        return self._neutral(to_numpy(self._average)) if ema else export_weights(self._network)

    def state(self) -> Weights:
        parts = {"weights": self.weights(ema=False)}
        parts |= {part: self._neutral(to_numpy(variable)) for part, variable in self._flat().items()}
        flat = {f"{part}/{name}": array for part, named in parts.items() for name, array in named.items()}
        return {**flat, "step": np.array(self.step_count, dtype=np.int64)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from `state`, or raises a ValueError in one line and changes nothing."""
        loaded = {part: self._part(state, part) for part in ("weights", *self._flat())}
        if "step" not in state:
            raise ValueError("this training state has no entry step; it is not one that a trainer's state() made")
        load_neutral(self._network, loaded["weights"])
        for part, variable in self._flat().items():
            named = (from_neutral(loaded[part][name]).ravel() for name in self._names)
            variable.assign(np.concatenate(list(named)))
        self.step_count = int(state["step"])

    def _flat(self) -> dict[str, keras.Variable]:
        return {"ema": self._average, "adam_m": self._adam_m, "adam_v": self._adam_v}

    def _part(self, state: Mapping[str, NDArray[Any]], part: str) -> Weights:
        prefix = f"{part}/"
        named = {name.removeprefix(prefix): np.asarray(state[name]) for name in state if name.startswith(prefix)}
        check_weights(self._network.settings, named)
        return named

    def _neutral(self, flat: NDArray[Any]) -> Weights:
        parts = np.split(flat, self._bounds)
        shaped = (part.reshape(weight.shape) for part, weight in zip(parts, self._weights, strict=True))
        return {name: to_neutral(part) for name, part in zip(self._names, shaped, strict=True)}


def _flattened(arrays: Sequence[Any]) -> Array:
    return ops.concatenate([ops.reshape(array, (-1,)) for array in arrays])


def make_trainer(
    network: UNet | MLP, process: ReverseProcess, objective: str, recipe: TrainingRecipe, execution: Execution
) -> KerasTrainer:
    """A trainer of `network`, which is trained in place."""
    return KerasTrainer(network, process, objective, recipe, execution)
