"""The two layers that Keras lacks, or has slower than its engines allow."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from backends.networks import NORM_EPSILON, time_frequencies

PACKAGE = "diffusion_objectives"
"""What these classes are registered under in saved Keras models."""

_NEAR, _FAR = 64, 1024


@keras.saving.register_keras_serializable(PACKAGE)
class TimeFeatures(keras.layers.Layer):
    """[sin(w (t - 1)), cos(w (t - 1))] for steps t (N,) in 1..65,536, (N, features).

    The phase reaches thousands of radians, too many for float32. Written t - 1 = 64 q + r, it is a sum of two phases
    whose sines and cosines are tabulated in float64 here and rounded once, and the sum formulas do the rest. The result
    has the policy's variable dtype: a lower one is for the layers that take it in.
    """

    def __init__(self, features: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = features
        frequencies = time_frequencies(features)
        near, far = np.arange(_NEAR)[:, None] * frequencies, _NEAR * np.arange(_FAR)[:, None] * frequencies
        self.tables = [np.asarray(f(phase), self.variable_dtype) for phase in (near, far) for f in (np.sin, np.cos)]

    def call(self, t: Any) -> Any:
        steps = ops.cast(t, "int32") - 1
        far, near = steps // _NEAR, steps % _NEAR
        tables = [ops.convert_to_tensor(table) for table in self.tables]
        sin_near, cos_near = (ops.take(table, near, axis=0) for table in tables[:2])
        sin_far, cos_far = (ops.take(table, far, axis=0) for table in tables[2:])
        sine = sin_far * cos_near + cos_far * sin_near
        return ops.concatenate([sine, cos_far * cos_near - sin_far * sin_near], axis=1)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (shape[0], self.features)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "features": self.features}


@keras.saving.register_keras_serializable(PACKAGE)
class GroupNorm(keras.layers.Layer):
    """Group normalisation of channels-last signals (Wu & He 2018), in the policy's variable dtype.

    Sums run over positions first and over a group's channels by a small matrix product, which hands every channel its
    group's mean at once: no reshape of the signal, which is what makes `keras.layers.GroupNormalization` slow. The
    variance is that of centred values, because a difference of two means would cancel.
    """

    def __init__(self, groups: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = groups

    def build(self, shape: tuple[int | None, ...]) -> None:
        channels = shape[-1]
        if channels is None or channels % self.groups:
            raise ValueError(f"{self.groups} groups divide the channels, got an input of shape {shape}")
        self.gamma = self.add_weight(shape=(channels,), initializer="ones", name="gamma", autocast=False)
        self.beta = self.add_weight(shape=(channels,), initializer="zeros", name="beta", autocast=False)
        size = channels // self.groups
        block = np.kron(np.eye(self.groups), np.full((size, size), 1 / size))
        self.averaging = block.astype(self.variable_dtype)

    def call(self, x: Any) -> Any:
        x = ops.cast(x, self.variable_dtype)
        positions = tuple(range(1, len(x.shape) - 1))
        broadcast = (-1, *(1 for _ in positions), x.shape[-1])
        averaging = ops.convert_to_tensor(self.averaging)

        def group_mean(y: Any) -> Any:
            return ops.matmul(ops.mean(y, axis=positions), averaging)

        centred = x - ops.reshape(group_mean(x), broadcast)
        scale = ops.rsqrt(group_mean(centred * centred) + NORM_EPSILON) * self.gamma
        return ops.cast(centred * ops.reshape(scale, broadcast) + self.beta, self.compute_dtype)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups}
