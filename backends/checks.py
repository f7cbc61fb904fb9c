"""What is checked on the host before anything reaches a device, which would clamp a wrong step in silence."""

from __future__ import annotations

import numpy as np

from backends.interface import Draws
from backends.networks import NetworkSettings
from core.reverse import ReverseProcess


def check_network(settings: NetworkSettings, process: ReverseProcess) -> None:
    """ValueError where the output of a network of these settings is not what the process takes."""
    has, needs = settings.learns_variance, process.learns_variance
    if has != needs:
        raise ValueError(
            f"a process with variance {process.variance} needs a network with learns_variance={needs}, got {has}"
        )


def check_draws(draws: Draws, settings: NetworkSettings, process: ReverseProcess) -> None:
    """ValueError for steps outside 1..T, data of another shape than the network's, and data that is not finite."""
    process.schedule.check_steps(draws.t)
    expected = (len(draws.t), *settings.shape)
    for name, array in (("x_0", draws.x_0), ("epsilon", draws.epsilon)):
        if array.shape != expected:
            raise ValueError(f"{name} has shape {expected} for this network and these steps, got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is finite, got NaN or infinite values; clean the data first")
    if draws.weight.shape != draws.t.shape:
        raise ValueError(f"weight has one value per step, {draws.t.shape}, got {draws.weight.shape}")
