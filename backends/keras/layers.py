"""The layers that Keras lacks, or has slower than its engines allow."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.keras.engines import ENGINE
from backends.networks import NORM_EPSILON, time_frequencies

PACKAGE = "diffusion_objectives"
"""What these classes are registered under in saved Keras models."""

_NEAR, _FAR, _FARTHEST = 64, 1024, 16
LONG = 1024
"""From so many positions on, attention forms its scores a part of the queries at a time."""
MOST_PARTS = 16


@keras.saving.register_keras_serializable(PACKAGE)
class TimeFeatures(keras.layers.Layer):
    """[sin(w (t - 1)), cos(w (t - 1))] for steps t (N,), 1 <= t < 2**20 + 1, (N, features); t need not be whole.

    The phase reaches thousands of radians, too many for float32. Written t - 1 = 65,536 p + 64 q + r + f, it is a sum
    of phases: three whose sines and cosines are tabulated in float64 here and rounded once, and that of the fraction f,
    below 1 radian. The sum formulas do the rest, and leave whole steps below 65,537 as two tables have them. The result
    has the policy's variable dtype: a lower one is for the layers that take it in.
    """

    def __init__(self, features: int, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)  # bfloat16 has 8 bits, and steps need 16
        self.features = features
        frequencies = time_frequencies(features)
        self.frequencies = frequencies.astype(self.variable_dtype)
        digits = (_NEAR * np.arange(_FAR), np.arange(_NEAR), _NEAR * _FAR * np.arange(_FARTHEST))
        phases = [digit[:, None] * frequencies for digit in digits]
        self.tables = [(self._rounded(np.sin(phase)), self._rounded(np.cos(phase))) for phase in phases]

    def _rounded(self, table: NDArray[np.float64]) -> NDArray[Any]:
        return np.asarray(table, self.variable_dtype)

    def call(self, t: Any) -> Any:
        t = ops.cast(t, self.variable_dtype)
        whole = ops.floor(t)
        steps = ops.cast(whole, "int32") - 1
        rows = (steps // _NEAR % _FAR, steps % _NEAR, steps // (_NEAR * _FAR))
        far, near, farthest = (
            [ops.take(ops.convert_to_tensor(table), row, axis=0) for table in pair]
            for pair, row in zip(self.tables, rows, strict=True)
        )
        sine, cosine = _turned(*_turned(*far, *near), *farthest)
        fraction = ops.expand_dims(t - whole, 1) * ops.convert_to_tensor(self.frequencies)
        return ops.concatenate(_turned(sine, cosine, ops.sin(fraction), ops.cos(fraction)), axis=1)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (shape[0], self.features)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "features": self.features}


def _turned(sine: Any, cosine: Any, by_sine: Any, by_cosine: Any) -> tuple[Any, Any]:
    """Sine and cosine of the sum of two angles."""
    return sine * by_cosine + cosine * by_sine, cosine * by_cosine - sine * by_sine


@keras.saving.register_keras_serializable(PACKAGE)
class GroupNorm(keras.layers.Layer):
    """Group normalisation of channels-last signals (Wu & He 2018), in the policy's variable dtype.

    Sums run over positions first and over a group's channels by a small matrix product, which hands every channel its
    group's mean at once: no reshape of the signal, which is what makes `keras.layers.GroupNormalization` slow (no
    upstream issue known, searched November 2026). The
    variance is that of centred values, because a difference of two means would cancel. Sums, not means, because
    `ops.mean` rounds float64 to float32 on JAX (keras-team/keras#23704).
    """

    def __init__(self, groups: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = groups

    def build(self, shape: tuple[int | None, ...]) -> None:
        _, *lengths, channels = (length or 0 for length in shape)
        if not all(lengths) or not channels or channels % self.groups:
            raise ValueError(f"{self.groups} groups divide the channels of signals of fixed shape, got {shape}")
        self.gamma = self.add_weight(shape=(channels,), initializer="ones", name="gamma", autocast=False)
        self.beta = self.add_weight(shape=(channels,), initializer="zeros", name="beta", autocast=False)
        size = channels // self.groups
        block = np.kron(np.eye(self.groups), np.full((size, size), 1 / (size * math.prod(lengths))))
        self.averaging = block.astype(self.variable_dtype)

    def call(self, x: Any) -> Any:
        x = ops.cast(x, self.variable_dtype)
        positions = tuple(range(1, len(x.shape) - 1))
        broadcast = (-1, *(1 for _ in positions), x.shape[-1])
        averaging = ops.convert_to_tensor(self.averaging)

        def group_mean(y: Any) -> Any:
            return ops.matmul(ops.sum(y, axis=positions), averaging)

        centred = x - ops.reshape(group_mean(x), broadcast)
        scale = ops.rsqrt(group_mean(centred * centred) + NORM_EPSILON) * self.gamma
        return ops.cast(centred * ops.reshape(scale, broadcast) + self.beta, self.compute_dtype)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups}


def attend(query: Any, key: Any, value: Any) -> Any:
    """softmax(query key^T / sqrt(E)) value, (N, L, E) each.

    L x L scores an example would soon take more memory than all else. PyTorch has a fused form, which never holds them;
    TensorFlow has none, and JAX has it on GPUs in half precision alone. There, a part of the queries has at most LONG/2
    squared scores, as long as MOST_PARTS are enough.
    """
    length, width = query.shape[1:]
    if length < LONG:
        return _attend_at_once(query, key, value)
    if ENGINE.name == "torch":
        heads = (ops.expand_dims(part, 2) for part in (query, key, value))
        return ops.reshape(ops.dot_product_attention(*heads, scale=width**-0.5), (-1, length, width))
    rows = math.ceil(length / min(MOST_PARTS, math.ceil((2 * length / LONG) ** 2)))
    parts = [_attend_at_once(query[:, start : start + rows], key, value) for start in range(0, length, rows)]
    return ops.concatenate(parts, axis=1)


def _attend_at_once(query: Any, key: Any, value: Any) -> Any:
    scores = ops.matmul(query, ops.transpose(key, (0, 2, 1))) * query.shape[-1] ** -0.5
    return ops.matmul(ops.softmax(scores, axis=-1), value)


@keras.saving.register_keras_serializable(PACKAGE)
class DoublingConv2D(keras.layers.Conv2D):
    """A convolution, 3 wide, of its input with every length doubled by nearest neighbour.

    An output sees each input under one or two of its kernel's taps in each direction. Their sums are the taps of a
    transposed convolution, 4 wide and of stride 2, which needs 16 products where the other way needs 36. TensorFlow on
    a CPU is faster by it; elsewhere both steps are taken as they are.
    """

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(filters, **{**kwargs, "kernel_size": 3, "padding": "same"})

    def call(self, x: Any) -> Any:
        if not ENGINE.cpu_doubles_by_transposing or ENGINE.gpus():
            return super().call(ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2))
        taps = ops.pad(self.kernel, ((1, 1), (1, 1), (0, 0), (0, 0)))
        taps = taps[1:] + taps[:-1]
        taps = ops.flip(taps[:, 1:] + taps[:, :-1], axis=(0, 1))
        return ops.conv_transpose(x, ops.transpose(taps, (0, 1, 3, 2)), strides=2, padding="same") + self.bias

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        count, *lengths, _ = shape
        return (count, *(length and 2 * length for length in lengths), self.filters)
