"""How many examples are evaluated at once: what the memory holds, as far as more of them are of use.

A bound does not depend on it, beyond rounding: its draws are made in one order and cut into batches.
"""

from __future__ import annotations

import math

from backends.flops import attention_scores, layer_outputs
from backends.networks import NetworkSettings
from studies.plan.machine import gpu_memory, uses_gpu

CPU_BATCH = 256
"""On a CPU, where it is what all figures were measured with, and on a device whose memory is not known: at most."""
CPU_NUMBERS = 2**28
"""How many numbers a batch may hold there, 1 GiB in float32: the same everywhere, as rounding depends on the batch."""
LEAST, MOST = 16, 4096
"""On a GPU."""
SHARE = 1 / 8
"""Of a GPU's memory. Without gradients most layers' outputs are gone when the next have been made."""


def evaluation_batch(network: NetworkSettings, device: str) -> int:
    """A power of two: what the network holds for so many examples, in float32, fits into SHARE of the GPU.

    On a CPU it is at most CPU_NUMBERS. What it holds is every layer's output, and the scores of attention twice, before
    and after the softmax, for frameworks that form them: they grow with the square of an example's length.
    """
    numbers = layer_outputs(network) + 2 * attention_scores(network)
    memory = gpu_memory() if uses_gpu(device) else None
    if memory is None:
        return min(CPU_BATCH, _power_of_two(CPU_NUMBERS / numbers))
    return min(MOST, max(LEAST, _power_of_two(SHARE * memory / (4 * numbers))))


def _power_of_two(most: float) -> int:
    """The largest that is no more than `most`, and 1 at least."""
    return 1 << math.floor(math.log2(max(1.0, most)))
