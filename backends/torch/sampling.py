"""Sampling: the reverse chain from x_T to x_0, with noise given step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backends.interface import Execution
from backends.torch.arrays import maybe_compiled, namespace, to_numpy
from backends.torch.likelihood import check_network
from backends.torch.network import Network, run_network
from core.reverse import ReverseProcess
from core.samplers import SamplerStep


def sample(
    network: Network,
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
    check_network(network, process)
    kept_steps = {int(t) for t in process.schedule.check_steps(np.asarray(keep, np.int64))}
    expected = (len(x_T), *network.settings.shape)
    if x_T.shape != expected:
        raise ValueError(f"x_T has shape {expected} for this network, got {x_T.shape}")
    xp = namespace(execution)
    run = _step(network, _Family(process.variance, process), sampler, execution)
    tables, places = process.windows()
    kept: dict[int, Tensor] = {}
    with torch.inference_mode():
        x = xp.asarray(x_T)
        x_0_hat = torch.zeros_like(x)
        ahead = x_0_hat if noise is None else xp.asarray(noise(process.num_steps))
        for t in range(process.num_steps, 0, -1):
            place, told = (
                torch.full((len(x),), int(step), device=xp.device)
                for step in (places[t - 1], process.schedule.steps[t])
            )
            x, x_0_hat = run(x, ahead, place, told, x_0_hat, xp.asarray(tables[t - 1]))
            if noise is not None and t > 1:  # while a device is busy with this step
                ahead = xp.asarray(noise(t - 1))
            if t in kept_steps:
                kept[t] = x_0_hat
    return to_numpy(x), {t: to_numpy(x_0_hat) for t, x_0_hat in kept.items()}


@dataclass(frozen=True)
class _Family:
    """What a step depends on beside its tables: all chains of a family share one compiled step."""

    variance: str
    process: ReverseProcess = field(compare=False)


@lru_cache(maxsize=4)
def _step(
    network: Network, family: _Family, sampler: SamplerStep, execution: Execution
) -> Callable[..., tuple[Tensor, Tensor]]:
    """One step of a chain, the last few kept: samples drawn in several calls, by chains of any length, share one."""
    shared = namespace(execution).as_shared()

    def forward(
        x_t: Tensor, noise: Tensor, place: Tensor, told: Tensor, previous: Tensor, tables: Tensor
    ) -> tuple[Tensor, Tensor]:
        output = run_network(network, x_t, told, execution)
        return sampler(family.process.with_tables(tables), x_t, output, place, noise, previous, shared)

    return maybe_compiled(forward, execution)
