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

from backends import states
from backends.checks import check_draws, check_network
from backends.groups import Members, Part
from backends.interface import Draws, Execution, Weights
from backends.networks import NetworkSettings
from backends.recipe import TrainingRecipe
from backends.torch.arrays import maybe_compiled, namespace, to_numpy
from backends.torch.losses import DeviceDraws, losses, process_at, run_batch, upload
from backends.torch.network import make_network
from backends.torch.optimiser import FlatOptimiser
from core.objectives import Losses, NoisedBatch, Objective
from core.reverse import ReverseProcess


class TorchGroupTrainer:
    """Networks in training together (`backends.interface.GroupTrainer`).

    A member whose loss stops being finite spoils its own row and no other: nothing here mixes rows.
    """

    def __init__(
        self,
        settings: NetworkSettings,
        weights: Sequence[Weights],
        process: ReverseProcess,
        objectives: Sequence[str | Objective],
        recipe: TrainingRecipe,
        execution: Execution,
    ) -> None:
        self.step_count = 0
        self._members = Members(settings, process, objectives)
        self._process, self._execution = process, execution
        self._xp = namespace(execution)
        self._cast = process.cast(self._xp.asarray)
        self._weights = nn.Parameter(self._xp.asarray(self._members.flat(weights)))
        self._optimiser = FlatOptimiser(recipe, self._weights)
        self._structure = make_network(settings, weights[0], execution).to("meta")  # its weights are those given
        check_network(self._structure.settings, process)
        self._run = maybe_compiled(self._forward, execution)

    def _networks(self, x_t: Tensor, told: Tensor) -> Tensor:
        """Each member's network on its part of the batch: (M * N, ...), (M * N,) -> (M * N, ...)."""
        count = len(self._members)
        pieces = self._weights.split(self._members.sizes, dim=1)
        shaped = zip(self._members.shapes.items(), pieces, strict=True)
        stacked = {name: piece.reshape(count, *shape) for (name, shape), piece in shaped}

        def one(weights: dict[str, Tensor], x_t: Tensor, told: Tensor) -> Tensor:
            return functional_call(self._structure, weights, (x_t, told))

        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels would be called once a member
            output = torch.vmap(one)(stacked, x_t.unflatten(0, (count, -1)), told.unflatten(0, (count, -1)))
        return output.flatten(0, 1)

    def _forward(self, process: ReverseProcess, draws: DeviceDraws) -> tuple[Tensor, Losses]:
        """What is minimised (), the sum of what each member minimises, and what is recorded (M * N,), by row."""
        batch, output = run_batch(self._networks, process, draws, self._xp, self._execution)
        each = [self._part(part, process, draws, batch, output) for part in self._members.parts]
        minimised, recorded = zip(*each, strict=True)
        return torch.stack(minimised).sum(), Losses(*map(torch.cat, zip(*recorded, strict=True)))

    def _part(
        self, part: Part, process: ReverseProcess, draws: DeviceDraws, batch: NoisedBatch, output: Tensor
    ) -> tuple[Tensor, Losses]:
        """The same for the members that share an objective."""
        size = len(output) // len(self._members)
        rows = slice(part.first * size, part.last * size)
        batch = NoisedBatch(batch.x_0[rows], batch.epsilon[rows], batch.t[rows], batch.x_t[rows])
        trained, recorded = losses(process, part.objective, batch, output[rows], self._xp)
        return torch.sum(draws.weight[rows] * trained) * (part.scale / size), recorded

    def step(self, draws: Sequence[Draws]) -> Losses:
        """One optimiser step of every member; returns the losses without waiting for the device."""
        joined = self._members.joined(draws)
        check_draws(joined, self._members.settings, self._process)
        # Compiled, one process serves every batch: a second one would be a second compilation.
        process = self._cast if self._execution.compile else process_at(self._cast, joined.t)
        minimised, recorded = self._run(process, upload(self._xp, joined, self._process))
        self._weights.grad = None
        minimised.backward()
        self._optimiser.update(self.step_count + 1)
        self.step_count += 1
        return recorded

    def losses(self, handle: Losses) -> list[Losses]:
        return self._members.losses(Losses(*map(to_numpy, handle)))

    def weights(self, member: int, *, ema: bool = True) -> Weights:
        return self._named(self._optimiser.average if ema else self._weights, member)

    def state(self, member: int) -> Weights:
        parts = self._optimiser.parts().items()
        return states.joined({part: self._named(rows, member) for part, rows in parts}, self.step_count)

    def load_states(self, given: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Goes on from the members' states, or raises a ValueError in one line and changes nothing."""
        parts, step = self._members.loaded(given)
        self._optimiser.load({part: self._xp.asarray(rows) for part, rows in parts.items()}, step)
        self.step_count = step

    def _named(self, rows: Tensor, member: int) -> Weights:
        return self._members.named(to_numpy(rows[self._members.row[member]]))


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
