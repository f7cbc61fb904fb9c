"""What one pass of a network takes, counted from its weights: arithmetic, and numbers to keep."""

from __future__ import annotations

import math

from backends.networks import NetworkSettings, UNetSettings, weight_specs

BACKWARD = 2
"""A backward pass is worth two forward ones: the gradients of inputs and of weights."""


def forward_flops(settings: NetworkSettings) -> int:
    """Floating-point operations of one example's forward pass in convolutions and matrix products, 2 a multiply-add.

    They are counted from the network's definition. An implementation that computes the same function with fewer, by a
    faster algorithm for a convolution say, is still credited with all of them: more a second always means less time.
    """
    total = 0
    for name, spec in weight_specs(settings).items():
        if len(spec.shape) > 1:
            total += 2 * math.prod(spec.shape) * _positions(settings, name)
        if name.endswith("to_q.weight"):
            total += 4 * spec.shape[0] * _positions(settings, name) ** 2  # query by key, and weights by value
    return total


def layer_outputs(settings: NetworkSettings) -> int:
    """How many numbers the convolutions and linear layers put out for one example."""
    specs = weight_specs(settings).items()
    return sum(spec.shape[0] * _positions(settings, name) for name, spec in specs if len(spec.shape) > 1)


def _positions(settings: NetworkSettings, name: str) -> int:
    """At how many positions of an example the weight is applied."""
    if not isinstance(settings, UNetSettings) or "time_" in name:
        return 1
    last = len(settings.widths) - 1
    part, *rest = name.split(".")
    level = {"conv_in": 0, "conv_out": 0, "mid_block": last}.get(part)
    if level is None:
        index = int(rest[0])
        level = index if part == "down_blocks" else last - index
        level += {"downsamplers": 1, "upsamplers": -1}.get(rest[1], 0)
    return math.prod(length // 2**level for length in settings.shape[:-1])
