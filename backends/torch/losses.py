"""Losses and bound terms of given draws, and the gradients of a loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backends.checks import check_training
from backends.interface import BoundTerms, Draws, Weights
from backends.parts import DeviceDraws, Parts
from backends.torch.arrays import TorchNamespace, to_numpy
from core.objectives import (
    Losses,
    NoisedBatch,
    Objective,
    epsilon_mse,
    posterior_kl,
    recorded_losses,
    training_loss,
)
from core.reverse import ReverseProcess, ReverseSteps

Model = Parts[TorchNamespace]


def process_for(model: Model, draws: Draws) -> ReverseProcess:
    """The model's process on the device, with the same losses of these draws, at less cost where none is at t = 1.

    The decoder is evaluated for the whole batch and taken at t = 1 alone. Elsewhere it may as well be a density,
    which takes a few operations, as the mass of a level, which takes hundreds.
    """
    process = model.cast
    # Compiled, one process serves every batch: a second one would be a second compilation.
    if model.execution.compile or process.levels is None or np.any(draws.t == 1):
        return process
    return replace(process, levels=None)


def losses(
    process: ReverseSteps, objective: Objective, batch: NoisedBatch, output: Tensor, xp: TorchNamespace
) -> tuple[Tensor, Losses]:
    """The training loss (N,), and what is recorded, without gradients; nothing is computed twice."""
    shared = xp.as_shared()
    trained = training_loss(process, objective, batch, output, shared)
    with torch.no_grad():
        return trained, recorded_losses(process, objective, batch, output.detach(), trained.detach(), shared)


def loss_and_gradients(model: Model, objective: str | Objective, draws: Draws) -> tuple[NDArray[Any], Weights]:
    """`backends.interface.PlacedModel.loss_and_gradients`."""
    objective = check_training(objective, model.process)
    network, process, shared = model.network, model.cast, model.xp.as_shared()

    def forward(on_device: DeviceDraws) -> Tensor:
        batch, output = model.run_batch(network, process, on_device)
        return training_loss(process, objective, batch, output, shared)

    loss = model.compiled(forward)(model.upload(draws))
    names, weights = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss.mean(), weights, allow_unused=True, materialize_grads=True)
    return to_numpy(loss), {name: to_numpy(gradient) for name, gradient in zip(names, gradients, strict=True)}


def bound_terms(model: Model) -> BoundTerms:
    """`backends.interface.PlacedModel.bound_terms`."""
    network, shared = model.network, model.xp.as_shared()

    def forward(process: ReverseSteps, on_device: DeviceDraws) -> tuple[Tensor, Tensor]:
        batch, output = model.run_batch(network, process, on_device)
        return epsilon_mse(process, batch, output, shared), posterior_kl(process, batch, output, shared)

    run = model.compiled(forward)

    def terms(draws: Draws) -> tuple[NDArray[Any], NDArray[Any]]:
        process = process_for(model, draws)
        with torch.inference_mode():
            mse, kl = run(process, model.upload(draws))
        return to_numpy(mse), to_numpy(kl)

    return terms
