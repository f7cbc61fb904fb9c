"""What every part of the contract's tests is given: a backend, and its network as a numpy function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.interface import Backend, Draws, Execution
from core.objectives import NoisedBatch
from core.reverse import ReverseProcess
from tests.backends.reference import FLOAT64, Call, mlp_settings, numpy_batch, random_weights


class Contract(ABC):
    """Tests that hold for every backend: a test folder inherits them, and says which backend and how it is called."""

    backend: Backend

    @staticmethod
    @abstractmethod
    def call(network: Any, x_t: NDArray[Any], told: NDArray[Any]) -> NDArray[np.float64]:
        """network(x_t, told) as float64 numpy."""

    def bound(self, network: Any) -> Call:
        return partial(self.call, network)

    def small_network(self, process: ReverseProcess, execution: Execution = FLOAT64, size: float = 0.3) -> Any:
        """An MLP fit for a process."""
        settings = mlp_settings(process.learns_variance)
        return self.backend.make_network(settings, random_weights(settings, size=size), execution)

    def numpy_batch(self, network: Any, process: ReverseProcess, draws: Draws) -> tuple[NoisedBatch, NDArray[Any]]:
        return numpy_batch(self.bound(network), process, draws)
