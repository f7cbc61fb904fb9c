"""Small processes, networks and draws, and the numpy execution that the PyTorch one is held to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import backends.torch as backend
from backends.interface import Draws, Execution, Weights
from backends.networks import MLPSettings, NetworkSettings, UNetSettings, weight_specs
from core.objectives import NoisedBatch, noised_batch
from core.reverse import ReverseProcess

FLOAT64 = Execution(device="cpu", dtype="float64")
FLOAT32 = Execution(device="cpu", dtype="float32")


def random_weights(settings: NetworkSettings, seed: int = 0, size: float = 0.3) -> Weights:
    """Weights with nothing left at 0 or 1, so that every path through the network shows in its output."""
    rng = np.random.default_rng(seed)
    return {
        name: (spec.start == "ones") + size * rng.standard_normal(spec.shape)
        for name, spec in weight_specs(settings).items()
    }


def mlp_settings(learns_variance: bool = False) -> MLPSettings:
    return MLPSettings((3,), width=16, depth=2, time_features=8, learns_variance=learns_variance)


def unet_settings(learns_variance: bool = False) -> UNetSettings:
    return UNetSettings((4, 4, 1), widths=(8, 16), norm_groups=4, learns_variance=learns_variance)


def make_draws(process: ReverseProcess, shape: tuple[int, ...], count: int = 12, seed: int = 0) -> Draws:
    """Draws at both ends of the chain and between; x_0 on the process's levels where it has them."""
    rng = np.random.default_rng(seed)
    size = (count, *shape)
    x_0 = rng.uniform(-1, 1, size)
    if process.levels is not None:
        x_0 = rng.integers(0, process.levels, size) * (2 / (process.levels - 1)) - 1
    t = rng.integers(1, process.num_steps + 1, count)
    t[:3] = 1, 2, process.num_steps
    return Draws(x_0, rng.standard_normal(size), t, rng.uniform(0.5, 2, count))


def numpy_batch(network: Any, process: ReverseProcess, draws: Draws) -> tuple[NoisedBatch, np.ndarray]:
    """The batch in float64 numpy, and the network's output for it."""
    batch = noised_batch(process, draws.x_0, draws.epsilon, draws.t)
    return batch, call(network, batch.x_t, process.schedule.steps[draws.t])


def call(network: Any, x_t: np.ndarray, told: np.ndarray) -> np.ndarray:
    """network(x_t, told) as float64 numpy."""
    dtype = next(network.parameters()).dtype
    with torch.no_grad():
        output = network(torch.tensor(x_t, dtype=dtype), torch.tensor(told))
    return output.numpy().astype(np.float64)


def small_network(process: ReverseProcess, execution: Execution = FLOAT64, size: float = 0.3) -> Any:
    """An MLP fit for a process."""
    settings = mlp_settings(process.learns_variance)
    return backend.make_network(settings, random_weights(settings, size=size), execution)
