"""Sampling: the reverse chain from x_T to x_0, with noise given step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.interface import Execution
from backends.keras.arrays import namespace, on_device, to_numpy
from backends.keras.engines import ENGINE
from backends.keras.likelihood import check_network
from backends.keras.network import MLP, UNet, run_network
from core.arrays import Array
from core.reverse import ReverseProcess
from core.samplers import SamplerStep


def sample(
    network: UNet | MLP,
    process: ReverseProcess,
    sampler: SamplerStep,
    x_T: NDArray[Any],
    noise: Callable[[int], NDArray[Any]],
    execution: Execution,
    keep: Sequence[int] = (),
) -> tuple[NDArray[Any], dict[int, NDArray[Any]]]:
    """Runs t = T, ..., 1 of `process` from x_T (N, ...), with noise(t) (N, ...) at each step.

    Returns x_0, and the x_0_hat formed at each step in `keep`. A respaced process has fewer steps than the network
    was trained with; the network is told the steps of its own chain.
    """
    check_network(network, process)
    kept_steps = {int(t) for t in process.schedule.check_steps(np.asarray(keep, np.int64))}
    expected = (len(x_T), *network.settings.shape)
    if x_T.shape != expected:
        raise ValueError(f"x_T has shape {expected} for this network, got {x_T.shape}")
    xp = namespace(execution)
    run = _compiled_step(network, process, sampler, execution)
    kept: dict[int, Array] = {}
    with on_device(execution.device):
        x = xp.asarray(x_T)
        x_0_hat = ops.zeros_like(x)
        for t in range(process.num_steps, 0, -1):
            steps, told = (xp.integers(np.full(len(x_T), step)) for step in (t, process.schedule.steps[t]))
            x, x_0_hat = run(x, xp.asarray(noise(t)), steps, told, x_0_hat)
            if t in kept_steps:
                kept[t] = x_0_hat
    return to_numpy(x), {t: to_numpy(x_0_hat) for t, x_0_hat in kept.items()}


@lru_cache(maxsize=1)
def _compiled_step(
    network: UNet | MLP, process: ReverseProcess, sampler: SamplerStep, execution: Execution
) -> Callable[..., tuple[Array, Array]]:
    """One step of the chain; the last one is kept, so that samples drawn in several calls are compiled for once."""
    xp = namespace(execution)
    with on_device(execution.device):
        cast = process.cast(xp.asarray)

    def forward(x_t: Array, noise: Array, t: Array, told: Array, previous: Array) -> tuple[Array, Array]:
        output = ops.stop_gradient(run_network(network, x_t, told))
        return sampler(cast, x_t, output, t, noise, previous, xp.as_shared())

    return ENGINE.compiled(forward, network.variables, execution.compile)
