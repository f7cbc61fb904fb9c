"""Losses and bound terms of given draws, and the gradients of a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from keras import ops
from numpy.typing import NDArray

from backends.checks import check_draws, check_network
from backends.interface import Draws, Execution, Weights
from backends.keras.arrays import KerasNamespace, mean, namespace, on_device, to_numpy
from backends.keras.engines import ENGINE
from backends.keras.network import MLP, UNet, neutral_variables, run_network, to_neutral
from core.arrays import Array
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

R = TypeVar("R")


def upload(xp: KerasNamespace, draws: Draws, process: ReverseProcess) -> tuple[Array, ...]:
    """x_0, epsilon, t, the steps the network is told (those of the chain it was trained on), and weight."""
    told = process.schedule.steps[draws.t]
    t, told = xp.integers(draws.t), xp.integers(told)
    return xp.asarray(draws.x_0), xp.asarray(draws.epsilon), t, told, xp.asarray(draws.weight)


def run_batch(
    network: Callable[[Array, Array], Array],
    process: ReverseProcess,
    xp: KerasNamespace,
    x_0: Array,
    epsilon: Array,
    t: Array,
    told: Array,
) -> tuple[NoisedBatch, Array]:
    """The noised batch and the network's output for it."""
    batch = noised_batch(process, x_0, epsilon, t, xp.as_shared())
    return batch, run_network(network, batch.x_t, told)


def losses(
    process: ReverseProcess, objective: Objective, batch: NoisedBatch, output: Array, xp: KerasNamespace
) -> tuple[Array, Losses]:
    """The training loss (N,), and what is recorded, without gradients; nothing is computed twice."""
    shared = xp.as_shared()

    def evaluate(process: ReverseProcess) -> tuple[Array, Losses]:
        trained = training_loss(process, objective, batch, output, shared)
        fixed = ops.stop_gradient(output), ops.stop_gradient(trained)
        recorded = recorded_losses(process, objective, batch, *fixed, shared)
        return trained, Losses(*(ops.stop_gradient(loss) for loss in recorded))

    return with_process_at(process, batch.t, evaluate)


def with_process_at(process: ReverseProcess, t: Array, evaluate: Callable[[ReverseProcess], R]) -> R:
    """evaluate(process) for losses at the steps t (N,), at less cost where none of them is t = 1.

    The decoder is evaluated for the whole batch and kept at t = 1 alone. Elsewhere it may as well be a density,
    which takes a few operations, as the mass of a level, which takes hundreds.
    """
    if process.levels is None:
        return evaluate(process)
    without = replace(process, levels=None)
    return ops.cond(ops.any(ops.equal(t, 1)), lambda: evaluate(process), lambda: evaluate(without))


def loss_and_gradients(
    network: UNet | MLP, process: ReverseProcess, objective: str | Objective, draws: Draws, execution: Execution
) -> tuple[NDArray[Any], Weights]:
    """The training loss per example (N,), before weight and scale, and the gradient of its plain mean by name."""
    objective = as_objective(objective)
    check_objective(objective, process.variance)
    check_network(network.settings, process)
    check_draws(draws, network.settings, process)
    xp = namespace(execution)
    with on_device(execution.device):
        cast = process.cast(xp.asarray)

    def forward(x_0: Array, epsilon: Array, t: Array, told: Array) -> tuple[Array, tuple[Array, ...]]:
        batch, output = run_batch(network, cast, xp, x_0, epsilon, t, told)
        loss = training_loss(cast, objective, batch, output, xp.as_shared())
        return mean(loss), (loss,)

    names, variables = zip(*neutral_variables(network), strict=True)
    run = ENGINE.compiled(ENGINE.differentiated(forward, variables), variables, execution.compile)
    with on_device(execution.device):
        (_, (loss,)), gradients = run(*upload(xp, draws, process)[:4])
    return to_numpy(loss), {n: to_neutral(to_numpy(g)) for n, g in zip(names, gradients, strict=True)}


def bound_terms(
    network: UNet | MLP, process: ReverseProcess, execution: Execution
) -> Callable[[Draws], tuple[NDArray[Any], NDArray[Any]]]:
    """A compiled function draws -> (epsilon_mse (N,), posterior_kl (N,) in nats); weights are not used."""
    check_network(network.settings, process)
    xp = namespace(execution)
    shared = xp.as_shared()
    with on_device(execution.device):
        cast = process.cast(xp.asarray)

    def forward(x_0: Array, epsilon: Array, t: Array, told: Array) -> tuple[Array, Array]:
        batch, output = run_batch(network, cast, xp, x_0, epsilon, t, told)
        output = ops.stop_gradient(output)
        kl = with_process_at(cast, t, lambda process: posterior_kl(process, batch, output, shared))
        return epsilon_mse(cast, batch, output, shared), kl

    run = ENGINE.compiled(forward, network.variables, execution.compile)

    def terms(draws: Draws) -> tuple[NDArray[Any], NDArray[Any]]:
        check_draws(draws, network.settings, process)
        with on_device(execution.device):
            mse, kl = run(*upload(xp, draws, process)[:4])
        return to_numpy(mse), to_numpy(kl)

    return terms
