"""The array functions of `core` in PyTorch, and where they run: one device, one working dtype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backends.interface import Execution
from core.arrays import ArrayNamespace

F = TypeVar("F", bound=Callable[..., Any])

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}
"""What weights, tables and losses are kept in; "bfloat16" is autocast of the network alone."""


@dataclass(frozen=True)
class TorchNamespace:
    """`core.arrays.ArrayNamespace` on one device, in one float dtype."""

    device: torch.device
    dtype: torch.dtype

    exp = staticmethod(torch.exp)
    expm1 = staticmethod(torch.expm1)
    log = staticmethod(torch.log)
    log1p = staticmethod(torch.log1p)
    sqrt = staticmethod(torch.sqrt)
    erfc = staticmethod(torch.erfc)
    abs = staticmethod(torch.abs)
    where = staticmethod(torch.where)
    clip = staticmethod(torch.clamp)
    reshape = staticmethod(torch.reshape)
    stop_gradient = staticmethod(torch.Tensor.detach)

    def asarray(self, x: Any) -> Tensor:
        """`x` in the working dtype on the device; float64 arrays of the host are rounded here, and only here."""
        if isinstance(x, Tensor):
            return x.to(self.device, self.dtype)
        return self._uploaded(x, self.dtype)

    def integers(self, x: Any) -> Tensor:
        """Steps t and other indices, int64, on the device."""
        return self._uploaded(x, torch.int64)

    def steps(self, t: int, count: int) -> Tensor:
        """The step t for so many examples, made on the device."""
        return torch.full((count,), t, device=self.device)

    def _uploaded(self, x: Any, dtype: torch.dtype) -> Tensor:
        """A copy on the device.

        To a GPU it goes in stream order from pinned memory. From any other memory the host would wait until the GPU has
        done all it was given, and the GPU would then wait for the host.
        """
        on_host = torch.tensor(np.asarray(x), dtype=dtype)
        if self.device.type != "cuda":
            return on_host.to(self.device)
        return on_host.pin_memory().to(self.device, non_blocking=True)

    @staticmethod
    def take(x: Tensor, indices: Tensor, axis: int) -> Tensor:
        return torch.index_select(x, axis, indices)

    @staticmethod
    def sum(x: Tensor, axis: tuple[int, ...]) -> Tensor:
        return torch.sum(x, dim=axis)

    @staticmethod
    def cumsum(x: Tensor, axis: int) -> Tensor:
        return torch.cumsum(x, dim=axis)

    def as_shared(self) -> ArrayNamespace:
        """Itself, as the shared maths of `core` sees it."""
        return cast(ArrayNamespace, self)


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" is cuda where there is one, then mps, then cpu. ValueError if it is not here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"PyTorch has no device {name!r} here; use auto, cpu, or a device it was built for") from error
    return device


def namespace(execution: Execution) -> TorchNamespace:
    """The array functions for an execution. ValueError for an unknown dtype or device."""
    if execution.dtype not in DTYPES:
        raise ValueError(f"unknown dtype {execution.dtype!r}; known: {', '.join(DTYPES)}")
    device = choose_device(execution.device)
    if device.type == "mps" and execution.dtype == "float64":
        raise ValueError("the mps device has no float64; use float32, or the device cpu")
    return TorchNamespace(device, DTYPES[execution.dtype])


def maybe_compiled(function: F, execution: Execution) -> F:
    """`function`, through torch.compile where the execution asks for it.

    For one batch size, because with a symbolic one the compiler fails on the U-Net (PyTorch 2.13, CPU; alike, but
    perhaps not the same: pytorch/pytorch#181115); another size is another compilation.
    """
    return cast(F, torch.compile(function, dynamic=False)) if execution.compile else function


def to_numpy(x: Tensor) -> NDArray[Any]:
    """A copy on the host, in the dtype it has and in C order, whatever the layout on the device."""
    return np.array(x.detach().cpu().numpy(), order="C")
