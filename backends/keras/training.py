"""Training by `backends.recipe`: one optimiser step is noise, network, loss, gradient, clipping, Adam, average."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.interface import Draws, Execution, Weights
from backends.keras.arrays import namespace, to_numpy
from backends.keras.engines import ENGINE
from backends.keras.likelihood import check_draws, check_network, losses, on_device, upload
from backends.keras.network import from_neutral, neutral_variables, to_neutral
from backends.networks import check_weights
from backends.recipe import CLIP_EPSILON, TrainingRecipe
from core.arrays import Array
from core.objectives import check_objective, unit_scale
from core.reverse import ReverseProcess

Handle = tuple[Array, Array]
"""epsilon_mse and posterior_kl (N,), still on the device."""


@keras.saving.register_keras_serializable("diffusion_objectives")
class Adam(keras.optimizers.Adam):
    """Adam as in Kingma & Ba (2015), Algorithm 1: epsilon is added to sqrt(v_hat), after the bias correction.

    Keras adds it before, so that its epsilon shrinks with the bias of v. Arguments as for `keras.optimizers.Adam`.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        rate, gradient = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        step = ops.cast(self.iterations + 1, variable.dtype)
        beta_1, beta_2 = (ops.convert_to_tensor(b, variable.dtype) for b in (self.beta_1, self.beta_2))
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign_add(v, (gradient * gradient - v) * (1 - self.beta_2))
        m_hat = m / (1 - ops.power(beta_1, step))
        v_hat = v / (1 - ops.power(beta_2, step))
        self.assign_sub(variable, rate * m_hat / (ops.sqrt(v_hat) + self.epsilon))


def clipped(gradients: Sequence[Array], clip_norm: float | None) -> list[Array]:
    """Gradients times min(1, clip_norm / (norm + 1e-6)), norm being that of all of them together."""
    if clip_norm is None:
        return list(gradients)
    norm = ops.sqrt(sum(ops.sum(gradient * gradient) for gradient in gradients))
    factor = ops.minimum(clip_norm / (norm + CLIP_EPSILON), ops.ones_like(norm))
    return [gradient * factor for gradient in gradients]


class KerasTrainer:
    """A model in training (`backends.interface.Trainer`). Its weights are changed in place.

    A loss that stops being finite is neither hidden nor an error here: it is in the handle that `step` returns.
    """

    def __init__(
        self,
        network: keras.Model,
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
        self._named = dict(neutral_variables(network, network.settings))
        self._weights = list(self._named.values())
        with on_device(execution.device):
            self._average = [keras.Variable(to_numpy(w), trainable=False, dtype=w.dtype) for w in self._weights]
            self._adam = Adam(beta_1=recipe.adam_beta_1, beta_2=recipe.adam_beta_2, epsilon=recipe.adam_epsilon)
            self._adam.build(self._weights)
            cast = process.cast(self._xp.asarray)
            self._step = self._compiled_step(cast)

    def _compiled_step(self, process: ReverseProcess) -> Callable[..., Handle]:
        def minimised(x_0: Array, epsilon: Array, t: Array, told: Array, weight: Array) -> tuple[Array, Handle]:
            trained, mse, kl = losses(process, self._objective, self._xp, self._network, x_0, epsilon, t, told)
            return ops.mean(weight * trained) * self._scale, (mse, kl)

        differentiated = ENGINE.differentiated(minimised, self._weights)

        def step(rate: Array, kept: Array, *draws: Array) -> Handle:
            (_, both), gradients = differentiated(*draws)
            for variable, gradient in zip(self._weights, clipped(gradients, self._recipe.clip_norm), strict=True):
                self._adam.update_step(gradient, variable, rate)
            self._adam.iterations.assign_add(1)
            for average, variable in zip(self._average, self._weights, strict=True):
                average.assign(average + (1 - kept) * (variable - average))
            return both

        return ENGINE.compiled(step, self._changing(), self._execution.compile)

    def _changing(self) -> list[keras.Variable]:
        return [*self._network.variables, *self._average, *self._adam.variables]

    def step(self, draws: Draws) -> Handle:
        """One optimiser step; returns the two losses without waiting for the device."""
        check_draws(draws, self._network.settings.shape, self._process)
        number = self.step_count + 1
        with on_device(self._execution.device):
            rate = self._xp.asarray(self._recipe.learning_rate_at(number))
            kept = self._xp.asarray(self._recipe.ema_decay_at(number))
            handle = self._step(rate, kept, *upload(self._xp, draws, self._process))
        self.step_count = number
        return handle

    def losses(self, handle: Handle) -> tuple[NDArray[Any], NDArray[Any]]:
        mse, kl = handle
        return to_numpy(mse), to_numpy(kl)

    def weights(self, *, ema: bool = True) -> Weights:
        return self._neutral(self._average if ema else self._weights)

    def state(self) -> Weights:
        parts = self._parts()
        flat = {f"{part}/{n}": array for part, kept in parts.items() for n, array in self._neutral(kept).items()}
        return {**flat, "step": np.array(self.step_count, dtype=np.int64)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Goes on from `state`, or raises a ValueError in one line and changes nothing."""
        loaded = {part: self._part(state, part) for part in self._parts()}
        if "step" not in state:
            raise ValueError("this training state has no entry step; it is not one that a trainer's state() made")
        for part, variables in self._parts().items():
            for name, variable in zip(self._named, variables, strict=True):
                variable.assign(from_neutral(name, loaded[part][name]))
        self.step_count = int(state["step"])
        self._adam.iterations.assign(self.step_count)

    def _parts(self) -> dict[str, Sequence[keras.Variable]]:
        index = [self._adam._get_variable_index(variable) for variable in self._weights]
        return {
            "weights": self._weights,
            "ema": self._average,
            "adam_m": [self._adam._momentums[i] for i in index],
            "adam_v": [self._adam._velocities[i] for i in index],
        }

    def _part(self, state: Mapping[str, NDArray[Any]], part: str) -> Weights:
        prefix = f"{part}/"
        named = {name.removeprefix(prefix): np.asarray(state[name]) for name in state if name.startswith(prefix)}
        check_weights(self._network.settings, named)
        return named

    def _neutral(self, variables: Sequence[keras.Variable]) -> Weights:
        return {n: to_neutral(n, to_numpy(v)) for n, v in zip(self._named, variables, strict=True)}


def make_trainer(
    network: keras.Model, process: ReverseProcess, objective: str, recipe: TrainingRecipe, execution: Execution
) -> KerasTrainer:
    """A trainer of `network`, which is trained in place."""
    return KerasTrainer(network, process, objective, recipe, execution)
