"""Clipping, Adam and the moving average of `backends.recipe`, on all weights at once.

The weights lie end to end in one parameter, so that each of the three is one operation rather than one a weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from backends import states
from backends.recipe import CLIP_EPSILON, TrainingRecipe


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
        views, offset = [], 0
        for shape, stride in self._shapes:
            views.append(vector.as_strided(shape, stride, offset))
            offset += shape.numel()
        return views

    def gather_gradient(self) -> None:
        """Moves what backward() left in the weights into `gradient`: 0 for those it left nothing in."""
        filled = [
            (view, weight.grad)
            for view, weight in zip(self._gradients, self._weights, strict=True)
            if weight.grad is not None
        ]
        if len(filled) < len(self._weights):
            self.gradient.zero_()
        torch._foreach_copy_([view for view, _ in filled], [gradient for _, gradient in filled])
        for weight in self._weights:
            weight.grad = None


class FlatOptimiser:
    """Adam's moments and the `average` of `weights` (P,), which starts as their copy.

    Weights (M, P) are those of M networks, and every row is clipped by its own norm.
    """

    def __init__(self, recipe: TrainingRecipe, weights: nn.Parameter) -> None:
        self._recipe = recipe
        self.weights, self.average = weights, weights.detach().clone()
        self._adam = torch.optim.Adam(
            [weights],
            lr=recipe.learning_rate,
            betas=(recipe.adam_beta_1, recipe.adam_beta_2),
            eps=recipe.adam_epsilon,
            fused=True,
        )

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Step 1, 2, ... from the gradient in `weights.grad`, which is clipped in place."""
        recipe, gradient = self._recipe, self.weights.grad
        assert gradient is not None
        if recipe.clip_norm is not None:
            norm = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
            gradient.mul_(torch.clamp(recipe.clip_norm / (norm + CLIP_EPSILON), max=1.0))
        self._adam.param_groups[0]["lr"] = recipe.learning_rate_at(step)
        self._adam.step()
        self.average.lerp_(self.weights, 1 - recipe.ema_decay_at(step))

    def parts(self) -> dict[str, Tensor]:
        """By their names in a training state (`backends.states.PARTS`)."""
        # Adam keeps nothing before its first step, where both moments are 0.
        moments, nothing = self._adam.state[self.weights], torch.zeros_like(self.average)
        remembered = (moments.get(key, nothing) for key in ("exp_avg", "exp_avg_sq"))
        return dict(zip(states.PARTS, (self.weights, self.average, *remembered), strict=True))

    @torch.no_grad()
    def load(self, parts: Mapping[str, Tensor], step: int) -> None:
        """Goes on from `parts` after so many steps."""
        self.weights.copy_(parts["weights"])
        self.average.copy_(parts["ema"])
        adam = {"step": torch.tensor(float(step)), "exp_avg": parts["adam_m"], "exp_avg_sq": parts["adam_v"]}
        self._adam.load_state_dict({"state": {0: adam}, "param_groups": self._adam.state_dict()["param_groups"]})
