"""Networks of the same settings trained as one program: a map over their weights, one optimiser over all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends import states, trains_together
from backends.checks import check_draws, check_network
from backends.groups import Members, Part
from backends.interface import Draws, Execution, Weights
from backends.keras.arrays import mean, namespace, on_device, to_numpy
from backends.keras.engines import ENGINE
from backends.keras.losses import losses, run_batch, upload
from backends.keras.network import make_network, neutral_variables
from backends.keras.optimiser import FlatOptimiser
from backends.networks import NetworkSettings
from backends.recipe import TrainingRecipe
from core.arrays import Array
from core.objectives import Losses, NoisedBatch, Objective
from core.reverse import ReverseProcess


class KerasGroupTrainer:
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
        if not trains_together("keras", settings):
            raise ValueError(f"Keras on {ENGINE.name} does not train such networks together; train them one by one")
        self.step_count = 0
        self._members = Members(settings, process, objectives)
        self._process, self._execution = process, execution
        self._xp = namespace(execution)
        self._structure = make_network(settings, weights[0], execution)  # its weights are those given with each call
        check_network(self._structure.settings, process)
        self._variables = [variable for _, variable in neutral_variables(self._structure)]
        with on_device(execution.device):
            rows = self._members.flat(weights)
            self._weights = keras.Variable(rows, dtype=self._xp.dtype)
            self._optimiser = FlatOptimiser(recipe, rows, self._xp.dtype)
            self._step = self._compiled_step(process.cast(self._xp.asarray))

    def _compiled_step(self, process: ReverseProcess) -> Callable[..., Losses]:
        def minimised(x_0: Array, epsilon: Array, t: Array, told: Array, weight: Array) -> tuple[Array, Losses]:
            batch, output = run_batch(self._networks, process, self._xp, x_0, epsilon, t, told)
            each = [self._part(part, process, weight, batch, output) for part in self._members.parts]
            sums, recorded = zip(*each, strict=True)
            return sum(sums), Losses(*map(ops.concatenate, zip(*recorded, strict=True)))

        differentiated = ENGINE.differentiated(minimised, [self._weights])

        def step(numbers: Array, *draws: Array) -> Losses:
            (_, recorded), (gradient,) = differentiated(*draws)
            self._weights.assign(self._optimiser.moved(self._weights.value, gradient, numbers))
            return recorded

        changing = [self._weights, *self._optimiser.variables.values()]
        return ENGINE.compiled(step, changing, self._execution.compile)

    def _networks(self, x_t: Array, told: Array) -> Array:
        """Each member's network on its part of the batch: (M * N, ...), (M * N,) -> (M * N, ...)."""
        members = self._members
        bounds = np.cumsum(members.sizes)[:-1].tolist()
        pieces = zip(ops.split(self._weights.value, bounds, axis=1), members.shapes.values(), strict=True)
        stacked = [_from_neutral(ops.reshape(piece, (len(members), *shape))) for piece, shape in pieces]

        def one(weights: list[Array], x_t: Array, told: Array) -> Array:
            with keras.StatelessScope(state_mapping=list(zip(self._variables, weights, strict=True))):
                return self._structure(x_t, told)

        output = ENGINE.mapped(one)(stacked, self._by_member(x_t), self._by_member(told))
        return ops.reshape(output, (-1, *output.shape[2:]))

    def _by_member(self, x: Array) -> Array:
        return ops.reshape(x, (len(self._members), -1, *x.shape[1:]))

    def _part(
        self, part: Part, process: ReverseProcess, weight: Array, batch: NoisedBatch, output: Array
    ) -> tuple[Array, Losses]:
        """What the members that share an objective minimise, their sum (), and what is recorded of them."""

        def of(x: Array) -> Array:
            return ops.reshape(self._by_member(x)[part.first : part.last], (-1, *x.shape[1:]))

        batch = NoisedBatch(of(batch.x_0), of(batch.epsilon), of(batch.t), of(batch.x_t))
        trained, recorded = losses(process, part.objective, batch, of(output), self._xp)
        return mean(of(weight) * trained) * (part.scale * (part.last - part.first)), recorded

    def step(self, draws: Sequence[Draws]) -> Losses:
        """One optimiser step of every member; returns the losses without waiting for the device."""
        joined = self._members.joined(draws)
        check_draws(joined, self._members.settings, self._process)
        number = self.step_count + 1
        with on_device(self._execution.device):
            numbers = self._optimiser.numbers_at(number, self._xp)
            handle = self._step(numbers, *upload(self._xp, joined, self._process))
        self.step_count = number
        return handle

    def losses(self, handle: Losses) -> list[Losses]:
        return self._members.losses(Losses(*map(to_numpy, handle)))

    def weights(self, member: int, *, ema: bool = True) -> Weights:
        return self._named(self._optimiser.average if ema else self._weights, member)

    def state(self, member: int) -> Weights:
        return states.joined({part: self._named(rows, member) for part, rows in self._rows().items()}, self.step_count)

    def load_states(self, given: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Goes on from the members' states, or raises a ValueError in one line and changes nothing."""
        parts, step = self._members.loaded(given)
        for part, variable in self._rows().items():
            variable.assign(parts[part])
        self.step_count = step

    def _rows(self) -> dict[str, keras.Variable]:
        return {"weights": self._weights, **self._optimiser.variables}

    def _named(self, rows: keras.Variable, member: int) -> Weights:
        return self._members.named(to_numpy(rows.value[self._members.row[member]]))


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
