"""What is raced: a network, its batches, and the arithmetic that one pass of it is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass

from backends.networks import NetworkSettings, UNetSettings, weight_specs
from studies.harness.settings import StudySettings

EVALUATION_BATCH = 256
"""What `evaluate_bound` takes at a time."""
BACKWARD = 2
"""A backward pass is worth two forward ones: the gradients of inputs and of weights."""


@dataclass(frozen=True)
class Workload:
    """`network` with training batches of `batch`, and batches of its own for the bare network, bounds and samples."""

    name: str
    network: NetworkSettings
    batch: int
    evaluation_batch: int


CIFAR10 = UNetSettings((32, 32, 3), (128, 256, 256, 256), 2, (1,), norm_groups=32)
"""The 35.7 M network of Ho et al. (2020), app. B."""


def workloads(on_gpu: bool, widths: tuple[int, ...] = (32, 64)) -> dict[str, Workload]:
    """Workloads by name, with batches that a CPU takes or that fill a GPU; `widths` are of all but CIFAR-10's."""
    every = [
        Workload("digits", UNetSettings((8, 8, 1), widths), 128, EVALUATION_BATCH),
        Workload("images", UNetSettings((32, 32, 3), widths), *((128, 256) if on_gpu else (16, 32))),
        Workload("cifar10", CIFAR10, *((128, 256) if on_gpu else (4, 8))),
    ]
    return {workload.name: workload for workload in every}


def of_study(settings: StudySettings, shape: tuple[int, ...]) -> Workload:
    """What a study trains, for a time to verdict with its own network and batches."""
    network = settings.network(shape, learns_variance=False)
    return Workload("run", network, settings.batch_size, EVALUATION_BATCH)


def forward_flops(settings: NetworkSettings) -> int:
    """Floating-point operations of one example's forward pass in convolutions and matrix products, 2 a multiply-add.

    Those of the network as it is defined; whoever needs fewer for the same function is credited with all.
    """
    total = 0
    for name, spec in weight_specs(settings).items():
        if len(spec.shape) > 1:
            total += 2 * math.prod(spec.shape) * _positions(settings, name)
        if name.endswith("to_q.weight"):
            total += 4 * spec.shape[0] * _positions(settings, name) ** 2  # query by key, and weights by value
    return total


def _positions(settings: NetworkSettings, name: str) -> int:
    """At how many positions of an example the weight is applied."""
    if not isinstance(settings, UNetSettings) or "time_" in name:
        return 1
    last = len(settings.widths) - 1
    part, *rest = name.split(".")
    level = {"conv_in": 0, "conv_out": 0, "mid_block": last}.get(part)
    if level is None:
        index = int(rest[0])
        level = index if part == "down_blocks" else last - index
        level += {"downsamplers": 1, "upsamplers": -1}.get(rest[1], 0)
    return math.prod(length // 2**level for length in settings.shape[:-1])
