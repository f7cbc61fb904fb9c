"""The PyTorch backend: the functions of `backends.interface.Backend`.

Networks are plain `nn.Module`s (`backends.torch.network`) that can be taken away and trained by any other loop.
"""

from __future__ import annotations

import numpy as np
import torch

from backends.interface import Execution
from backends.torch.arrays import namespace
from backends.torch.group import make_group_trainer
from backends.torch.network import export_weights, make_network
from backends.torch.placed import place

__all__ = [
    "describe",
    "export_weights",
    "make_group_trainer",
    "make_network",
    "place",
]


def describe(execution: Execution) -> dict[str, str]:
    """Framework, versions, device and what decides the arithmetic, in words, for the report."""
    device = namespace(execution).device
    described = {
        "framework": "PyTorch",
        "version": torch.__version__,
        "numpy": np.__version__,
        "device": _device_name(device),
        "dtype": execution.dtype,
        "compile": "torch.compile" if execution.compile else "eager",
        "threads": str(torch.get_num_threads()),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
    }
    if device.type == "cuda":
        described["cuda"] = str(torch.version.cuda)
        described["tf32 convolutions"] = "allowed" if torch.backends.cudnn.allow_tf32 else "off"
    return described


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({torch.backends.cpu.get_cpu_capability()})"
    return device.type
