"""Who is raced: each makes the blocks of work that a worker times, in the one process that imports its framework.

A block runs about so many units and waits for the device; it returns how many units it ran. Units: "train" an optimiser
step from drawing its numbers to the moving average; "network", "bound" and "sample" one evaluation of the network on
the evaluation batch, bare, within the bound's estimate, and within a sampling chain.
"""

from __future__ import annotations

from collections.abc import Callable
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
from studies.cell.sampling import Chain, draw_samples
from studies.throughput.workloads import Workload

Block = Callable[[int], int]
LEVELS, NUM_STEPS = 17, 1000
CHAIN = 20
"""Steps of a sampling chain that is timed."""
TEST_EXAMPLES, LEAST_EVALUATIONS = 64, 20
"""Of a bound that is timed: it has a pilot and an end, which would look large beside a few evaluations. A default
study's bound on digits has 70 batches.
"""
GROWTH = "growth in T = "
"""What the name of a worker that measures growth begins with; T follows."""


@dataclass(frozen=True, eq=False)
class Contestant:
    """`blocks` by name; operations of one unit of each, where it is counted; weights; what it runs on, in words."""

    blocks: dict[str, Block]
    flops: dict[str, float]
    parameters: int
    description: dict[str, str]


def model_flops(forward: float, workload: Workload) -> dict[str, float]:
    """By block, from the operations of one example's forward pass."""
    evaluated = forward * workload.evaluation_batch
    return {
        "train": forward * (1 + BACKWARD) * workload.batch,
        "network": evaluated,
        "bound": evaluated,
        "sample": evaluated,
    }


def examples(workload: Workload, count: int) -> np.ndarray:
    """Data of the workload's shape on the levels of digits."""
    levels = np.linspace(-1, 1, LEVELS)
    return np.random.default_rng(0).choice(levels, size=(count, *workload.network.shape))


@dataclass(frozen=True, eq=False)
class Parts:
    """What a cell of a study works with, in one backend, and its training as a block."""

    network: Any
    process: ReverseProcess
    terms: Terms
    model: TrainedModel
    train: Block


def parts(backend_name: str, workload: Workload, execution: Execution, num_steps: int) -> Parts:
    backend = load_backend(backend_name)
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
    return Parts(network, process, placed.bound_terms(), model, train)


def ours(backend_name: str, workload: Workload, execution: Execution) -> Contestant:
    """This project's trainer, bound and samplers."""
    made = parts(backend_name, workload, execution, NUM_STEPS)
    size, test = workload.evaluation_batch, examples(workload, TEST_EXAMPLES)

    def bound(count: int) -> int:
        calls = 0

        def counted(draws: Any) -> Any:
            nonlocal calls
            calls += 1
            return made.terms(draws)

        budget = max(count, LEAST_EVALUATIONS) * size / TEST_EXAMPLES
        evaluate_bound(counted, made.process, test, 0, evaluations_per_example=budget, batch_size=size)
        return calls

    def sample(count: int) -> int:
        chains = max(1, round(count / CHAIN))
        for _ in range(chains):
            draw_samples(made.model, Chain("ancestral", CHAIN), size)
        return chains * CHAIN

    bare = _bare_network(backend_name, made.network, examples(workload, size), execution)
    return Contestant(
        {"train": made.train, "network": bare, "bound": bound, "sample": sample},
        model_flops(forward_flops(workload.network), workload),
        parameter_count(workload.network),
        load_backend(backend_name).describe(execution),
    )


def _bare_network(backend_name: str, network: Any, x: np.ndarray, execution: Execution) -> Block:
    """The network on the same numbers again and again, without gradients."""
    t = np.arange(len(x)) % NUM_STEPS + 1
    if backend_name == "torch":
        import torch

        from backends.torch.arrays import maybe_compiled, namespace
        from backends.torch.network import run_network

        xp = namespace(execution)
        x_t, told = xp.asarray(x), xp.integers(t)
        call = maybe_compiled(lambda: run_network(network, x_t, told, execution), execution)

        def run(count: int) -> int:
            with torch.inference_mode():
                for _ in range(count):
                    output = call()
            output.cpu()
            return count
    else:
        from backends.keras.arrays import namespace as keras_namespace
        from backends.keras.arrays import on_device, to_numpy
        from backends.keras.engines import ENGINE
        from backends.keras.network import run_network as run_keras

        keras_xp = keras_namespace(execution)
        with on_device(execution.device):
            arrays = keras_xp.asarray(x), keras_xp.integers(t)
        forward = ENGINE.compiled(lambda a, b: run_keras(network, a, b), network.variables, execution.compile)

        def run(count: int) -> int:
            with on_device(execution.device):
                for _ in range(count):
                    output = forward(*arrays)
            to_numpy(output)
            return count

    return run


def waiting(device: Any) -> Callable[[], None]:
    """A function that returns when a PyTorch device has done what it was given."""
    import torch

    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def ceilings(workload: Workload, execution: Execution) -> Contestant:
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
    return Contestant({"convolution": convolution, "product": product}, flops, 0, describe(execution))


def growing(workload: Workload, execution: Execution, num_steps: int) -> Contestant:
    """Blocks whose units are what a study is made longer by, on a chain of `num_steps`, in the first backend there is:
    optimiser steps, test examples of a bound at 50 evaluations each, sampler steps of one chain.
    """
    made = parts(installed_backends()[0], workload, execution, num_steps)

    def tested(count: int) -> int:
        evaluate_bound(made.terms, made.process, examples(workload, count), 0, batch_size=workload.evaluation_batch)
        return count

    def sampled(count: int) -> int:
        draw_samples(made.model, Chain("ancestral", count), workload.evaluation_batch)
        return count

    return Contestant({"steps": made.train, "examples": tested, "sampler steps": sampled}, {}, 0, {})


def make(name: str, workload: Workload, execution: Execution) -> Contestant:
    """The contestant called `name`; ValueError for an unknown one, ImportError where its package is missing."""
    from studies.throughput import peers  # one contestant a process

    if name.startswith(GROWTH):
        return growing(workload, execution, num_steps=int(name.removeprefix(GROWTH)))
    makers: dict[str, Callable[[Workload, Execution], Contestant]] = {
        "torch": lambda w, e: ours("torch", w, e),
        "keras": lambda w, e: ours("keras", w, e),
        "ceilings": ceilings,
        "diffusers": peers.diffusers,
        "denoising-diffusion-pytorch": peers.denoising_diffusion_pytorch,
    }
    if name not in makers:
        raise ValueError(f"unknown contestant {name!r}; known: {', '.join(makers)}")
    return makers[name](workload, execution)
