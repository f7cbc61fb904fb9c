"""Losses and bound terms of given draws, and the gradients of a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backends.checks import check_draws, check_network
from backends.interface import Draws, Execution, Weights
from backends.torch.arrays import TorchNamespace, maybe_compiled, namespace, to_numpy
from backends.torch.network import Network, run_network
from core.objectives import (
    Losses,
    NoisedBatch,
    Objective,
    as_objective,
    check_objective,
    epsilon_mse,
    noised_batch,
    posterior_kl,
    recorded_losses,
    training_loss,
)
from core.reverse import ReverseProcess


@dataclass(frozen=True, eq=False)
class DeviceDraws:
    """`Draws` on the device; `told` (N,) are the steps the network is told: those of the chain it was trained on."""

    x_0: Tensor
    epsilon: Tensor
    t: Tensor
    told: Tensor
    weight: Tensor


def upload(xp: TorchNamespace, draws: Draws, process: ReverseProcess) -> DeviceDraws:
    return DeviceDraws(
        xp.asarray(draws.x_0),
        xp.asarray(draws.epsilon),
        xp.integers(draws.t),
        xp.integers(process.schedule.steps[draws.t]),
        xp.asarray(draws.weight),
    )


def process_at(process: ReverseProcess, t: NDArray[np.int64]) -> ReverseProcess:
    """A process with the same losses at the steps `t`, at less cost where none of them is t = 1.

    The decoder is evaluated for the whole batch and kept at t = 1 alone. Elsewhere it may as well be a density,
    which takes a few operations, as the mass of a level, which takes hundreds.
    """
    return process if process.levels is None or np.any(t == 1) else replace(process, levels=None)


def run_batch(
    network: Callable[[Tensor, Tensor], Tensor],
    process: ReverseProcess,
    draws: DeviceDraws,
    xp: TorchNamespace,
    execution: Execution,
) -> tuple[NoisedBatch, Tensor]:
    """The noised batch and the network's output for it."""
    batch = noised_batch(process, draws.x_0, draws.epsilon, draws.t, xp.as_shared())
    return batch, run_network(network, batch.x_t, draws.told, execution)


def losses(
    process: ReverseProcess, objective: Objective, batch: NoisedBatch, output: Tensor, xp: TorchNamespace
) -> tuple[Tensor, Losses]:
    """The training loss (N,), and what is recorded, without gradients; nothing is computed twice."""
    shared = xp.as_shared()
    trained = training_loss(process, objective, batch, output, shared)
    with torch.no_grad():
        return trained, recorded_losses(process, objective, batch, output.detach(), trained.detach(), shared)


def loss_and_gradients(
    network: Network, process: ReverseProcess, objective: str | Objective, draws: Draws, execution: Execution
) -> tuple[NDArray[Any], Weights]:
    """The training loss per example (N,), before weight and scale, and the gradient of its plain mean by name."""
    objective = as_objective(objective)
    check_objective(objective, process.variance)
    check_network(network.settings, process)
    check_draws(draws, network.settings, process)
    xp = namespace(execution)
    cast = process.cast(xp.asarray)

    def forward(on_device: DeviceDraws) -> Tensor:
        batch, output = run_batch(network, cast, on_device, xp, execution)
        return training_loss(cast, objective, batch, output, xp.as_shared())

    loss = maybe_compiled(forward, execution)(upload(xp, draws, process))
    names, weights = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss.mean(), weights, allow_unused=True, materialize_grads=True)
    return to_numpy(loss), {name: to_numpy(gradient) for name, gradient in zip(names, gradients, strict=True)}


def bound_terms(
    network: Network, process: ReverseProcess, execution: Execution
) -> Callable[[Draws], tuple[NDArray[Any], NDArray[Any]]]:
    """A function draws -> (epsilon_mse (N,), posterior_kl (N,) in nats), without gradients; weights are not used."""
    check_network(network.settings, process)
    xp = namespace(execution)
    shared, cast = xp.as_shared(), process.cast(xp.asarray)

    def forward(at_steps: ReverseProcess, on_device: DeviceDraws) -> tuple[Tensor, Tensor]:
        batch, output = run_batch(network, at_steps, on_device, xp, execution)
        return epsilon_mse(at_steps, batch, output, shared), posterior_kl(at_steps, batch, output, shared)

    run = maybe_compiled(forward, execution)

    def terms(draws: Draws) -> tuple[NDArray[Any], NDArray[Any]]:
        check_draws(draws, network.settings, process)
        # Compiled, one process serves every batch: a second one would be a second compilation.
        at_steps = cast if execution.compile else process_at(cast, draws.t)
        with torch.inference_mode():
            mse, kl = run(at_steps, upload(xp, draws, process))
        return to_numpy(mse), to_numpy(kl)

    return terms
