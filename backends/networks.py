"""The networks, neutrally: settings, and the name, shape and initial value of every weight.

Both frameworks build their own layers and load these weights, so that every cell of a study starts from the
same numbers. Names and layouts are those of PyTorch's state dict: linear (out, in), convolution (out, in,
width...), and for the U-Net those of `diffusers.UNet2DModel` with DDPM's settings, so that a published DDPM
checkpoint loads into either framework, and what is trained here opens as a `UNet2DModel`. With other settings the same
names and shapes are of another function: `unet2d_config` has those that ours is of.

The U-Net (Ho et al. 2020, app. B): sinusoidal time embedding; per level `blocks_per_level` residual blocks down
and one more up; attention where asked and in the middle; nearest-neighbour upsampling; stride-2 convolution
downsampling, padded at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TIME_PERIOD = 10_000.0
NORM_EPSILON = 1e-6


@dataclass(frozen=True)
class UNetSettings:
    """A U-Net over signals of `shape` (H, W, C) or (L, C).

    `widths`: channels per level, finest first. `attention_levels`: indices into `widths`. `norm_groups` divides every
    width. `learns_variance` doubles the output channels: prediction first.
    """

    shape: tuple[int, ...]
    widths: tuple[int, ...] = (32, 64)
    blocks_per_level: int = 1
    attention_levels: tuple[int, ...] = ()
    mid_attention: bool = True
    norm_groups: int = 8
    learns_variance: bool = False

    def __post_init__(self) -> None:
        lengths = self.shape[:-1]
        if len(lengths) not in (1, 2):
            raise ValueError(
                f"a U-Net takes signals (H, W, C) or (L, C), got {self.shape}; use the mlp for points (D,)"
            )
        if min(self.shape) < 1 or self.blocks_per_level < 1:
            raise ValueError(f"lengths, channels and blocks_per_level are at least 1, got {self}")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths are of 1 or more levels and at least 1 each, got {self.widths}")
        if self.widths[0] % 2:
            raise ValueError(f"the first of the widths is even, sines and cosines of t in pairs, got {self.widths}")
        if self.norm_groups < 1:
            raise ValueError(f"norm_groups is at least 1, got {self.norm_groups}")
        shrink = 2 ** (len(self.widths) - 1)
        if any(length % shrink for length in lengths):
            raise ValueError(
                f"{len(self.widths)} levels need lengths divisible by {shrink}, got {self.shape}; use fewer widths"
            )
        if any(width % self.norm_groups for width in self.widths):
            raise ValueError(f"norm_groups {self.norm_groups} divides every width, got widths {self.widths}")
        for level in self.attention_levels:
            if not 0 <= level < len(self.widths):
                raise ValueError(
                    f"attention_levels count the widths {self.widths} from 0, the finest, to {len(self.widths) - 1}, "
                    f"got {level}"
                )

    @property
    def spatial_dims(self) -> int:
        return len(self.shape) - 1

    @property
    def in_channels(self) -> int:
        return self.shape[-1]

    @property
    def out_channels(self) -> int:
        return self.in_channels * (2 if self.learns_variance else 1)

    @property
    def time_features(self) -> int:
        """Length of the sinusoidal embedding; the embedding network widens it to four times this."""
        return self.widths[0]


@dataclass(frozen=True)
class MLPSettings:
    """A residual multilayer perceptron over points of `shape` (D,): `depth` blocks of `width`, each told the time."""

    shape: tuple[int, ...]
    width: int = 128
    depth: int = 3
    time_features: int = 64
    learns_variance: bool = False

    def __post_init__(self) -> None:
        if len(self.shape) != 1:
            raise ValueError(f"an mlp takes points of shape (D,), got {self.shape}; use the unet for images and series")
        if min(*self.shape, self.width, self.depth) < 1:
            raise ValueError(f"an mlp has a width, a depth and points of at least 1, got {self}")
        if self.time_features < 2 or self.time_features % 2:
            raise ValueError(f"time_features is even, sines and cosines of t in pairs, got {self.time_features}")

    @property
    def in_channels(self) -> int:
        return self.shape[-1]

    @property
    def out_channels(self) -> int:
        return self.in_channels * (2 if self.learns_variance else 1)


NetworkSettings = UNetSettings | MLPSettings


def time_frequencies(features: int) -> NDArray[np.float64]:
    """Angular frequencies w (features / 2,): the embedding of step t is [sin(w (t - 1)), cos(w (t - 1))].

    DDPM's counts steps from 0; so does the embedding, and everything else here counts them from 1.
    """
    half = features // 2
    return np.exp(-math.log(TIME_PERIOD) * np.arange(half) / max(1, half - 1))


@dataclass(frozen=True)
class WeightSpec:
    """Shape in the neutral layout, and how the weight starts: "uniform" (variance scaling), "zeros" or "ones"."""

    shape: tuple[int, ...]
    start: str


def weight_specs(settings: NetworkSettings) -> dict[str, WeightSpec]:
    """Every weight of the network by neutral name."""
    specs = _unet(settings) if isinstance(settings, UNetSettings) else _mlp(settings)
    return dict(specs)


def initial_weights(settings: NetworkSettings, seed: int) -> dict[str, NDArray[np.float64]]:
    """The starting weights for a seed, float64: the same numbers in every framework.

    Uniform with variance 2 / (fan_in + fan_out), and zero for the last layer of every residual branch and of
    the network (Ho et al. 2020, their code). Each weight has a counter-based stream of its own, so that one
    more layer moves no other.
    """
    return {name: _start(spec, name, seed) for name, spec in weight_specs(settings).items()}


def check_weights(settings: NetworkSettings, weights: dict[str, NDArray[np.float64]]) -> None:
    """ValueError in one line where `weights` are not those of this network."""
    expected = weight_specs(settings)
    missing, unknown = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or unknown:
        differences = [
            f"{len(names)} {kind}, as {names[0]}"
            for kind, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise ValueError(
            f"these weights belong to another network ({'; '.join(differences)}); "
            "load them with the settings they were saved with"
        )
    for name, spec in expected.items():
        shape = tuple(weights[name].shape)
        if shape != spec.shape:
            raise ValueError(
                f"weight {name} has shape {spec.shape} in this network, got {shape}; "
                "load it with the settings it was saved with"
            )


def parameter_count(settings: NetworkSettings) -> int:
    return sum(math.prod(spec.shape) for spec in weight_specs(settings).values())


def _start(spec: WeightSpec, name: str, seed: int) -> NDArray[np.float64]:
    if spec.start == "zeros":
        return np.zeros(spec.shape)
    if spec.start == "ones":
        return np.ones(spec.shape)
    receptive = math.prod(spec.shape[2:])
    limit = math.sqrt(6 / ((spec.shape[0] + spec.shape[1]) * receptive))
    key = np.random.SeedSequence([seed, *name.encode()]).generate_state(2, np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).uniform(-limit, limit, spec.shape)


Specs = Iterator[tuple[str, WeightSpec]]


def _linear(name: str, inputs: int, outputs: int, start: str = "uniform") -> Specs:
    yield f"{name}.weight", WeightSpec((outputs, inputs), start)
    yield f"{name}.bias", WeightSpec((outputs,), "zeros")


def _conv(name: str, inputs: int, outputs: int, kernel: tuple[int, ...], start: str = "uniform") -> Specs:
    yield f"{name}.weight", WeightSpec((outputs, inputs, *kernel), start)
    yield f"{name}.bias", WeightSpec((outputs,), "zeros")


def _norm(name: str, channels: int) -> Specs:
    yield f"{name}.weight", WeightSpec((channels,), "ones")
    yield f"{name}.bias", WeightSpec((channels,), "zeros")


def _resnet(name: str, inputs: int, outputs: int, time: int, three: tuple[int, ...]) -> Specs:
    yield from _norm(f"{name}.norm1", inputs)
    yield from _conv(f"{name}.conv1", inputs, outputs, three)
    yield from _linear(f"{name}.time_emb_proj", time, outputs)
    yield from _norm(f"{name}.norm2", outputs)
    yield from _conv(f"{name}.conv2", outputs, outputs, three, "zeros")
    if inputs != outputs:
        yield from _conv(f"{name}.conv_shortcut", inputs, outputs, (1,) * len(three))


def _attention(name: str, channels: int) -> Specs:
    yield from _norm(f"{name}.group_norm", channels)
    for part in ("to_q", "to_k", "to_v"):
        yield from _linear(f"{name}.{part}", channels, channels)
    yield from _linear(f"{name}.to_out.0", channels, channels, "zeros")


def _unet(s: UNetSettings) -> Specs:
    three, time = (3,) * s.spatial_dims, 4 * s.time_features
    levels = range(len(s.widths))
    yield from _conv("conv_in", s.in_channels, s.widths[0], three)
    yield from _linear("time_embedding.linear_1", s.time_features, time)
    yield from _linear("time_embedding.linear_2", time, time)
    skips, channels = [s.widths[0]], s.widths[0]
    for level in levels:
        block = f"down_blocks.{level}"
        for i in range(s.blocks_per_level):
            yield from _resnet(f"{block}.resnets.{i}", channels, s.widths[level], time, three)
            channels = s.widths[level]
            if level in s.attention_levels:
                yield from _attention(f"{block}.attentions.{i}", channels)
            skips.append(channels)
        if level != levels[-1]:
            yield from _conv(f"{block}.downsamplers.0.conv", channels, channels, three)
            skips.append(channels)
    yield from _resnet("mid_block.resnets.0", channels, channels, time, three)
    if s.mid_attention:
        yield from _attention("mid_block.attentions.0", channels)
    yield from _resnet("mid_block.resnets.1", channels, channels, time, three)
    for up, level in enumerate(reversed(levels)):
        block = f"up_blocks.{up}"
        for i in range(s.blocks_per_level + 1):
            yield from _resnet(f"{block}.resnets.{i}", channels + skips.pop(), s.widths[level], time, three)
            channels = s.widths[level]
            if level in s.attention_levels:
                yield from _attention(f"{block}.attentions.{i}", channels)
        if level != 0:
            yield from _conv(f"{block}.upsamplers.0.conv", channels, channels, three)
    yield from _norm("conv_norm_out", channels)
    yield from _conv("conv_out", channels, s.out_channels, three, "zeros")


def _mlp(s: MLPSettings) -> Specs:
    """h = linear_in(x); per block h += linear_2(silu(linear_1(silu(h)) + time_proj(time))); linear_out(silu(h))."""
    time = 2 * s.time_features
    yield from _linear("time_embedding.linear_1", s.time_features, time)
    yield from _linear("time_embedding.linear_2", time, time)
    yield from _linear("linear_in", s.in_channels, s.width)
    for i in range(s.depth):
        yield from _linear(f"blocks.{i}.linear_1", s.width, s.width)
        yield from _linear(f"blocks.{i}.time_proj", time, s.width)
        yield from _linear(f"blocks.{i}.linear_2", s.width, s.width, "zeros")
    yield from _linear("linear_out", s.width, s.out_channels, "zeros")
