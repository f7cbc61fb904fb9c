"""The reverse chain from x_T to x_0 as every framework runs it: compiled steps, and noise made ahead of its step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.arrays import Array
from core.reverse import ReverseProcess
from core.variances import Variance

Step = Callable[..., tuple[Array, Array]]
"""(x_t, noise, place, told, previous, tables) -> x_{t-1}, x_0_hat; the last of what `ReverseProcess.windows` gives."""


@dataclass(frozen=True)
class Family:
    """What a step depends on beside its tables: all chains of a family share one compiled step."""

    variance: Variance
    process: ReverseProcess = field(compare=False)


def family_of(process: ReverseProcess) -> Family:
    return Family(process.variance, process)


def run_chain(
    step: Step,
    process: ReverseProcess,
    shape: tuple[int, ...],
    x_T: NDArray[Any],
    noise: Callable[[int], NDArray[Any]] | None,
    keep: Sequence[int],
    asarray: Callable[[Any], Array],
    steps: Callable[[int], Array],
) -> tuple[Array, dict[int, Array]]:
    """x_0, and the x_0_hat formed at each step in `keep`, on the device: `backends.interface.Backend.sample`.

    Examples are of `shape`. `asarray` takes an array of the host to the device, `steps` a step to (N,) of it there.
    """
    kept_steps = {int(t) for t in process.schedule.check_steps(np.asarray(keep, np.int64))}
    expected = (len(x_T), *shape)
    if x_T.shape != expected:
        raise ValueError(f"x_T has shape {expected} for this network, got {x_T.shape}")
    tables, places = process.windows()
    kept: dict[int, Array] = {}
    x = asarray(x_T)
    x_0_hat = 0 * x
    ahead = x_0_hat if noise is None else asarray(noise(process.num_steps))
    for t in range(process.num_steps, 0, -1):
        place, told = steps(int(places[t - 1])), steps(int(process.schedule.steps[t]))
        x, x_0_hat = step(x, ahead, place, told, x_0_hat, asarray(tables[t - 1]))
        if noise is not None and t > 1:  # while a device is busy with this step
            ahead = asarray(noise(t - 1))
        if t in kept_steps:
            kept[t] = x_0_hat
    return x, kept
