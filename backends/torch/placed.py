"""A network and its process on PyTorch's device: `backends.interface.PlacedModel`, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from backends import chains
from backends.interface import BoundTerms, Draws, Execution, Weights
from backends.placed import F, Network, Placed
from backends.recipe import TrainingRecipe
from backends.torch import losses, probability_flow
from backends.torch.arrays import TorchNamespace, maybe_compiled, namespace, to_numpy
from backends.torch.network import run_network
from backends.torch.training import TorchTrainer
from core.learned_schedule import LearnedSchedule
from core.objectives import Objective
from core.probability_flow import ProbedField
from core.reverse import ReverseProcess
from core.samplers import SamplerStep


class PlacedModel(Placed[TorchNamespace]):
    """An `nn.Module` and its process on one device."""

    def __init__(self, network: Any, process: ReverseProcess, execution: Execution) -> None:
        super().__init__(network, process, execution, namespace(execution))

    def on(self, process: ReverseProcess) -> PlacedModel:
        return PlacedModel(self.network, process, self.execution)

    def trainer(
        self, objective: str | Objective, recipe: TrainingRecipe, learned: LearnedSchedule | None = None
    ) -> TorchTrainer:
        return TorchTrainer(self, objective, recipe, learned)

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

    def evaluate(self, network: Network, x_t: Tensor, t: Tensor) -> Tensor:
        return run_network(network, x_t, t, self.execution)

    def compiled(self, function: F) -> F:
        return maybe_compiled(function, self.execution)

    def placing(self) -> AbstractContextManager[Any]:
        return torch.inference_mode(False)  # what is made within inference mode cannot be trained with

    def evaluating(self) -> AbstractContextManager[Any]:
        return torch.inference_mode()

    def to_numpy(self, x: Tensor) -> NDArray[Any]:
        return to_numpy(x)


def place(network: Any, process: ReverseProcess, execution: Execution) -> PlacedModel:
    return PlacedModel(network, process, execution)
