"""The reverse chain from x_T to x_0 as every framework runs it: compiled steps, and noise made ahead of its step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.interface import Execution
from backends.parts import Parts
from core.arrays import Array
from core.samplers import SamplerStep
from core.variances import Variance

Step = Callable[..., tuple[Array, Array]]
"""(x_t, noise, place, network_t, previous, tables) -> x_{t-1}, x_0_hat; the last are what `ReverseProcess.windows`
gives.
"""


@dataclass(frozen=True)
class Family:
    """What a step depends on beside its sampler and its tables: all chains of a family share one compiled step."""

    network: Any
    variance: Variance
    execution: Execution
    model: Parts[Any] = field(compare=False)


def family_of(model: Parts[Any]) -> Family:
    return Family(model.network, model.process.variance, model.execution, model)


@lru_cache(maxsize=4)
def compiled_step(family: Family, sampler: SamplerStep) -> Step:
    """One step of a chain, compiled; the last few are remembered.

    Samples drawn in several calls, by chains of any length, share one compilation.
    """
    network, model = family.network, family.model
    process, shared = model.process, model.xp.as_shared()

    def step(
        x_t: Array, noise: Array, place: Array, network_t: Array, previous: Array, tables: Array
    ) -> tuple[Array, Array]:
        output = model.evaluate(network, x_t, network_t)
        return sampler(process.window(tables), x_t, output, place, noise, previous, shared)

    return model.compiled(step)


def sample(
    model: Parts[Any],
    sampler: SamplerStep,
    x_T: NDArray[Any],
    noise: Callable[[int], NDArray[Any]] | None,
    keep: Sequence[int] = (),
) -> tuple[NDArray[Any], dict[int, NDArray[Any]]]:
    """x_0, and the x_0_hat formed at each step in `keep`: `backends.interface.PlacedModel.sample`.

    A respaced process has fewer steps than the network was trained with; the network is called with those that its own
    chain has there.
    """
    with model.evaluating():
        x_0, x_0_hats = _run(model, compiled_step(family_of(model), sampler), x_T, noise, keep)
    return model.to_numpy(x_0), {t: model.to_numpy(x_0_hat) for t, x_0_hat in x_0_hats.items()}


def _run(
    model: Parts[Any],
    step: Step,
    x_T: NDArray[Any],
    noise: Callable[[int], NDArray[Any]] | None,
    keep: Sequence[int],
) -> tuple[Array, dict[int, Array]]:
    """The same, on the device."""
    xp, process, count = model.xp, model.process, len(x_T)
    wanted = {int(t) for t in process.schedule.check_steps(np.asarray(keep, np.int64))}
    expected = (count, *model.network.settings.shape)
    if x_T.shape != expected:
        raise ValueError(f"x_T has shape {expected} for this network, got {x_T.shape}")
    tables, places = process.windows()
    x_0_hats: dict[int, Array] = {}
    x = xp.asarray(x_T)
    x_0_hat = 0 * x
    ahead = x_0_hat if noise is None else xp.asarray(noise(process.num_steps))
    for t in range(process.num_steps, 0, -1):
        place, network_t = xp.steps(int(places[t - 1]), count), xp.steps(int(process.schedule.steps[t]), count)
        x, x_0_hat = step(x, ahead, place, network_t, x_0_hat, xp.asarray(tables[t - 1]))
        if noise is not None and t > 1:  # while a device is busy with this step
            ahead = xp.asarray(noise(t - 1))
        if t in wanted:
            x_0_hats[t] = x_0_hat
    return x, x_0_hats
