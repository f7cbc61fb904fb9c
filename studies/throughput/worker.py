"""A contestant in a process of its own, run as `python -m studies.throughput.worker NAME WORKLOAD EXECUTION`.

Requests come as lines of JSON on standard input, each answered by one on standard output: {"block": name, "count": n,
"clock": "wall" or "cpu"} with {"seconds", "units"}, {"memory": true} with {"bytes"}, {"account": name} with
{"seconds": by operator}, of the block of that name. The first line says that it is ready, or why not.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TextIO

from backends import BACKENDS
from backends.checkpoints import network_described
from backends.interface import Execution
from studies.throughput import ours, peers
from studies.throughput.blocks import Blocks
from studies.throughput.contestant import CEILINGS, GROWTH
from studies.throughput.operators import by_operator
from studies.throughput.workloads import Workload

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def make(name: str, workload: Workload, execution: Execution) -> Blocks:
    """The blocks of the contestant called `name`.

    ValueError for an unknown one, ImportError where its package is missing.
    """
    makers: dict[str, Callable[[Workload, Execution], Blocks]] = {
        **{backend: partial(ours.blocks, backend) for backend in BACKENDS},
        CEILINGS: ours.ceilings,
        "diffusers": peers.diffusers,
        "denoising-diffusion-pytorch": peers.denoising_diffusion_pytorch,
        GROWTH: ours.growing,
    }
    if name not in makers:
        raise ValueError(f"unknown contestant {name!r}; known: {', '.join(makers)}")
    return makers[name](workload, execution)


def decoded(workload: str, execution: str) -> tuple[Workload, Execution]:
    """Both from the JSON that `race.encoded` made."""
    given = json.loads(workload)
    return Workload(**{**given, "network": network_described(given["network"])}), Execution(**json.loads(execution))


def answer(blocks: Blocks, request: dict[str, Any]) -> dict[str, Any]:
    if request.get("memory"):
        return {"bytes": peak_memory()}
    if "account" in request:
        return {"seconds": by_operator(blocks.by_name[request["account"]])}
    clock = CLOCKS[request.get("clock", "wall")]
    begun = clock()
    units = blocks.by_name[request["block"]](request["count"])
    return {"seconds": clock() - begun, "units": units}


def peak_memory() -> int:
    """Bytes at their most: of the GPU where one is in use, else of this process."""
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    if jax is not None and jax.devices()[0].platform == "gpu":
        return int(jax.devices()[0].memory_stats()["peak_bytes_in_use"])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def serve(name: str, workload: Workload, execution: Execution, requests: Iterable[str], answers: TextIO) -> int:
    """Makes the contestant's blocks and answers until the requests end; 1 where one could not be made or failed."""

    def say(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=answers, flush=True)

    try:
        blocks = make(name, workload, execution)
        say(
            {
                "blocks": list(blocks.by_name),
                "flops": blocks.flops,
                "parameters": blocks.parameters,
                "description": blocks.description,
            }
        )
        for line in requests:
            say(answer(blocks, json.loads(line)))
    except Exception as error:  # whatever a library raises is this contestant's result, not the race's end
        say({"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"})
        return 1
    return 0


if __name__ == "__main__":
    # What libraries print must not end up among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    raise SystemExit(serve(sys.argv[1], *decoded(*sys.argv[2:4]), sys.stdin, answers))
