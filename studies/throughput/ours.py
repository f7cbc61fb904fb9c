"""This project in the race: its trainer, bound and samplers, a worker of growth, and the ceilings of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from backends import installed_backends, load_backend
from backends.flops import BACKWARD, forward_flops
from backends.interface import Execution
from backends.networks import initial_weights, parameter_count
from backends.recipe import TrainingRecipe
from core.reverse import ReverseProcess, reverse_process
from core.schedules import linear
from studies.cell.bound import Terms, evaluate_bound
from studies.cell.draws import training_draws
from studies.cell.model import TrainedModel
from studies.cell.sampling import draw_samples
from studies.store.sampler_chains import Chain
from studies.throughput.blocks import (
    CHAIN,
    LEAST_EVALUATIONS,
    LEVELS,
    TEST_EXAMPLES,
    Block,
    Blocks,
    examples,
    model_flops,
    waiting,
)
from studies.throughput.workloads import Workload


@dataclass(frozen=True, eq=False)
class Setup:
    """What a cell of a study works with, in one backend, and its training as a block."""

    process: ReverseProcess
    terms: Terms
    model: TrainedModel
    train: Block


def set_up(backend_name: str, workload: Workload, execution: Execution) -> Setup:
    backend, num_steps = load_backend(backend_name), workload.num_steps
    network = backend.make_network(workload.network, initial_weights(workload.network, 0), execution)
    process = reverse_process(linear(num_steps), levels=LEVELS)
    placed = backend.place(network, process, execution)
    trainer = placed.trainer("epsilon_mse", TrainingRecipe())
    data = examples(workload, 4 * workload.batch)

    def train(count: int) -> int:
        for _ in range(count):
            handle = trainer.step(training_draws(data, 0, trainer.step_count + 1, workload.batch, num_steps))
        trainer.losses(handle)
        return count

    model = TrainedModel(placed, workload.network.shape, 0)
    return Setup(process, placed.bound_terms(), model, train)


def blocks(backend_name: str, workload: Workload, execution: Execution) -> Blocks:
    """This project's trainer, bound and samplers."""
    setup = set_up(backend_name, workload, execution)
    size, test = workload.evaluation_batch, examples(workload, TEST_EXAMPLES)

    def bound(count: int) -> int:
        calls = 0

        def counted(draws: Any) -> Any:
            nonlocal calls
            calls += 1
            return setup.terms(draws)

        budget = max(count, LEAST_EVALUATIONS) * size / TEST_EXAMPLES
        evaluate_bound(counted, setup.process, test, 0, evaluations_per_example=budget, batch_size=size)
        return calls

    forward, x_t, t = setup.model.placed.forward(), examples(workload, size), np.arange(size) % workload.num_steps + 1

    def network(count: int) -> int:
        forward(x_t, t, count)
        return count

    def sample(count: int) -> int:
        chains = max(1, round(count / CHAIN))
        for _ in range(chains):
            draw_samples(setup.model, Chain("ancestral", CHAIN), size)
        return chains * CHAIN

    return Blocks(
        {"train": setup.train, "network": network, "bound": bound, "sample": sample},
        model_flops(forward_flops(workload.network), workload),
        parameter_count(workload.network),
        load_backend(backend_name).describe(execution),
    )


def ceilings(workload: Workload, execution: Execution) -> Blocks:
    """What this machine reaches in one large operation: a convolution forward and backward, and a matrix product."""
    import torch
    import torch.nn.functional as F

    from backends.torch import describe
    from backends.torch.arrays import namespace

    xp = namespace(execution)
    on_gpu = xp.device.type != "cpu"
    dtype = torch.bfloat16 if execution.dtype == "bfloat16" else xp.dtype
    size, batch, channels, length = (8192, 128, 256, 32) if on_gpu else (2048, 128, 64, 8)

    def image(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=xp.device, dtype=dtype).to(memory_format=torch.channels_last)

    x, kernel = (
        image(batch, channels, length, length).requires_grad_(),
        image(channels, channels, 3, 3).requires_grad_(),
    )
    upstream = image(batch, channels, length, length)
    a, b = (torch.randn(size, size, device=xp.device, dtype=dtype) for _ in range(2))

    wait = waiting(xp.device)

    def convolution(count: int) -> int:
        for _ in range(count):
            torch.autograd.grad(F.conv2d(x, kernel, padding=1), (x, kernel), upstream)
        wait()
        return count

    def product(count: int) -> int:
        for _ in range(count):
            torch.mm(a, b)
        wait()
        return count

    flops = {
        "convolution": (1 + BACKWARD) * 2.0 * 9 * channels**2 * length**2 * batch,
        "product": 2.0 * size**3,
    }
    return Blocks({"convolution": convolution, "product": product}, flops, 0, describe(execution))


def growing(workload: Workload, execution: Execution) -> Blocks:
    """Blocks whose units are what makes a study longer, in the first backend there is.

    Optimiser steps, test examples of a bound at 50 evaluations each, and sampler steps of one chain.
    """
    setup = set_up(installed_backends()[0], workload, execution)

    def tested(count: int) -> int:
        evaluate_bound(setup.terms, setup.process, examples(workload, count), 0, batch_size=workload.evaluation_batch)
        return count

    def sampled(count: int) -> int:
        draw_samples(setup.model, Chain("ancestral", count), workload.evaluation_batch)
        return count

    return Blocks({"steps": setup.train, "examples": tested, "sampler steps": sampled}, {}, 0, {})
