"""Pieces to train a network by `compile` and `fit`, on any engine: an optimiser and a model whose loss is an objective.

model = DiffusionModel(network, process, "epsilon_mse")
model.compile(Adam(2e-3, global_clipnorm=1.0))
model.fit({"x_0": x_0, "epsilon": epsilon, "t": t}, batch_size=128)
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from backends.keras.arrays import KerasNamespace, mean
from backends.keras.layers import PACKAGE
from backends.keras.network import MLP, UNet, run_network
from core.arrays import Array
from core.objectives import Objective, as_objective, check_objective, noised_batch, training_loss, unit_scale
from core.reverse import ReverseProcess


@keras.saving.register_keras_serializable(PACKAGE)
class Adam(keras.optimizers.Adam):
    """Adam as in Kingma & Ba (2015), Algorithm 1: epsilon is added to sqrt(v_hat), after the bias correction.

    Keras adds it before, so that its epsilon shrinks with the bias of v (tensorflow/tensorflow#35102). Arguments as for
    `keras.optimizers.Adam`.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        rate, gradient = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        step = ops.cast(self.iterations + 1, variable.dtype)
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign_add(v, (gradient * gradient - v) * (1 - self.beta_2))
        # 1 - beta^step would lose half the digits of float32 in the first steps.
        m_hat = m / -ops.expm1(step * math.log(self.beta_1))
        v_hat = v / -ops.expm1(step * math.log(self.beta_2))
        self.assign_sub(variable, rate * m_hat / (ops.sqrt(v_hat) + self.epsilon))


class DiffusionModel(keras.Model):
    """A network with its process and objective: takes draws by name, x_0 and epsilon (N, ...) and integer t (N,).

    Returns the training loss per example (N,), times `unit_scale` and, where draws have one, their weight (N,), which
    is not `sample_weight`, because Keras drops that where there is no y. `fit` minimises the mean. Steps outside 1..T
    are not seen on a device: `process.schedule.check_steps(t)` first.
    """

    def __init__(
        self, network: UNet | MLP, process: ReverseProcess, objective: str | Objective, **options: Any
    ) -> None:
        check_objective(objective, process.variance)
        super().__init__(dtype=network.policy, **options)
        self.network, self.process, self.objective = network, process, as_objective(objective)
        self._xp = KerasNamespace(self.variable_dtype)
        self._cast = process.cast(self._xp.asarray)
        self._told = self._xp.integers(process.schedule.steps)

    def call(self, draws: dict[str, Any]) -> Array:
        xp = self._xp.as_shared()
        x_0, epsilon = (ops.cast(draws[name], self.variable_dtype) for name in ("x_0", "epsilon"))
        t = ops.cast(_as_vector(draws["t"]), "int32")
        batch = noised_batch(self._cast, x_0, epsilon, t, xp)
        output = run_network(self.network, batch.x_t, ops.take(self._told, t, axis=0))
        loss = training_loss(self._cast, self.objective, batch, output, xp) * unit_scale(self.process, self.objective)
        return loss * ops.cast(_as_vector(draws["weight"]), loss.dtype) if "weight" in draws else loss

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Array:
        return mean(y_pred)


def _as_vector(column: Any) -> Array:
    """(N,) from (N, 1), which is how `fit` hands vectors on."""
    return ops.reshape(column, (-1,))
