"""Clipping, Adam and the moving average of `backends.recipe`, on weights that lie end to end in one array."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from backends.keras.arrays import KerasNamespace
from backends.recipe import CLIP_EPSILON, TrainingRecipe
from core.arrays import Array


class FlatOptimiser:
    """Adam's moments and the average of weights (P,), which start as `flat`; variables are made on the device in scope.

    Weights (M, P) are those of M networks, and every row is clipped by its own norm.

    One array, because weight by weight it would be thousands of small operations, most of what there is to compile and
    dispatch.
    """

    def __init__(self, recipe: TrainingRecipe, flat: NDArray[np.float64], dtype: str) -> None:
        self._recipe = recipe
        self.average, self.m, self.v = (
            keras.Variable(start, trainable=False, dtype=dtype) for start in (flat, 0 * flat, 0 * flat)
        )

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """By their names in a training state."""
        return {"ema": self.average, "adam_m": self.m, "adam_v": self.v}

    def numbers_at(self, step: int, xp: KerasNamespace) -> Array:
        """What Adam and the moving average take from the step's number k: three numbers.

        rate / (1 - beta_1^k), 1 / (1 - beta_2^k), and the share of the new weights in the average.
        """
        recipe = self._recipe
        rate = recipe.learning_rate_at(step) / (1 - recipe.adam_beta_1**step)
        return xp.asarray([rate, 1 / (1 - recipe.adam_beta_2**step), 1 - recipe.ema_decay_at(step)])

    def moved(self, weights: Array, gradient: Array, numbers: Array) -> Array:
        """The weights after one step."""
        recipe, m, v = self._recipe, self.m, self.v
        rate, v_scale, ema_share = numbers[0], numbers[1], numbers[2]
        if recipe.clip_norm is not None:
            norm = ops.sqrt(ops.sum(gradient * gradient, axis=-1, keepdims=True))
            gradient = gradient * ops.minimum(recipe.clip_norm / (norm + CLIP_EPSILON), ops.ones_like(norm))
        m.assign(recipe.adam_beta_1 * m + (1 - recipe.adam_beta_1) * gradient)
        v.assign(recipe.adam_beta_2 * v + (1 - recipe.adam_beta_2) * (gradient * gradient))
        moved = weights - rate * m / (ops.sqrt(v * v_scale) + recipe.adam_epsilon)
        self.average.assign(self.average + ema_share * (moved - self.average))
        return moved
