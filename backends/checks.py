"""What is checked on the host before anything reaches a device, which would clamp a wrong step in silence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.interface import Draws
from backends.networks import NetworkSettings
from core.learned_schedule import LearnedSchedule, check_learnable
from core.objectives import Objective, as_objective, check_objective
from core.reverse import ReverseProcess


def check_network(settings: NetworkSettings, process: ReverseProcess) -> None:
    """ValueError where the output of a network of these settings is not what the process takes."""
    has, needs = settings.learns_variance, process.learns_variance
    if has != needs:
        raise ValueError(
            f"a process with variance {process.variance} needs a network with learns_variance={needs}, got {has}"
        )


def check_training(
    objective: str | Objective, process: ReverseProcess, learned: LearnedSchedule | None = None
) -> Objective:
    """The objective as a value. ValueError where it cannot train the process, or the schedule with it."""
    objective = as_objective(objective)
    check_objective(objective, process.variance)
    if learned is not None:
        check_learnable(objective)
        learned.check_start(process)
    return objective


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


def check_points(x_t: NDArray[Any], t: NDArray[Any], settings: NetworkSettings, process: ReverseProcess) -> None:
    """ValueError for steps outside 1..T, and for points of another shape than the network's or without a step each."""
    steps = process.schedule.check_steps(t)
    expected = (len(x_t), *settings.shape)
    if x_t.shape != expected or steps.shape != expected[:1]:
        raise ValueError(
            f"x_t has shape {expected} and t {expected[:1]} for this network, got {x_t.shape} and {steps.shape}"
        )


def check_probes(x: NDArray[Any], probes: NDArray[Any], settings: NetworkSettings) -> None:
    """ValueError for points of the probability flow, or probes of its Jacobian, of another shape than the network's."""
    expected = (len(x), *settings.shape)
    if x.shape != expected or probes.shape[1:] != expected:
        raise ValueError(
            f"x has shape {expected} and probes (P, *{expected}) for this network, got {x.shape} and {probes.shape}"
        )
