"""`backends.interface.PlacedModel` as far as every framework has it alike: on another process, and sampled."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

from numpy.typing import NDArray

from backends import chains
from backends.interface import Execution
from backends.parts import Parts, X
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

    def sample(
        self,
        sampler: SamplerStep,
        x_T: NDArray[Any],
        noise: Callable[[int], NDArray[Any]] | None,
        keep: Sequence[int] = (),
    ) -> tuple[NDArray[Any], dict[int, NDArray[Any]]]:
        return chains.sample(self, sampler, x_T, noise, keep)
