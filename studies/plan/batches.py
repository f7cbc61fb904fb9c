"""How many examples are evaluated at once: what the memory holds, as far as more of them are of use.

A bound does not depend on it, beyond rounding: its draws are made in one order and cut into batches.
"""

from __future__ import annotations

import math

from backends.flops import layer_outputs
from backends.networks import NetworkSettings
from studies.plan.machine import gpu_memory, uses_gpu

CPU_BATCH = 256
"""On a CPU, where it is what all figures were measured with; and on a device whose memory is not known."""
LEAST, MOST = 16, 4096
SHARE = 1 / 8
"""Of a GPU's memory. Without gradients most layers' outputs are gone when the next have been made."""


def evaluation_batch(network: NetworkSettings, device: str) -> int:
    """A power of two: every layer's output for so many examples, in float32, fits into SHARE of the GPU."""
    memory = gpu_memory() if uses_gpu(device) else None
    if memory is None:
        return CPU_BATCH
    fitting = SHARE * memory / (4 * layer_outputs(network))
    return min(MOST, max(LEAST, 1 << math.floor(math.log2(max(1.0, fitting)))))
