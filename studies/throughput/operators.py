"""Where the time of a block of work goes, operator by operator, by PyTorch's own profiler."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

UNITS = 5
OUTSIDE = "outside"
"""What no operator takes: Python, or a GPU that waits."""


def by_operator(run: Callable[[int], int], count: int = UNITS) -> dict[str, float]:
    """Seconds a unit of `run(count)` that each of PyTorch's operators takes itself, and OUTSIDE.

    Those of the GPU where there is one, else of the processor; {} in a process that does not run PyTorch.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    from torch.profiler import ProfilerActivity, profile

    on_gpu = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]) as profiled:
        begun = time.perf_counter()
        units = run(count)
        seconds = (time.perf_counter() - begun) / units
    own_seconds: dict[str, float] = {}
    for event in profiled.key_averages():
        if event.device_type == torch.autograd.DeviceType.CPU:  # a GPU's kernels count with the operator that asked
            own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            if own > 0:
                own_seconds[event.key.removeprefix("aten::")] = own / 1e6 / units
    return {**own_seconds, OUTSIDE: seconds - sum(own_seconds.values())} if own_seconds else {}
