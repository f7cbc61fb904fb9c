"""The U-Net and the MLP of `backends.networks` as `nn.Module`s whose state dict has the neutral names and layouts.

A state dict of `diffusers.UNet2DModel` with DDPM's settings (Ho et al. 2020) therefore loads with `load_state_dict`,
and the other way round. Signals are channels last at the edge, (N, H, W, C), (N, L, C) or (N, D); inside, 2-D
convolutions keep that memory layout, which is their fast one. `network(x_t, t)` takes steps t (N,) in 1..T.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backends.interface import Execution, Weights
from backends.networks import NORM_EPSILON, TIME_PERIOD, MLPSettings, NetworkSettings, UNetSettings, check_weights
from backends.torch.arrays import namespace, to_numpy
from backends.torch.layers import GroupNorm, NormSiLU, attend, doubled

_CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}


def time_features(t: Tensor, features: int, dtype: torch.dtype) -> Tensor:
    """[sin(w (t - 1)), cos(w (t - 1))] with the frequencies w of `backends.networks.time_frequencies`, (N, features).

    The phase reaches thousands of radians, so it is formed in float64 where the device has it.
    """
    precise = torch.float32 if t.device.type == "mps" else torch.float64
    half = features // 2
    index = torch.arange(half, device=t.device, dtype=precise)
    frequencies = torch.exp(index * (-math.log(TIME_PERIOD) / max(1, half - 1)))
    phase = (t.to(precise) - 1)[:, None] * frequencies
    return torch.cat([torch.sin(phase), torch.cos(phase)], dim=1).to(dtype)


class TimeEmbedding(nn.Module):
    """linear_2(silu(linear_1(time features))), (N, width)."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.features = features
        self.linear_1 = nn.Linear(features, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        features = time_features(t, self.features, self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(features)))


class ResidualBlock(nn.Module):
    """x + conv2(silu(norm2(conv1(silu(norm1(x))) + time))), with a 1-wide convolution on x where the width changes."""

    def __init__(self, settings: UNetSettings, inputs: int, outputs: int) -> None:
        super().__init__()
        conv = _CONVOLUTIONS[settings.spatial_dims]
        self.norm1 = NormSiLU(settings.norm_groups, inputs, NORM_EPSILON)
        self.conv1 = conv(inputs, outputs, 3, padding=1)
        self.time_emb_proj = nn.Linear(4 * settings.time_features, outputs)
        self.norm2 = NormSiLU(settings.norm_groups, outputs, NORM_EPSILON)
        self.conv2 = conv(outputs, outputs, 3, padding=1)
        self.conv_shortcut = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """`time`: silu of the time embedding (N, features), which all blocks share."""
        shift = self.time_emb_proj(time)
        h = self.conv1(self.norm1(x))
        h = h + shift.reshape(*shift.shape, *(1,) * (x.dim() - 2))
        return self.conv_shortcut(x) + self.conv2(self.norm2(h))


class Attention(nn.Module):
    """Self-attention over positions with one head, added to its input."""

    def __init__(self, settings: UNetSettings, channels: int) -> None:
        super().__init__()
        self.group_norm = GroupNorm(settings.norm_groups, channels, NORM_EPSILON)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        positions = self.group_norm(x).flatten(2).transpose(1, 2)
        query, key, value = (part(positions)[:, None] for part in (self.to_q, self.to_k, self.to_v))
        mixed = self.to_out[0](attend(query, key, value)[:, 0])
        return x + mixed.transpose(1, 2).reshape(x.shape)


class Downsample(nn.Module):
    """Halves every length: a convolution of stride 2, padded at the end alone."""

    def __init__(self, settings: UNetSettings, channels: int) -> None:
        super().__init__()
        self.padding = (0, 1) * settings.spatial_dims
        self.conv = _CONVOLUTIONS[settings.spatial_dims](channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, self.padding))


class Upsample(nn.Module):
    """Doubles every length: nearest neighbour, then a convolution."""

    def __init__(self, settings: UNetSettings, channels: int) -> None:
        super().__init__()
        self.conv = _CONVOLUTIONS[settings.spatial_dims](channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return doubled(self.conv, x)


class DownBlock(nn.Module):
    """One level on the way down; every intermediate result is kept for the way up."""

    def __init__(self, settings: UNetSettings, level: int, inputs: int) -> None:
        super().__init__()
        width, blocks = settings.widths[level], settings.blocks_per_level
        self.resnets = nn.ModuleList(ResidualBlock(settings, width if i else inputs, width) for i in range(blocks))
        self.attentions = _attentions(settings, level, blocks)
        last = level == len(settings.widths) - 1
        self.downsamplers = nn.ModuleList() if last else nn.ModuleList([Downsample(settings, width)])

    def forward(self, x: Tensor, time: Tensor, skips: list[Tensor]) -> Tensor:
        for resnet, attention in zip(self.resnets, self.attentions, strict=True):
            x = attention(resnet(x, time))
            skips.append(x)
        for downsample in self.downsamplers:
            x = downsample(x)
            skips.append(x)
        return x


class MiddleBlock(nn.Module):
    """Two residual blocks at the coarsest level, with attention between them where asked."""

    def __init__(self, settings: UNetSettings) -> None:
        super().__init__()
        width = settings.widths[-1]
        self.resnets = nn.ModuleList(ResidualBlock(settings, width, width) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(settings, width) if settings.mid_attention else nn.Identity()])

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x, time)), time)


class UpBlock(nn.Module):
    """One level on the way up; each residual block also takes one of the results kept on the way down."""

    def __init__(self, settings: UNetSettings, level: int, inputs: int, skip_widths: list[int]) -> None:
        super().__init__()
        width = settings.widths[level]
        self.resnets = nn.ModuleList(
            ResidualBlock(settings, (width if i else inputs) + skip, width) for i, skip in enumerate(skip_widths)
        )
        self.attentions = _attentions(settings, level, len(skip_widths))
        self.upsamplers = nn.ModuleList([Upsample(settings, width)] if level else [])

    def forward(self, x: Tensor, time: Tensor, skips: list[Tensor]) -> Tensor:
        for resnet, attention in zip(self.resnets, self.attentions, strict=True):
            x = attention(resnet(torch.cat([x, skips.pop()], dim=1), time))
        for upsample in self.upsamplers:
            x = upsample(x)
        return x


class UNet(nn.Module):
    """The U-Net of Ho et al. (2020), app. B, over 1-D or 2-D signals; (N, ..., C) to (N, ..., out_channels).

    A new one has PyTorch's own initial weights, `make_network` gives those of `backends.networks`.
    """

    def __init__(self, settings: UNetSettings) -> None:
        super().__init__()
        self.settings = settings
        conv, widths = _CONVOLUTIONS[settings.spatial_dims], settings.widths
        levels = range(len(widths))
        self.conv_in = conv(settings.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(settings.time_features, 4 * settings.time_features)
        self.down_blocks = nn.ModuleList(DownBlock(settings, i, widths[max(0, i - 1)]) for i in levels)
        self.mid_block = MiddleBlock(settings)
        skips = _skip_widths(settings)
        self.up_blocks = nn.ModuleList()
        for level in reversed(levels):
            taken = [skips.pop() for _ in range(settings.blocks_per_level + 1)]
            above = widths[min(level + 1, levels[-1])]
            self.up_blocks.append(UpBlock(settings, level, above, taken))
        self.conv_norm_out = NormSiLU(settings.norm_groups, widths[0], NORM_EPSILON)
        self.conv_out = conv(widths[0], settings.out_channels, 3, padding=1)
        _channels_last(self)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        time = F.silu(self.time_embedding(t))
        x = self.conv_in(x_t.movedim(-1, 1))
        skips = [x]
        for down in self.down_blocks:
            x = down(x, time, skips)
        x = self.mid_block(x, time)
        for up in self.up_blocks:
            x = up(x, time, skips)
        return self.conv_out(self.conv_norm_out(x)).movedim(1, -1)


class MLPBlock(nn.Module):
    """h + linear_2(silu(linear_1(silu(h)) + time_proj(time)))."""

    def __init__(self, settings: MLPSettings) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(settings.width, settings.width)
        self.time_proj = nn.Linear(2 * settings.time_features, settings.width)
        self.linear_2 = nn.Linear(settings.width, settings.width)

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        return h + self.linear_2(F.silu(self.linear_1(F.silu(h)) + self.time_proj(time)))


class MLP(nn.Module):
    """A residual multilayer perceptron over points; (N, D) to (N, out_channels). New ones as for `UNet`."""

    def __init__(self, settings: MLPSettings) -> None:
        super().__init__()
        self.settings = settings
        self.time_embedding = TimeEmbedding(settings.time_features, 2 * settings.time_features)
        self.linear_in = nn.Linear(settings.in_channels, settings.width)
        self.blocks = nn.ModuleList(MLPBlock(settings) for _ in range(settings.depth))
        self.linear_out = nn.Linear(settings.width, settings.out_channels)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        time = self.time_embedding(t)
        h = self.linear_in(x_t)
        for block in self.blocks:
            h = block(h, time)
        return self.linear_out(F.silu(h))


Network = UNet | MLP


def make_network(settings: NetworkSettings, weights: Weights, execution: Execution) -> Network:
    """The network with the given neutral weights, on the device and in the dtype of `execution`."""
    check_weights(settings, weights)
    xp = namespace(execution)
    with torch.device("meta"):  # no numbers are drawn for weights that are about to be replaced
        network: Network = UNet(settings) if isinstance(settings, UNetSettings) else MLP(settings)
    network.load_state_dict({name: xp.asarray(weight) for name, weight in weights.items()}, strict=True, assign=True)
    _channels_last(network)
    return network


def export_weights(network: nn.Module) -> Weights:
    """The network's weights by neutral name, in the dtype they have."""
    return {name: to_numpy(weight) for name, weight in network.named_parameters()}


def _channels_last(network: Any) -> None:
    """Lays 2-D kernels out as their inputs are; a kernel of another number of dims stays as it is."""
    network.to(memory_format=torch.channels_last)


def _attentions(settings: UNetSettings, level: int, count: int) -> nn.ModuleList:
    wanted = level in settings.attention_levels
    width = settings.widths[level]
    return nn.ModuleList(Attention(settings, width) if wanted else nn.Identity() for _ in range(count))


def _skip_widths(settings: UNetSettings) -> list[int]:
    """Channels of the results kept on the way down, in order."""
    skips = [settings.widths[0]]
    for level, width in enumerate(settings.widths):
        last = level == len(settings.widths) - 1
        skips += [width] * (settings.blocks_per_level + (0 if last else 1))
    return skips


def run_network(network: Any, x_t: Tensor, t: Tensor, execution: Execution) -> Tensor:
    """network(x_t, t), in bfloat16 where the execution asks for autocast; the output has the dtype of x_t."""
    if execution.dtype != "bfloat16":
        return network(x_t, t)
    with torch.autocast(x_t.device.type, dtype=torch.bfloat16):
        return network(x_t, t).to(x_t.dtype)
