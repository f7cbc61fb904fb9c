"""What a worker times: blocks of a contestant's work, in the one process that imports its framework.

A block runs about so many units and waits for the device; it returns how many units it ran. Units: "train" an optimiser
step from drawing its numbers to the moving average; "network", "bound" and "sample" one evaluation of the network on
the evaluation batch, bare, within the bound's estimate, and within a sampling chain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from backends.flops import BACKWARD
from studies.throughput.workloads import Workload

Block = Callable[[int], int]
LEVELS = 17
CHAIN = 20
"""Steps of a sampling chain that is timed."""
TEST_EXAMPLES, LEAST_EVALUATIONS = 64, 20
"""Of a bound that is timed: it has a pilot and an end, which would look large beside a few evaluations. A default
study's bound on digits has 70 batches.
"""


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks `by_name`; operations of one unit of each, where it is counted; weights; what it runs on, in words."""

    by_name: dict[str, Block]
    flops: dict[str, float]
    parameters: int
    description: dict[str, str]


def model_flops(forward: float, workload: Workload) -> dict[str, float]:
    """Operations of a unit of each block, from those of one example's forward pass."""
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


def waiting(device: Any) -> Callable[[], None]:
    """A function that returns when a PyTorch device has done what it was given."""
    import torch

    return torch.cuda.synchronize if device.type == "cuda" else lambda: None
