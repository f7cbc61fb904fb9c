"""What losses, chains, the probability flow and trainers are written with: a network and its process on a device.

A framework says how its arrays get to the device and back and how a function of the network is compiled; none of those
who use these parts checks the network against the process or casts the process's tables again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from numpy.typing import NDArray

from backends.checks import check_draws, check_network
from backends.interface import Draws, Execution
from core.arrays import Array, ArrayNamespace
from core.objectives import NoisedBatch, noised_batch
from core.reverse import ReverseProcess, ReverseSteps

Network = Callable[[Array, Array], Array]
"""network(x_t, t), called with arrays of the device."""

F = TypeVar("F", bound=Callable[..., Any])


class DeviceNamespace(Protocol):
    """The array functions of `core` on a device, and the ways there."""

    def asarray(self, x: Any) -> Any:
        """`x` in the working dtype on the device."""

    def integers(self, x: Any) -> Any:
        """Steps and other indices, on the device."""

    def steps(self, t: int, count: int) -> Any:
        """The step t for so many examples, on the device."""

    def as_shared(self) -> ArrayNamespace: ...


X = TypeVar("X", bound=DeviceNamespace)


class DeviceDraws(NamedTuple):
    """`Draws` on the device.

    `network_t` (N,) are the steps that the network is called with: those of the chain it was trained on.
    """

    x_0: Array
    epsilon: Array
    t: Array
    network_t: Array
    weight: Array


class Parts(ABC, Generic[X]):
    """A network and its process where an execution runs them; `xp` are the array functions of its device and dtype.

    ValueError where the output of the network is not what the process takes.
    """

    def __init__(self, network: Any, process: ReverseProcess, execution: Execution, xp: X) -> None:
        check_network(network.settings, process)
        self.network, self.process, self.execution, self.xp = network, process, execution, xp

    @cached_property
    def cast(self) -> ReverseProcess:
        """The process with its tables on the device, in the working dtype."""
        with self.placing():
            return self.process.cast(self.xp.asarray)

    def upload(self, draws: Draws) -> DeviceDraws:
        """The draws on the device, once they are checked on the host."""
        check_draws(draws, self.network.settings, self.process)
        return DeviceDraws(
            self.xp.asarray(draws.x_0),
            self.xp.asarray(draws.epsilon),
            self.xp.integers(draws.t),
            self.xp.integers(self.process.schedule.steps[draws.t]),
            self.xp.asarray(draws.weight),
        )

    def run_batch(self, network: Network, process: ReverseSteps, draws: DeviceDraws) -> tuple[NoisedBatch, Array]:
        """The noised batch and the output for it, of `network` in place of the model's own."""
        batch = noised_batch(process, draws.x_0, draws.epsilon, draws.t, self.xp.as_shared())
        return batch, self.evaluate(network, batch.x_t, draws.network_t)

    @abstractmethod
    def evaluate(self, network: Network, x_t: Array, t: Array) -> Array:
        """network(x_t, t) in the execution's arithmetic; the output has the dtype of x_t."""

    @abstractmethod
    def compiled(self, function: F) -> F:
        """A function that calls the model's network, as the execution compiles it."""

    @abstractmethod
    def placing(self) -> AbstractContextManager[Any]:
        """The scope in which new arrays land on the device."""

    @abstractmethod
    def evaluating(self) -> AbstractContextManager[Any]:
        """The same, for work that no gradient is taken of."""

    @abstractmethod
    def to_numpy(self, x: Any) -> NDArray[Any]:
        """A copy on the host, in the dtype it has."""
