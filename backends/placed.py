"""`backends.interface.PlacedModel` as far as every framework has it alike: on another process, forward, sampled."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backends import chains
from backends.checks import check_points
from backends.interface import Execution, Forward
from backends.parts import Parts, X
from core.arrays import Array
from core.reverse import ReverseProcess
from core.samplers import SamplerStep


class Placed(Parts[X]):
    """A placed model but for its trainer, losses, bound terms and flow field, which differentiate.

    A framework's own class says in `namespace` what the array functions of an execution are.
    """

    @staticmethod
    @abstractmethod
    def namespace(execution: Execution) -> X: ...

    def __init__(self, network: Any, process: ReverseProcess, execution: Execution) -> None:
        super().__init__(network, process, execution, type(self).namespace(execution))

    def on(self, process: ReverseProcess) -> Self:
        return type(self)(self.network, process, self.execution)

    def forward(self) -> Forward:
        """`backends.interface.PlacedModel.forward`."""

        def evaluate(x_t: Array, network_t: Array) -> Array:
            return self.evaluate(self.network, x_t, network_t)

        run = self.compiled(evaluate)

        def forward(x_t: NDArray[Any], t: NDArray[np.int64], times: int = 1) -> NDArray[Any]:
            check_points(x_t, t, self.network.settings, self.process)
            if times < 1:
                raise ValueError(f"the network is evaluated at least once, got times={times}")
            with self.evaluating():
                x, network_t = self.xp.asarray(x_t), self.xp.integers(self.process.schedule.steps[t])
                for _ in range(times):
                    output = run(x, network_t)
            return self.to_numpy(output)

        return forward

    def sample(
        self,
        sampler: SamplerStep,
        x_T: NDArray[Any],
        noise: Callable[[int], NDArray[Any]] | None,
        keep: Sequence[int] = (),
    ) -> tuple[NDArray[Any], dict[int, NDArray[Any]]]:
        return chains.sample(self, sampler, x_T, noise, keep)
