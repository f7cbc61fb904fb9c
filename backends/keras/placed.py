"""A network and its process on the device of Keras's engine: `backends.interface.PlacedModel`, by name."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from backends.interface import Execution
from backends.keras import arrays, losses, probability_flow
from backends.keras.arrays import KerasNamespace, on_device
from backends.keras.engines import ENGINE
from backends.keras.network import run_network
from backends.keras.training import KerasTrainer
from backends.parts import F, Network
from backends.placed import Placed
from backends.recipe import TrainingRecipe
from core.arrays import Array
from core.learned_schedule import LearnedSchedule
from core.objectives import Objective
from core.reverse import ReverseProcess


class PlacedModel(Placed[KerasNamespace]):
    """A `keras.Model` and its process on one device."""

    namespace = staticmethod(arrays.namespace)
    to_numpy = staticmethod(arrays.to_numpy)
    loss_and_gradients = losses.loss_and_gradients
    bound_terms = losses.bound_terms
    flow_field = probability_flow.flow_field

    def trainer(
        self, objective: str | Objective, recipe: TrainingRecipe, learned: LearnedSchedule | None = None
    ) -> KerasTrainer:
        return KerasTrainer(self, objective, recipe, learned)

    def evaluate(self, network: Network, x_t: Array, t: Array) -> Array:
        return run_network(network, x_t, t)

    def compiled(self, function: F) -> F:
        return ENGINE.compiled(function, self.network.variables, self.execution.compile)  # type: ignore[return-value]

    def placing(self) -> AbstractContextManager[Any]:
        return on_device(self.execution.device)

    def evaluating(self) -> AbstractContextManager[Any]:
        return self.placing()


def place(network: Any, process: ReverseProcess, execution: Execution) -> PlacedModel:
    return PlacedModel(network, process, execution)
