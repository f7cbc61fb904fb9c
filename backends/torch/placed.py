"""A network and its process on PyTorch's device: `backends.interface.PlacedModel`, by name."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from backends.interface import Execution
from backends.parts import F, Network
from backends.placed import Placed
from backends.recipe import TrainingRecipe
from backends.torch import arrays, losses, probability_flow
from backends.torch.arrays import TorchNamespace, maybe_compiled
from backends.torch.network import run_network
from backends.torch.training import TorchTrainer
from core.learned_schedule import LearnedSchedule
from core.objectives import Objective
from core.reverse import ReverseProcess


class PlacedModel(Placed[TorchNamespace]):
    """An `nn.Module` and its process on one device."""

    namespace = staticmethod(arrays.namespace)
    to_numpy = staticmethod(arrays.to_numpy)
    loss_and_gradients = losses.loss_and_gradients
    bound_terms = losses.bound_terms
    flow_field = probability_flow.flow_field

    def trainer(
        self, objective: str | Objective, recipe: TrainingRecipe, learned: LearnedSchedule | None = None
    ) -> TorchTrainer:
        return TorchTrainer(self, objective, recipe, learned)

    def evaluate(self, network: Network, x_t: Tensor, t: Tensor) -> Tensor:
        return run_network(network, x_t, t, self.execution)

    def compiled(self, function: F) -> F:
        return maybe_compiled(function, self.execution)

    def placing(self) -> AbstractContextManager[Any]:
        return torch.inference_mode(False)  # what is made within inference mode cannot be trained with

    def evaluating(self) -> AbstractContextManager[Any]:
        return torch.inference_mode()


def place(network: Any, process: ReverseProcess, execution: Execution) -> PlacedModel:
    return PlacedModel(network, process, execution)
