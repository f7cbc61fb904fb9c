"""The recipe's optimiser in PyTorch."""

from __future__ import annotations

import pytest
import torch

from backends.torch.optimiser import FlatOptimiser
from tests.backends.contract.recipe import RecipeContract

pytestmark = pytest.mark.torch


class TestRecipe(RecipeContract):
    """What every backend does."""

    @staticmethod
    def optimised(recipe, start, gradients):
        weights = torch.nn.Parameter(torch.tensor(start))
        optimiser = FlatOptimiser(recipe, weights)
        steps = []
        for step, gradient in enumerate(gradients, start=1):
            weights.grad = torch.tensor(gradient)
            optimiser.update(step)
            steps.append({name: part.detach().clone().numpy() for name, part in optimiser.parts().items()})
        return steps
