"""All weights of a network end to end in one vector, so that clipping, Adam and averaging are one operation each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Flat:
    """`vector`, a parameter of all weights, and its `gradient`.

    The weights given become views into it: they stay what the network computes with, in the memory layout they had, and
    whoever changes the vector changes them.
    """

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        self._weights = weights
        self._shapes = [(weight.shape, weight.stride()) for weight in weights]
        like = weights[0]
        size = sum(weight.numel() for weight in weights)
        self.vector = nn.Parameter(torch.empty(size, dtype=like.dtype, device=like.device))
        self.gradient = self.vector.grad = torch.zeros_like(self.vector)
        self._gradients = self.views(self.gradient)
        with torch.no_grad():
            for weight, view in zip(weights, self.views(self.vector.data), strict=True):
                weight.data = view.copy_(weight)

    def views(self, vector: Tensor) -> list[Tensor]:
        """A vector like `vector` as the weights it holds."""
        found, offset = [], 0
        for shape, stride in self._shapes:
            found.append(vector.as_strided(shape, stride, offset))
            offset += shape.numel()
        return found

    def gather_gradient(self) -> None:
        """Moves what backward() left in the weights into `gradient`: 0 for those it left nothing in."""
        kept = [
            (view, weight.grad)
            for view, weight in zip(self._gradients, self._weights, strict=True)
            if weight.grad is not None
        ]
        if len(kept) < len(self._weights):
            self.gradient.zero_()
        torch._foreach_copy_([view for view, _ in kept], [gradient for _, gradient in kept])
        for weight in self._weights:
            weight.grad = None
