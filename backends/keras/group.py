"""Networks of the same settings trained as one program: a map over their weights, one optimiser over all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.groups import Members, Part, StackedTrainer
from backends.interface import Draws, Execution, Weights
from backends.keras.arrays import mean, to_numpy
from backends.keras.engines import ENGINE
from backends.keras.losses import losses
from backends.keras.network import make_network, neutral_variables
from backends.keras.optimiser import FlatOptimiser
from backends.keras.placed import PlacedModel
from backends.networks import NetworkSettings
from backends.parts import DeviceDraws
from backends.recipe import TrainingRecipe
from core.arrays import Array
from core.objectives import Losses, NoisedBatch, Objective
from core.reverse import ReverseProcess, ReverseSteps


class KerasGroupTrainer(StackedTrainer):
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
        if not ENGINE.capabilities.trains_together(settings):
            raise ValueError(f"Keras on {ENGINE.name} does not train such networks together; train them one by one")
        super().__init__(Members(settings, process, objectives))
        structure = make_network(settings, weights[0], execution)  # its weights are those given with each call
        self._model = PlacedModel(structure, process, execution)
        self._variables = [variable for _, variable in neutral_variables(structure)]
        with self._model.placing():
            rows = self._members.flat(weights)
            self._weights = keras.Variable(rows, dtype=self._model.xp.dtype)
            self._optimiser = FlatOptimiser(recipe, rows, self._model.xp.dtype)
            self._step = self._compiled_step()

    def _compiled_step(self) -> Callable[[Array, DeviceDraws], Losses]:
        model, process = self._model, self._model.cast

        def minimised(draws: DeviceDraws) -> tuple[Array, Losses]:
            batch, output = model.run_batch(self._networks, process, draws)
            each = [self._part(part, process, draws.weight, batch, output) for part in self._members.parts]
            sums, recorded = zip(*each, strict=True)
            return sum(sums), Losses(*map(ops.concatenate, zip(*recorded, strict=True)))

        differentiated = ENGINE.differentiated(minimised, [self._weights])

        def step(numbers: Array, draws: DeviceDraws) -> Losses:
            (_, recorded), (gradient,) = differentiated(draws)
            self._weights.assign(self._optimiser.moved(self._weights.value, gradient, numbers))
            return recorded

        changing = [self._weights, *self._optimiser.variables.values()]
        return ENGINE.compiled(step, changing, model.execution.compile)

    def _networks(self, x_t: Array, t: Array) -> Array:
        """Each member's network on its part of the batch: (M * N, ...), (M * N,) -> (M * N, ...)."""
        members = self._members
        bounds = np.cumsum(members.sizes)[:-1].tolist()
        pieces = zip(ops.split(self._weights.value, bounds, axis=1), members.shapes.values(), strict=True)
        stacked = [_from_neutral(ops.reshape(piece, (len(members), *shape))) for piece, shape in pieces]

        def of_member(weights: list[Array], x_t: Array, t: Array) -> Array:
            with keras.StatelessScope(state_mapping=list(zip(self._variables, weights, strict=True))):
                return self._model.network(x_t, t)

        output = ENGINE.mapped(of_member)(stacked, self._by_member(x_t), self._by_member(t))
        return ops.reshape(output, (-1, *output.shape[2:]))

    def _by_member(self, x: Array) -> Array:
        return ops.reshape(x, (len(self._members), -1, *x.shape[1:]))

    def _part(
        self, part: Part, process: ReverseSteps, weight: Array, batch: NoisedBatch, output: Array
    ) -> tuple[Array, Losses]:
        """What the members that share an objective minimise, their sum (), and what is recorded of them."""

        def of(x: Array) -> Array:
            return ops.reshape(self._by_member(x)[part.first : part.last], (-1, *x.shape[1:]))

        batch = NoisedBatch(of(batch.x_0), of(batch.epsilon), of(batch.t), of(batch.x_t))
        trained, recorded = losses(process, part.objective, batch, of(output), self._model.xp)
        return mean(of(weight) * trained) * (part.scale * (part.last - part.first)), recorded

    def _update(self, joined: Draws, step: int) -> Losses:
        with self._model.placing():
            return self._step(self._optimiser.numbers_at(step, self._model.xp), self._model.upload(joined))

    def _rows(self) -> dict[str, Array]:
        return {part: variable.value for part, variable in self._variables_of_parts().items()}

    def _variables_of_parts(self) -> dict[str, keras.Variable]:
        return {"weights": self._weights, **self._optimiser.variables}

    def _load(self, parts: Mapping[str, NDArray[Any]], step: int) -> None:
        for part, variable in self._variables_of_parts().items():
            variable.assign(parts[part])

    def _to_numpy(self, x: Any) -> NDArray[Any]:
        return to_numpy(x)


def _from_neutral(weight: Array) -> Array:
    """Stacked weights (M, ...) in Keras's layout: kernels (M, ..., in, out) from (M, out, in, ...)."""
    return ops.moveaxis(weight, (2, 1), (-2, -1)) if len(weight.shape) > 2 else weight


def make_group_trainer(
    settings: NetworkSettings,
    weights: Sequence[Weights],
    process: ReverseProcess,
    objectives: Sequence[str | Objective],
    recipe: TrainingRecipe,
    execution: Execution,
) -> KerasGroupTrainer:
    """A trainer of one network a member, from the member's weights, on the member's objective."""
    return KerasGroupTrainer(settings, weights, process, objectives, recipe, execution)
