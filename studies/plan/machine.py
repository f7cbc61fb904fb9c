"""The machine a study runs on, as far as one can tell without a framework, and the environment of a cell there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from backends import capabilities

ROOT = Path(__file__).resolve().parents[2]
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
}
"""For glibc, which else gives a step's memory back and has every page of it cleared again in the next: thousands of
page faults a step, up to an eighth of its time."""

ASK_FOR_DEVICE = """
import sys
from backends import load_backend
from backends.interface import Execution
load_backend(sys.argv[1]).describe(Execution(device=sys.argv[2]))
"""


def uses_gpu(device: str) -> bool:
    """Whether cells on `device` run on a GPU, as far as one can tell without a framework."""
    return device not in ("auto", "cpu") or (device == "auto" and shutil.which("nvidia-smi") is not None)


def check_device(backends: Iterable[str], device: str) -> None:
    """ValueError where one of the backends has no such device here.

    Only its framework knows, and is asked in a process of its own, which takes seconds. "auto" and "cpu" are anywhere.
    """
    for name in dict.fromkeys(backends):
        if device not in ("auto", "cpu") and capabilities(name).packages and (reason := _missing_device(name, device)):
            raise ValueError(f"--device {device} is not for {name} here: {reason}")


@cache
def _missing_device(name: str, device: str) -> str:
    """Why the backend has no such device; empty where it has."""
    command = [sys.executable, "-c", ASK_FOR_DEVICE, name, device]
    asked = subprocess.run(command, capture_output=True, text=True, env=cell_environment(1), cwd=ROOT)
    said = asked.stderr.strip() or f"asking for it ended with status {asked.returncode}"
    return said.splitlines()[-1].removeprefix("ValueError: ") if asked.returncode else ""


def gpu_memory() -> int | None:
    """Bytes of the smallest NVIDIA GPU's memory, or None where its driver does not say."""
    try:
        said = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return min(int(line) for line in said.stdout.split()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def default_jobs(device: str, threads: int) -> int:
    """One cell a GPU; on a CPU as many as its cores hold at `threads` each."""
    if uses_gpu(device):
        return 1
    return max(1, len(os.sched_getaffinity(0)) // threads if hasattr(os, "sched_getaffinity") else 1)


def cell_environment(threads: int) -> dict[str, str]:
    """The environment of a cell's process: its threads, its memory, and the checkout first on its import path.

    Before the folder the command was given in, which may hold packages of these names: `core` is a common one.
    TensorFlow may run two operations at once where there are threads for it: a backward pass has the gradients of
    inputs and of weights side by side, and on two threads a step then takes a tenth less.
    """
    count = str(threads)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "TF_NUM_INTRAOP_THREADS": count,
        "TF_NUM_INTEROP_THREADS": str(min(2, threads)),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + (" --xla_cpu_multi_thread_eigen=false" if threads == 1 else ""),
        **{name: os.environ.get(name, value) for name, value in KEEP_MEMORY.items()},
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
    }
