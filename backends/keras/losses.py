"""Losses and bound terms of given draws, and the gradients of a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from keras import ops
from numpy.typing import NDArray

from backends.checks import check_training
from backends.interface import BoundTerms, Draws, Weights
from backends.keras.arrays import KerasNamespace, mean, to_numpy
from backends.keras.engines import ENGINE
from backends.keras.network import neutral_variables, to_neutral
from backends.parts import DeviceDraws, Parts
from core.arrays import Array
from core.objectives import (
    Losses,
    NoisedBatch,
    Objective,
    epsilon_mse,
    posterior_kl,
    recorded_losses,
    training_loss,
)
from core.reverse import ReverseSteps

Model = Parts[KerasNamespace]
R = TypeVar("R")


def losses(
    process: ReverseSteps, objective: Objective, batch: NoisedBatch, output: Array, xp: KerasNamespace
) -> tuple[Array, Losses]:
    """The training loss (N,), and what is recorded, without gradients; nothing is computed twice."""
    shared = xp.as_shared()

    def evaluate(process: ReverseSteps) -> tuple[Array, Losses]:
        trained = training_loss(process, objective, batch, output, shared)
        fixed = ops.stop_gradient(output), ops.stop_gradient(trained)
        recorded = recorded_losses(process, objective, batch, *fixed, shared)
        return trained, Losses(*(ops.stop_gradient(loss) for loss in recorded))

    return with_process_at(process, batch.t, evaluate)


def with_process_at(process: ReverseSteps, t: Array, evaluate: Callable[[ReverseSteps], R]) -> R:
    """evaluate(process) for losses at the steps t (N,), at less cost where none of them is t = 1.

    The decoder is evaluated for the whole batch and taken at t = 1 alone. Elsewhere it may as well be a density,
    which takes a few operations, as the mass of a level, which takes hundreds.
    """
    if process.levels is None:
        return evaluate(process)
    without = replace(process, levels=None)
    return ops.cond(ops.any(ops.equal(t, 1)), lambda: evaluate(process), lambda: evaluate(without))


def loss_and_gradients(model: Model, objective: str | Objective, draws: Draws) -> tuple[NDArray[Any], Weights]:
    """`backends.interface.PlacedModel.loss_and_gradients`."""
    objective = check_training(objective, model.process)
    network, process, shared = model.network, model.cast, model.xp.as_shared()

    def forward(on_device: DeviceDraws) -> tuple[Array, tuple[Array, ...]]:
        batch, output = model.run_batch(network, process, on_device)
        loss = training_loss(process, objective, batch, output, shared)
        return mean(loss), (loss,)

    names, variables = zip(*neutral_variables(network), strict=True)
    run = ENGINE.compiled(ENGINE.differentiated(forward, variables), variables, model.execution.compile)
    with model.placing():
        (_, (loss,)), gradients = run(model.upload(draws))
    return to_numpy(loss), {n: to_neutral(to_numpy(g)) for n, g in zip(names, gradients, strict=True)}


def bound_terms(model: Model) -> BoundTerms:
    """`backends.interface.PlacedModel.bound_terms`."""
    network, process, shared = model.network, model.cast, model.xp.as_shared()

    def forward(on_device: DeviceDraws) -> tuple[Array, Array]:
        batch, output = model.run_batch(network, process, on_device)
        output = ops.stop_gradient(output)
        kl = with_process_at(process, batch.t, lambda at_steps: posterior_kl(at_steps, batch, output, shared))
        return epsilon_mse(process, batch, output, shared), kl

    run = model.compiled(forward)

    def terms(draws: Draws) -> tuple[NDArray[Any], NDArray[Any]]:
        with model.evaluating():
            mse, kl = run(model.upload(draws))
        return to_numpy(mse), to_numpy(kl)

    return terms
