"""A piece of the U-Net in a form that CPUs run faster, with the same weights and, to rounding, the same values."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def doubled(conv: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """conv of x with every length doubled by nearest neighbour; `conv` is 3 wide and keeps lengths.

    An output sees each input under one or two of its kernel's taps in each direction. Their sums are the taps of a
    transposed convolution, 4 wide and of stride 2, which needs 16 products where the other way needs 36. On a CPU that
    takes two thirds of the time; on other devices, and for 1-D signals, both steps are PyTorch's.
    """
    if x.dim() != 4 or x.device.type != "cpu":
        return conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    taps = F.pad(conv.weight, (1, 1, 1, 1))
    taps = taps[:, :, 1:] + taps[:, :, :-1]
    taps = (taps[..., 1:] + taps[..., :-1]).flip(2, 3)
    return F.conv_transpose2d(x, taps.transpose(0, 1), conv.bias, stride=2, padding=1)
