"""How much work one forward pass of a network is, counted from its settings: operations, and numbers put out."""

from __future__ import annotations

import math

from backends.networks import NetworkSettings, UNetSettings, weight_specs

BACKWARD = 2
"""How many forward passes a backward pass is counted as: one for the gradients of every layer's inputs, and one for
those of its weights.
"""


def forward_flops(settings: NetworkSettings) -> int:
    """Floating-point operations of the forward pass of one example.

    Counted are those of convolutions, linear layers and attention, a multiplication and its addition as two; all else
    is small beside them. The number follows from the network's definition and not from how it is implemented: a faster
    algorithm for a convolution, which needs fewer operations, is credited with as many. Of two implementations, the one
    with more operations a second is therefore always the one that takes less time.
    """
    total = 0
    for name, spec in weight_specs(settings).items():
        if len(spec.shape) > 1:
            total += 2 * math.prod(spec.shape) * _positions(settings, name)
        if name.endswith("to_q.weight"):  # every query with every key, and every value by the weight that gives
            total += 4 * spec.shape[0] * _positions(settings, name) ** 2
    return total


def layer_outputs(settings: NetworkSettings) -> int:
    """How many numbers all convolutions and linear layers together put out for one example."""
    specs = weight_specs(settings).items()
    return sum(spec.shape[0] * _positions(settings, name) for name, spec in specs if len(spec.shape) > 1)


def attention_scores(settings: NetworkSettings) -> int:
    """How many scores of a query with a key all attention together forms for one example, where none is fused."""
    return sum(_positions(settings, name) ** 2 for name in weight_specs(settings) if name.endswith("to_q.weight"))


def _positions(settings: NetworkSettings, name: str) -> int:
    """At how many positions of an example the weight is applied.

    A convolution is applied at every pixel of its level of the U-Net, whose lengths halve from level to level; the
    layers that embed the time, and those of a perceptron, once.
    """
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
