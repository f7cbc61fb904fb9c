"""Sampling: the reverse chain from x_T to x_0, with noise given step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from backends.chains import Family, family_of, run_chain
from backends.checks import check_network
from backends.interface import Execution
from backends.torch.arrays import maybe_compiled, namespace, to_numpy
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
    check_network(network.settings, process)
    xp = namespace(execution)

    def steps(t: int) -> Tensor:
        return torch.full((len(x_T),), t, device=xp.device)

    with torch.inference_mode():
        step = _step(network, family_of(process), sampler, execution)
        x_0, kept = run_chain(step, process, network.settings.shape, x_T, noise, keep, xp.asarray, steps)
    return to_numpy(x_0), {t: to_numpy(x_0_hat) for t, x_0_hat in kept.items()}


@lru_cache(maxsize=4)
def _step(
    network: Network, family: Family, sampler: SamplerStep, execution: Execution
) -> Callable[..., tuple[Tensor, Tensor]]:
    """One step of a chain, the last few kept: samples drawn in several calls, by chains of any length, share one."""
    shared = namespace(execution).as_shared()

    def forward(
        x_t: Tensor, noise: Tensor, place: Tensor, told: Tensor, previous: Tensor, tables: Tensor
    ) -> tuple[Tensor, Tensor]:
        output = run_network(network, x_t, told, execution)
        return sampler(family.process.with_tables(tables), x_t, output, place, noise, previous, shared)

    return maybe_compiled(forward, execution)
