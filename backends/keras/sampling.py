"""Sampling: the reverse chain from x_T to x_0, with noise given step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.chains import Family, family_of, run_chain
from backends.checks import check_network
from backends.interface import Execution
from backends.keras.arrays import namespace, on_device, to_numpy
from backends.keras.engines import ENGINE
from backends.keras.network import MLP, UNet, run_network
from core.arrays import Array
from core.reverse import ReverseProcess
from core.samplers import SamplerStep


def sample(
    network: UNet | MLP,
    process: ReverseProcess,
    sampler: SamplerStep,
    x_T: NDArray[Any],
    noise: Callable[[int], NDArray[Any]] | None,
    execution: Execution,
    keep: Sequence[int] = (),
) -> tuple[NDArray[Any], dict[int, NDArray[Any]]]:
    """Runs t = T, ..., 1 of `process` from x_T (N, ...), with noise(t) (N, ...) at each step; None where none is added.

    Returns x_0, and the x_0_hat formed at each step in `keep`. A respaced process has fewer steps than the network
    was trained with; the network is told the steps of its own chain.
    """
    check_network(network.settings, process)
    xp = namespace(execution)

    def steps(t: int) -> Array:
        return xp.integers(np.full(len(x_T), t))

    with on_device(execution.device):
        step = _step(network, family_of(process), sampler, execution)
        x_0, kept = run_chain(step, process, network.settings.shape, x_T, noise, keep, xp.asarray, steps)
    return to_numpy(x_0), {t: to_numpy(x_0_hat) for t, x_0_hat in kept.items()}


@lru_cache(maxsize=4)
def _step(
    network: UNet | MLP, family: Family, sampler: SamplerStep, execution: Execution
) -> Callable[..., tuple[Array, Array]]:
    """One step of a chain, the last few kept: samples drawn in several calls, by chains of any length, share one."""
    shared = namespace(execution).as_shared()

    def forward(
        x_t: Array, noise: Array, place: Array, told: Array, previous: Array, tables: Array
    ) -> tuple[Array, Array]:
        output = ops.stop_gradient(run_network(network, x_t, told))
        return sampler(family.process.with_tables(tables), x_t, output, place, noise, previous, shared)

    return ENGINE.compiled(forward, network.variables, execution.compile)
