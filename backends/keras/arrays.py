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
from core.arrays import Array, ArrayNamespace

DTYPES: dict[str, str] = {"float32": "float32", "float64": "float64", "bfloat16": "float32"}
"""What weights, tables and losses are kept in; "bfloat16" is a mixed precision policy of the network alone."""

_DEVICES = {"cpu": "cpu:0", "gpu": "gpu:0", "cuda": "gpu:0"}


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
        """Steps t, int32, on the device."""
        return ops.convert_to_tensor(np.asarray(x, dtype=np.int32))

    @staticmethod
    def take(x: Array, indices: Array, axis: int) -> Array:
        return ops.take(x, indices, axis=axis)

    @staticmethod
    def sum(x: Array, axis: tuple[int, ...]) -> Array:
        return ops.sum(x, axis=axis)

    def as_shared(self) -> ArrayNamespace:
        """Itself, as the shared maths of `core` sees it."""
        return cast(ArrayNamespace, self)


def namespace(execution: Execution) -> KerasNamespace:
    """The array functions for an execution. ValueError for an unknown dtype."""
    if execution.dtype not in DTYPES:
        raise ValueError(f"unknown dtype {execution.dtype!r}; known: {', '.join(DTYPES)}")
    return KerasNamespace(DTYPES[execution.dtype])


def on_device(name: str) -> AbstractContextManager[Any]:
    """The scope in which arrays and variables land on the device called `name`; "auto" is the engine's own choice."""
    if name == "auto":
        return keras.device(_DEVICES["gpu"] if _has_gpu() else _DEVICES["cpu"])
    if name not in _DEVICES or (name != "cpu" and not _has_gpu()):
        raise ValueError(f"Keras on {keras.backend.backend()} has no device {name!r} here; use auto or cpu")
    return keras.device(_DEVICES[name])


def _has_gpu() -> bool:
    return len(keras.distribution.list_devices("gpu")) > 0


def to_numpy(x: Any) -> NDArray[Any]:
    """A copy on the host, in the dtype it has."""
    return np.array(ops.convert_to_numpy(x))
