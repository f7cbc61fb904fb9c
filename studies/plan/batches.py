"""How many examples are evaluated at once: what the memory holds, as far as more of them are of use.

A bound does not depend on it, beyond rounding: its draws are made in one order and cut into batches.
"""

from __future__ import annotations

import math

from backends.flops import attention_scores, layer_outputs
from backends.networks import NetworkSettings
from studies.plan.machine import cpu_memory, gpu_memory, uses_gpu

CPU_BATCH = 256
"""The most on a CPU, and what all figures were measured with; and what a device takes whose memory is not known."""
LEAST, MOST = 16, 4096
SHARE, CPU_SHARE = 1 / 8, 1 / 2
"""Of a GPU's memory, and of a computer's. Without gradients most layers' outputs are gone when the next are made."""


def evaluation_batch(network: NetworkSettings, device: str) -> int:
    """A power of two: every layer's output for so many examples, in float32, fits into a share of the memory.

    On a CPU attention's scores count too, before and after their softmax, since not every engine there does without;
    where they alone are too much for LEAST, it is as few as fit.
    """
    gpu = uses_gpu(device)
    memory = gpu_memory() if gpu else cpu_memory()
    if memory is None:
        return CPU_BATCH
    if gpu:
        return min(MOST, max(LEAST, _power_of_two(SHARE * memory / (4 * layer_outputs(network)))))
    numbers = layer_outputs(network) + 2 * attention_scores(network)
    return min(CPU_BATCH, _power_of_two(CPU_SHARE * memory / (4 * numbers)))


def _power_of_two(most: float) -> int:
    return 1 << math.floor(math.log2(max(1.0, most)))
