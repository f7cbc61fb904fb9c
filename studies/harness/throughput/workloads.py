"""What is raced: a network, its batches, and the arithmetic that one pass of it is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass

from backends.networks import NetworkSettings, UNetSettings, weight_specs
from studies.harness.settings import StudySettings

BACKWARD = 2
"""A backward pass is worth two forward ones: the gradients of inputs and of weights."""


@dataclass(frozen=True)
class Workload:
    """`network` with training batches of `batch`; evaluation (the bare network, bounds, samples) takes twice that."""

    name: str
    network: NetworkSettings
    batch: int

    @property
    def evaluation_batch(self) -> int:
        return 2 * self.batch


SMALL = (32, 64)
CIFAR10 = UNetSettings((32, 32, 3), (128, 256, 256, 256), 2, (1,), norm_groups=32)
"""The 35.7 M network of Ho et al. (2020), app. B."""


def workloads(on_gpu: bool) -> dict[str, Workload]:
    """Workloads by name, with batches that a CPU takes or that fill a GPU."""
    every = [
        Workload("digits", UNetSettings((8, 8, 1), SMALL), 128),
        Workload("images", UNetSettings((32, 32, 3), SMALL), 128 if on_gpu else 16),
        Workload("cifar10", CIFAR10, 128 if on_gpu else 4),
    ]
    return {workload.name: workload for workload in every}


def of_study(settings: StudySettings, shape: tuple[int, ...]) -> Workload:
    """What a study trains, for a time to verdict with its own network and batches."""
    return Workload("run", settings.network(shape, learns_variance=False), settings.batch_size)


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
