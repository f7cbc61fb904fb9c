"""A network and its process on the device of Keras's engine: `backends.interface.PlacedModel`, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from numpy.typing import NDArray

from backends import chains
from backends.interface import BoundTerms, Draws, Execution, Weights
from backends.keras import losses, probability_flow
from backends.keras.arrays import KerasNamespace, namespace, on_device, to_numpy
from backends.keras.engines import ENGINE
from backends.keras.network import run_network
from backends.keras.training import KerasTrainer
from backends.placed import F, Network, Placed
from backends.recipe import TrainingRecipe
from core.arrays import Array
from core.learned_schedule import LearnedSchedule
from core.objectives import Objective
from core.probability_flow import ProbedField
from core.reverse import ReverseProcess
from core.samplers import SamplerStep


class PlacedModel(Placed[KerasNamespace]):
    """A `keras.Model` and its process on one device."""

    def __init__(self, network: Any, process: ReverseProcess, execution: Execution) -> None:
        super().__init__(network, process, execution, namespace(execution))

    def on(self, process: ReverseProcess) -> PlacedModel:
        return PlacedModel(self.network, process, self.execution)

    def trainer(
        self, objective: str | Objective, recipe: TrainingRecipe, learned: LearnedSchedule | None = None
    ) -> KerasTrainer:
        return KerasTrainer(self, objective, recipe, learned)

    def loss_and_gradients(self, objective: str | Objective, draws: Draws) -> tuple[NDArray[Any], Weights]:
        return losses.loss_and_gradients(self, objective, draws)

    def bound_terms(self) -> BoundTerms:
        return losses.bound_terms(self)

    def flow_field(self) -> ProbedField:
        return probability_flow.flow_field(self)

    def sample(
        self,
        sampler: SamplerStep,
        x_T: NDArray[Any],
        noise: Callable[[int], NDArray[Any]] | None,
        keep: Sequence[int] = (),
    ) -> tuple[NDArray[Any], dict[int, NDArray[Any]]]:
        return chains.sample(self, sampler, x_T, noise, keep)

    def evaluate(self, network: Network, x_t: Array, t: Array) -> Array:
        return run_network(network, x_t, t)

    def compiled(self, function: F) -> F:
        return ENGINE.compiled(function, self.network.variables, self.execution.compile)  # type: ignore[return-value]

    def placing(self) -> AbstractContextManager[Any]:
        return on_device(self.execution.device)

    def evaluating(self) -> AbstractContextManager[Any]:
        return self.placing()

    def to_numpy(self, x: Any) -> NDArray[Any]:
        return to_numpy(x)


def place(network: Any, process: ReverseProcess, execution: Execution) -> PlacedModel:
    return PlacedModel(network, process, execution)
