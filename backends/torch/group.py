"""Networks of the same settings trained as one program: `vmap` over their weights, one optimiser over all of them.

On a GPU small networks wait for launches, and a group needs as many as one network does. The convolutions that `vmap`
makes of members' own are grouped ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from backends.groups import Members, Part, StackedTrainer
from backends.interface import Draws, Execution, Weights
from backends.networks import NetworkSettings
from backends.parts import DeviceDraws
from backends.recipe import TrainingRecipe
from backends.torch.arrays import to_numpy
from backends.torch.losses import losses, process_for
from backends.torch.network import make_network
from backends.torch.optimiser import FlatOptimiser
from backends.torch.placed import PlacedModel
from core.objectives import Losses, NoisedBatch, Objective
from core.reverse import ReverseProcess, ReverseSteps


class TorchGroupTrainer(StackedTrainer):
    """Networks in training together (`backends.interface.GroupTrainer`)."""

    def __init__(
        self,
        settings: NetworkSettings,
        weights: Sequence[Weights],
        process: ReverseProcess,
        objectives: Sequence[str | Objective],
        recipe: TrainingRecipe,
        execution: Execution,
    ) -> None:
        super().__init__(Members(settings, process, objectives))
        structure = make_network(settings, weights[0], execution).to("meta")  # its weights are those given
        self._model = PlacedModel(structure, process, execution)
        self._weights = nn.Parameter(self._model.xp.asarray(self._members.flat(weights)))
        self._optimiser = FlatOptimiser(recipe, self._weights)
        self._run = self._model.compiled(self._forward)

    def _networks(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Each member's network on its part of the batch: (M * N, ...), (M * N,) -> (M * N, ...)."""
        count = len(self._members)
        pieces = self._weights.split(self._members.sizes, dim=1)
        shaped = zip(self._members.shapes.items(), pieces, strict=True)
        stacked = {name: piece.reshape(count, *shape) for (name, shape), piece in shaped}

        def of_member(weights: dict[str, Tensor], x_t: Tensor, t: Tensor) -> Tensor:
            return functional_call(self._model.network, weights, (x_t, t))

        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels would be called once a member
            output = torch.vmap(of_member)(stacked, x_t.unflatten(0, (count, -1)), t.unflatten(0, (count, -1)))
        return output.flatten(0, 1)

    def _forward(self, process: ReverseSteps, draws: DeviceDraws) -> tuple[Tensor, Losses]:
        """What is minimised (), the sum of what each member minimises, and what is recorded (M * N,), by row."""
        batch, output = self._model.run_batch(self._networks, process, draws)
        each = [self._part(part, process, draws, batch, output) for part in self._members.parts]
        minimised, recorded = zip(*each, strict=True)
        return torch.stack(minimised).sum(), Losses(*map(torch.cat, zip(*recorded, strict=True)))

    def _part(
        self, part: Part, process: ReverseSteps, draws: DeviceDraws, batch: NoisedBatch, output: Tensor
    ) -> tuple[Tensor, Losses]:
        """The same for the members that share an objective."""
        size = len(output) // len(self._members)
        rows = slice(part.first * size, part.last * size)
        batch = NoisedBatch(batch.x_0[rows], batch.epsilon[rows], batch.t[rows], batch.x_t[rows])
        trained, recorded = losses(process, part.objective, batch, output[rows], self._model.xp)
        return torch.sum(draws.weight[rows] * trained) * (part.scale / size), recorded

    def _update(self, joined: Draws, step: int) -> Losses:
        on_device = self._model.upload(joined)
        minimised, recorded = self._run(process_for(self._model, joined), on_device)
        self._weights.grad = None
        minimised.backward()
        self._optimiser.update(step)
        return recorded

    def _rows(self) -> dict[str, Tensor]:
        return self._optimiser.parts()

    def _load(self, parts: Mapping[str, NDArray[Any]], step: int) -> None:
        self._optimiser.load({part: self._model.xp.asarray(rows) for part, rows in parts.items()}, step)

    def _to_numpy(self, x: Tensor) -> NDArray[Any]:
        return to_numpy(x)


def make_group_trainer(
    settings: NetworkSettings,
    weights: Sequence[Weights],
    process: ReverseProcess,
    objectives: Sequence[str | Objective],
    recipe: TrainingRecipe,
    execution: Execution,
) -> TorchGroupTrainer:
    """A trainer of one network a member, from the member's weights, on the member's objective."""
    return TorchGroupTrainer(settings, weights, process, objectives, recipe, execution)
