"""The recipe's optimiser in Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from backends.keras.arrays import namespace
from backends.keras.optimiser import FlatOptimiser
from tests.backends.contract.recipe import RecipeContract
from tests.backends.reference import FLOAT64

pytestmark = pytest.mark.keras


class TestRecipe(RecipeContract):
    """What every backend does."""

    @staticmethod
    def optimised(recipe, start, gradients):
        xp = namespace(FLOAT64)
        weights, optimiser = xp.asarray(start), FlatOptimiser(recipe, start, xp.dtype)
        steps = []
        for step, gradient in enumerate(gradients, start=1):
            weights = optimiser.moved(weights, xp.asarray(gradient), optimiser.numbers_at(step, xp))
            parts = {"weights": weights, **optimiser.variables}
            steps.append({name: np.array(keras.ops.convert_to_numpy(part)) for name, part in parts.items()})
        return steps
