"""The U-Net and the MLP of `backends.networks` as `keras.Model`s.

Both are graphs of layers named by the neutral prefix of their weights ("down_blocks-0-resnets-0-conv1"), so that they
can be saved, summarised, cut and extended like any other, and weights are found by name. Signals are channels last
throughout. `network(x_t, t)` and `network([x_t, t])`, the form for `fit`, take steps t (N,) in 1..T.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.interface import Execution, Weights
from backends.keras.arrays import namespace, on_device, to_numpy
from backends.keras.layers import PACKAGE, DoublingConv2D, GroupNorm, TimeFeatures, attend
from backends.networks import MLPSettings, NetworkSettings, UNetSettings, check_weights, weight_specs
from core.arrays import Array

KerasTensor = Any


class _Network(keras.Model):
    """A graph from [x_t (N, ..., C), t (N,)] to (N, ..., out_channels), known by its settings and its dtype policy."""

    settings_class: ClassVar[Any]
    settings: NetworkSettings

    def __init__(self, settings: NetworkSettings, dtype: str, graph: tuple[list[KerasTensor], KerasTensor], name: str):
        inputs, output = graph
        super().__init__(inputs=inputs, outputs=output, name=name)
        self.settings, self.policy = settings, dtype

    def __call__(self, x_t: Any, t: Any = None, **options: Any) -> Any:
        return super().__call__(x_t if t is None else [x_t, t], **options)

    def get_config(self) -> dict[str, Any]:
        return {"settings": asdict(self.settings), "dtype": self.policy, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> _Network:
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in config["settings"].items()}
        return cls(cls.settings_class(**values), config["dtype"], name=config["name"])  # type: ignore[call-arg]


@keras.saving.register_keras_serializable(PACKAGE)
class UNet(_Network):
    """The U-Net of Ho et al. (2020), app. B, over 1-D or 2-D signals.

    `dtype` is a Keras dtype policy. A new one has Keras's own initial weights; `make_network` gives those of
    `backends.networks`.
    """

    settings_class = UNetSettings

    def __init__(self, settings: UNetSettings, dtype: str = "float32", name: str = "unet") -> None:
        super().__init__(settings, dtype, _UNetBuilder(settings, dtype).graph(), name)


@keras.saving.register_keras_serializable(PACKAGE)
class MLP(_Network):
    """A residual multilayer perceptron over points. Arguments as for `UNet`."""

    settings_class = MLPSettings

    def __init__(self, settings: MLPSettings, dtype: str = "float32", name: str = "mlp") -> None:
        super().__init__(settings, dtype, _mlp_graph(settings, dtype), name)


def _mlp_graph(settings: MLPSettings, dtype: str) -> tuple[list[KerasTensor], KerasTensor]:
    def dense(name: str, width: int) -> keras.layers.Layer:
        return keras.layers.Dense(width, name=_layer_name(name), dtype=dtype)

    x_t, t = _inputs(settings, dtype)
    time = _time_embedding(t, settings.time_features, 2 * settings.time_features, dtype)
    width = settings.width
    h = dense("linear_in", width)(x_t)
    for i in range(settings.depth):
        inner = dense(f"blocks.{i}.linear_1", width)(ops.silu(h)) + dense(f"blocks.{i}.time_proj", width)(time)
        h = h + dense(f"blocks.{i}.linear_2", width)(ops.silu(inner))
    return [x_t, t], dense("linear_out", settings.out_channels)(ops.silu(h))


class _UNetBuilder:
    """Adds the U-Net's layers one after another; every one has the same dtype policy."""

    def __init__(self, settings: UNetSettings, dtype: str) -> None:
        self.settings, self.dtype = settings, dtype
        self.x_t, self.t = _inputs(settings, dtype)
        features = settings.time_features
        self.time = ops.silu(_time_embedding(self.t, features, 4 * features, dtype))

    def graph(self) -> tuple[list[KerasTensor], KerasTensor]:
        s = self.settings
        h = self.conv("conv_in", s.widths[0])(self.x_t)
        skips = [h]
        for level, width in enumerate(s.widths):
            block = f"down_blocks.{level}"
            for i in range(s.blocks_per_level):
                h = self.level_part(block, i, level, h, width)
                skips.append(h)
            if level < len(s.widths) - 1:
                h = self.downsampled(f"{block}.downsamplers.0.conv", h, width)
                skips.append(h)
        h = self.resnet("mid_block.resnets.0", h, s.widths[-1])
        if s.mid_attention:
            h = self.attention("mid_block.attentions.0", h)
        h = self.resnet("mid_block.resnets.1", h, s.widths[-1])
        for up, level in enumerate(reversed(range(len(s.widths)))):
            block = f"up_blocks.{up}"
            for i in range(s.blocks_per_level + 1):
                h = self.level_part(block, i, level, ops.concatenate([h, skips.pop()], axis=-1), s.widths[level])
            if level:
                h = self.upsampled(f"{block}.upsamplers.0.conv", h, s.widths[level])
        h = self.conv("conv_out", s.out_channels)(ops.silu(self.norm("conv_norm_out")(h)))
        return [self.x_t, self.t], h

    def level_part(self, block: str, i: int, level: int, h: KerasTensor, width: int) -> KerasTensor:
        h = self.resnet(f"{block}.resnets.{i}", h, width)
        return self.attention(f"{block}.attentions.{i}", h) if level in self.settings.attention_levels else h

    def conv(self, name: str, width: int, kernel: int = 3, strides: int = 1, padding: str = "same") -> Any:
        layer = (keras.layers.Conv1D, keras.layers.Conv2D)[self.settings.spatial_dims - 1]
        return layer(width, kernel, strides=strides, padding=padding, name=_layer_name(name), dtype=self.dtype)

    def norm(self, name: str) -> GroupNorm:
        return GroupNorm(self.settings.norm_groups, name=_layer_name(name), dtype=self.dtype)

    def dense(self, name: str, width: int) -> keras.layers.Layer:
        return keras.layers.Dense(width, name=_layer_name(name), dtype=self.dtype)

    def resnet(self, name: str, x: KerasTensor, width: int) -> KerasTensor:
        """x + conv2(silu(norm2(conv1(silu(norm1(x))) + time))), x by a 1-wide convolution where widths differ."""
        h = self.conv(f"{name}.conv1", width)(ops.silu(self.norm(f"{name}.norm1")(x)))
        time = self.dense(f"{name}.time_emb_proj", width)(self.time)
        h = h + ops.reshape(time, (-1, *(1,) * self.settings.spatial_dims, width))
        h = self.conv(f"{name}.conv2", width)(ops.silu(self.norm(f"{name}.norm2")(h)))
        shortcut = x if x.shape[-1] == width else self.conv(f"{name}.conv_shortcut", width, 1)(x)
        return shortcut + h

    def attention(self, name: str, x: KerasTensor) -> KerasTensor:
        """Self-attention over positions with one head, added to its input."""
        *lengths, width = x.shape[1:]
        positions = ops.reshape(self.norm(f"{name}.group_norm")(x), (-1, int(np.prod(lengths)), width))
        query, key, value = (self.dense(f"{name}.{part}", width)(positions) for part in ("to_q", "to_k", "to_v"))
        mixed = self.dense(f"{name}.to_out.0", width)(attend(query, key, value))
        return x + ops.reshape(mixed, (-1, *lengths, width))

    def downsampled(self, name: str, x: KerasTensor, width: int) -> KerasTensor:
        """Halves every length: a convolution of stride 2, padded at the end alone."""
        padding = [(0, 0), *[(0, 1)] * self.settings.spatial_dims, (0, 0)]
        return self.conv(name, width, strides=2, padding="valid")(ops.pad(x, padding))

    def upsampled(self, name: str, x: KerasTensor, width: int) -> KerasTensor:
        """Doubles every length: nearest neighbour, then a convolution."""
        if self.settings.spatial_dims == 2:
            return DoublingConv2D(width, name=_layer_name(name), dtype=self.dtype)(x)
        return self.conv(name, width)(ops.repeat(x, 2, axis=1))


def _layer_name(prefix: str) -> str:
    """The neutral prefix of a layer's weights, without the dots that names on the torch engine must not have."""
    return prefix.replace(".", "-")


def _inputs(settings: NetworkSettings, dtype: str) -> tuple[KerasTensor, KerasTensor]:
    values = keras.DTypePolicy(dtype).variable_dtype
    return keras.Input(settings.shape, dtype=values, name="x_t"), keras.Input((), dtype=values, name="t")


def _time_embedding(t: KerasTensor, features: int, width: int, dtype: str) -> KerasTensor:
    h = TimeFeatures(features, name="time_features", dtype=dtype)(t)
    h = keras.layers.Dense(width, name=_layer_name("time_embedding.linear_1"), dtype=dtype)(h)
    return keras.layers.Dense(width, name=_layer_name("time_embedding.linear_2"), dtype=dtype)(ops.silu(h))


def make_network(settings: NetworkSettings, weights: Weights, execution: Execution) -> UNet | MLP:
    """The network with the given neutral weights, on the device and in the dtype of `execution`."""
    check_weights(settings, weights)
    namespace(execution)
    policy = {"bfloat16": "mixed_bfloat16"}.get(execution.dtype, execution.dtype)
    with on_device(execution.device):
        network = UNet(settings, policy) if isinstance(settings, UNetSettings) else MLP(settings, policy)
        load_neutral(network, weights)
    return network


def run_network(network: Callable[[Array, Array], Array], x_t: Array, t: Array) -> Array:
    """The network's output in the dtype of x_t, whatever its own policy."""
    return ops.cast(network(x_t, t), x_t.dtype)


def load_neutral(network: UNet | MLP, weights: Weights) -> None:
    """Sets the network's weights to neutral ones, or raises a ValueError in one line and changes nothing."""
    check_weights(network.settings, weights)
    for name, variable in neutral_variables(network):
        variable.assign(from_neutral(weights[name]))


def export_weights(network: UNet | MLP) -> Weights:
    """The network's weights by neutral name and in the neutral layout, in the dtype they have."""
    return {name: to_neutral(to_numpy(variable)) for name, variable in neutral_variables(network)}


def neutral_variables(network: UNet | MLP) -> Iterator[tuple[str, keras.Variable]]:
    """Every weight's neutral name and the variable that holds it."""
    for name in weight_specs(network.settings):
        prefix, _, kind = name.rpartition(".")
        layer = network.get_layer(_layer_name(prefix))
        weight, bias = ("gamma", "beta") if isinstance(layer, GroupNorm) else ("kernel", "bias")
        yield name, getattr(layer, weight if kind == "weight" else bias)


def from_neutral(weight: NDArray[Any]) -> NDArray[Any]:
    """A weight in Keras's layout: kernels (..., in, out) from (out, in, ...); vectors are the same in both."""
    return np.moveaxis(weight, (1, 0), (-2, -1)) if weight.ndim > 1 else weight


def to_neutral(weight: NDArray[Any]) -> NDArray[Any]:
    """The inverse of `from_neutral`, in C order."""
    return np.ascontiguousarray(np.moveaxis(weight, (-2, -1), (1, 0))) if weight.ndim > 1 else weight
