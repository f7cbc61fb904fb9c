"""The closed list of array functions that shared maths may use, and the two gathers written with them.

Objectives, bounds and sampler steps are written once and executed by numpy, PyTorch and Keras: each passes its own
`ArrayNamespace` as `xp`. Beyond these functions, shared maths uses only operators, `.shape`, and Python floats.

Three rules keep one source valid everywhere: operands share one dtype (TensorFlow refuses a mixture, PyTorch
widens in silence); `clip` is given both bounds by position, `axis` goes by keyword; and the branch of a `where`
not taken is fed a safe operand first, because its gradient is multiplied by zero and inf * 0 is NaN.
"""

from __future__ import annotations

import math
from typing import Any, Protocol, cast

import numpy as np

Array = Any
"""An array of the namespace in use: numpy's, PyTorch's or Keras's."""


class ArrayNamespace(Protocol):
    """What `xp` offers. `asarray` casts to the namespace's working float dtype and device, `integers` makes indices."""

    def asarray(self, x: Any) -> Array: ...
    def integers(self, x: Any) -> Array: ...
    def exp(self, x: Array) -> Array: ...
    def expm1(self, x: Array) -> Array: ...
    def log(self, x: Array) -> Array: ...
    def log1p(self, x: Array) -> Array: ...
    def sqrt(self, x: Array) -> Array: ...
    def erfc(self, x: Array) -> Array: ...
    def abs(self, x: Array) -> Array: ...
    def where(self, condition: Array, x: Array, y: Array) -> Array: ...
    def clip(self, x: Array, lowest: float, highest: float) -> Array: ...
    def take(self, x: Array, indices: Array, axis: int) -> Array: ...
    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array: ...
    def sum(self, x: Array, axis: tuple[int, ...]) -> Array: ...
    def cumsum(self, x: Array, axis: int) -> Array: ...
    def stop_gradient(self, x: Array) -> Array: ...


class NumpyNamespace:
    """The reference: numpy and scipy in float64."""

    exp = staticmethod(np.exp)
    expm1 = staticmethod(np.expm1)
    log = staticmethod(np.log)
    log1p = staticmethod(np.log1p)
    sqrt = staticmethod(np.sqrt)
    abs = staticmethod(np.abs)
    where = staticmethod(np.where)
    clip = staticmethod(np.clip)
    take = staticmethod(np.take)
    reshape = staticmethod(np.reshape)
    sum = staticmethod(np.sum)
    cumsum = staticmethod(np.cumsum)

    @staticmethod
    def asarray(x: Any) -> Array:
        return np.asarray(x, dtype=np.float64)

    @staticmethod
    def integers(x: Any) -> Array:
        return np.asarray(x, dtype=np.int64)

    @staticmethod
    def erfc(x: Array) -> Array:
        from scipy.special import erfc  # not at import time: it would double what importing core costs

        return erfc(x)

    @staticmethod
    def stop_gradient(x: Array) -> Array:
        return x


NUMPY: ArrayNamespace = cast(ArrayNamespace, NumpyNamespace)


def expand_to(xp: ArrayNamespace, rows: Array, like: Array) -> Array:
    """`rows` (N,) as (N, 1, ..., 1), with as many axes as `like`, so that it broadcasts over each example."""
    return xp.reshape(rows, (-1,) + (1,) * (len(like.shape) - 1))


def gather(xp: ArrayNamespace, table: Array, t: Array, like: Array) -> Array:
    """`table[t]` for steps t (N,), broadcastable to `like` (N, ...)."""
    return expand_to(xp, xp.take(table, t, axis=0), like)


def sum_per_example(xp: ArrayNamespace, x: Array) -> Array:
    """The sum over every axis but the first, shape (N,)."""
    return xp.sum(x, axis=tuple(range(1, len(x.shape))))


def dims_per_example(x: Array) -> int:
    """How many numbers one example holds: the "dims" of bits per dim."""
    return math.prod([int(length) for length in x.shape[1:]])  # np.prod would split a compiled graph in PyTorch
