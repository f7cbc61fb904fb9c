"""Pieces of the U-Net in forms that CPUs run faster, with the same weights and, to rounding, the same values."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NARROW, POSITIONS = 16, range(32, 1024)
"""PyTorch's channels-last group norm is slow on a CPU for groups of fewer channels at so many positions
(pytorch/pytorch#49821 says why).
"""


class GroupNorm(nn.GroupNorm):
    """Group normalisation in the dtype of its weights, whatever that of x (N, C, ...).

    That is what autocast does on a GPU. On a CPU it leaves x in bfloat16, whose 8 bits are few for a variance, and
    PyTorch's norm then takes more than twice as long.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


class NormSiLU(GroupNorm):
    """silu(group_norm(x)), x (N, C, ...).

    PyTorch's norm takes up to a third of an evaluation on small images, because its vectors run over a group's few
    channels. Without gradients the same is a few operations that run over all channels: sums over positions, and means
    over groups as a small matrix product, which hands every channel its group's mean at once. With gradients that would
    not pay.
    """

    def forward(self, x: Tensor) -> Tensor:
        narrow = x.shape[1] < self.num_groups * NARROW and x.shape[2:].numel() in POSITIONS
        plain = _is_cpu_image(x) and not torch.compiler.is_compiling()
        if torch.is_grad_enabled() or not (narrow and plain):
            return F.silu(super().forward(x))
        rows = x.to(self.weight.dtype).permute(0, 2, 3, 1).flatten(1, 2)
        averaging = _averaging(rows.shape[1], rows.shape[2], self.num_groups, rows.dtype)
        with torch.autocast("cpu", enabled=False):  # it would round the products to bfloat16
            centred = rows - (rows.sum(1) @ averaging)[:, None]
            scale = torch.rsqrt((centred * centred).sum(1) @ averaging + self.eps) * self.weight
        normal = torch.addcmul(self.bias, centred, scale[:, None])
        return F.silu(normal, inplace=True).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


@lru_cache(maxsize=64)
def _averaging(positions: int, channels: int, groups: int, dtype: torch.dtype) -> Tensor:
    """(C, C): takes sums over positions to the mean of each channel's group."""
    size = channels // groups
    return torch.eye(groups, dtype=dtype).kron(torch.full((size, size), 1 / (size * positions), dtype=dtype))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query key^T / sqrt(E)) value, (N, 1, L, E) each.

    On a CPU it is computed in float32: the gradient in bfloat16 takes ten times as long there (no upstream issue known,
    searched November 2026).
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float())


def _is_cpu_image(x: Tensor) -> bool:
    return x.dim() == 4 and x.device.type == "cpu"


def doubled(conv: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """conv of x with every length doubled by nearest neighbour; `conv` is 3 wide and keeps lengths.

    An output sees each input under one or two of its kernel's taps in each direction. Their sums are the taps of a
    transposed convolution, 4 wide and of stride 2, which needs 16 products where the other way needs 36. On a CPU that
    takes two thirds of the time; on other devices, and for 1-D signals, both steps are PyTorch's.
    """
    if not _is_cpu_image(x):
        return conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    taps = F.pad(conv.weight, (1, 1, 1, 1))
    taps = taps[:, :, 1:] + taps[:, :, :-1]
    taps = (taps[..., 1:] + taps[..., :-1]).flip(2, 3)
    return F.conv_transpose2d(x, taps.transpose(0, 1), conv.bias, stride=2, padding=1)
