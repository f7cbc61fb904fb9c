"""What is raced: a network and its batches."""

from __future__ import annotations

from dataclasses import dataclass

from backends.networks import NetworkSettings, UNetSettings
from studies.plan.batches import CPU_BATCH, evaluation_batch
from studies.plan.settings import StudySettings

NUM_STEPS = 1000


@dataclass(frozen=True)
class Workload:
    """`network` on a chain of `num_steps`, in training batches of `batch`.

    The bare network, bounds and samples have batches of their own, `evaluation_batch`.
    """

    name: str
    network: NetworkSettings
    batch: int
    evaluation_batch: int
    num_steps: int = NUM_STEPS


CIFAR10 = UNetSettings((32, 32, 3), (128, 256, 256, 256), 2, (1,), norm_groups=32)
"""The 35.7 M network of Ho et al. (2020), app. B."""


def workloads(on_gpu: bool, widths: tuple[int, ...] = (32, 64)) -> dict[str, Workload]:
    """Workloads by name, with batches that a CPU takes or that fill a GPU; `widths` are of all but CIFAR-10's."""
    every = [
        Workload("digits", UNetSettings((8, 8, 1), widths), 128, CPU_BATCH),
        Workload("images", UNetSettings((32, 32, 3), widths), *((128, 256) if on_gpu else (16, 32))),
        Workload("cifar10", CIFAR10, *((128, 256) if on_gpu else (4, 8))),
    ]
    return {workload.name: workload for workload in every}


def of_study(settings: StudySettings, shape: tuple[int, ...]) -> Workload:
    """What a study trains, for a time to verdict with its own network and batches."""
    network = settings.network(shape, learns_variance=False)
    return Workload("run", network, settings.batch_size, evaluation_batch(network, settings.device))
