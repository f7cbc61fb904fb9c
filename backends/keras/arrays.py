"""The array functions of `core` in Keras, whatever engine Keras runs on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.interface import Execution
from backends.keras.engines import ENGINE
from core.arrays import Array, ArrayNamespace

DTYPES: dict[str, str] = {"float32": "float32", "float64": "float64", "bfloat16": "float32"}
"""What weights, tables and losses are kept in; "bfloat16" is a mixed precision policy of the network alone."""

# Not "cpu:0": on the torch engine a variable made there is a copy of its parameter, which no gradient reaches (no
# upstream issue known, searched November 2026).
_DEVICES = {"cpu": "cpu", "gpu": "gpu:0", "cuda": "gpu:0"}


@dataclass(frozen=True)
class KerasNamespace:
    """`core.arrays.ArrayNamespace` on keras.ops, in one float dtype."""

    dtype: str

    exp = staticmethod(ops.exp)
    expm1 = staticmethod(ops.expm1)
    log = staticmethod(ops.log)
    log1p = staticmethod(ops.log1p)
    sqrt = staticmethod(ops.sqrt)
    erfc = staticmethod(ops.erfc)
    abs = staticmethod(ops.abs)
    where = staticmethod(ops.where)
    clip = staticmethod(ops.clip)
    reshape = staticmethod(ops.reshape)
    stop_gradient = staticmethod(ops.stop_gradient)

    def asarray(self, x: Any) -> Array:
        """`x` in the working dtype on the device; float64 arrays of the host are rounded here, and only here."""
        if isinstance(x, np.ndarray | np.generic | float | int | list):
            return ops.convert_to_tensor(np.asarray(x, dtype=self.dtype))
        return ops.cast(x, self.dtype)

    @staticmethod
    def integers(x: Any) -> Array:
        """Steps t and other indices, int32, on the device."""
        return ops.convert_to_tensor(np.asarray(x, dtype=np.int32))

    def steps(self, t: int, count: int) -> Array:
        """The step t for so many examples, on the device."""
        return self.integers(np.full(count, t))

    @staticmethod
    def take(x: Array, indices: Array, axis: int) -> Array:
        return ops.take(x, indices, axis=axis)

    @staticmethod
    def sum(x: Array, axis: tuple[int, ...]) -> Array:
        return ops.sum(x, axis=axis)

    @staticmethod
    def cumsum(x: Array, axis: int) -> Array:
        return ops.cumsum(x, axis=axis)

    def as_shared(self) -> ArrayNamespace:
        """Itself, as the shared maths of `core` sees it."""
        return cast(ArrayNamespace, self)


def namespace(execution: Execution) -> KerasNamespace:
    """The array functions for an execution. ValueError for an unknown dtype or device, and for one it cannot keep."""
    if execution.dtype not in DTYPES:
        raise ValueError(f"unknown dtype {execution.dtype!r}; known: {', '.join(DTYPES)}")
    ENGINE.capabilities.check_dtype(execution.dtype)
    with on_device(execution.device):
        pass
    if execution.dtype == "float64":
        ENGINE.allow_float64()
    return KerasNamespace(DTYPES[execution.dtype])


def on_device(name: str) -> AbstractContextManager[Any]:
    """The scope in which arrays and variables land on the device called `name`.

    "cpu", "gpu" or "cuda", or "auto" for a gpu where there is one. ValueError for a device that is not here.
    """
    has_gpu = bool(ENGINE.gpus())
    chosen = ("gpu" if has_gpu else "cpu") if name == "auto" else name
    if chosen not in _DEVICES or (chosen != "cpu" and not has_gpu):
        raise ValueError(f"Keras on {ENGINE.name} has no device {name!r} here; use auto{' or gpu' * has_gpu} or cpu")
    return keras.device(_DEVICES[chosen])


def device_name(name: str) -> str:
    """The device that `on_device(name)` stands for, in words."""
    with on_device(name):
        gpus = ENGINE.gpus()
    return f"gpu ({gpus[0]})" if gpus and name != "cpu" else "cpu"


def mean(x: Array) -> Array:
    """The mean of all entries in their own dtype.

    `ops.mean` rounds float64 to float32 on JAX (keras-team/keras#23704).
    """
    return ops.sum(x) / ops.cast(ops.size(x), x.dtype)


def to_numpy(x: Any) -> NDArray[Any]:
    """A copy on the host, in the dtype it has."""
    return np.array(ops.convert_to_numpy(x))
