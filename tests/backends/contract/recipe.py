"""The optimiser on gradients that are given, against numbers worked out in 40 digits and the recipe in numpy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from backends.interface import Draws
from backends.recipe import TrainingRecipe
from tests.backends.reference import recipe_by_hand

Parts = dict[str, NDArray[np.float64]]
"""weights, ema, adam_m and adam_v as arrays of one shape."""

RECIPE = TrainingRecipe(
    num_steps=8,
    learning_rate=0.5,
    warmup_steps=2,
    final_rate_fraction=0.1,
    clip_norm=0.5,
    ema_decay=0.3,
    adam_beta_1=0.8,
    adam_beta_2=0.95,
    adam_epsilon=0.01,
)
START = [1.0, -2.0]
GRADIENTS = [[3.0, -4.0], [0.09, 0.12], [-6.0, 8.0], [0.3, 0.4]]
"""Of norm 5, 0.15, 10 and 0.5: clipped, left alone, clipped, and at the limit, where only the 1e-6 clips."""

IN_FORTY_DIGITS: list[dict[str, list[float]]] = [
    {
        "weights": [0.75806451768990634, -1.7560975621653777],
        "ema": [0.80205278720083246, -1.8004434599534909],
        "adam_m": [0.0599999880000024, -0.0799999840000032],
        "adam_v": [0.00449999820000054, 0.00799999680000096],
    },
    {
        "weights": [0.3579289365613237, -1.5722110696004974],
        "ema": [0.46895989922120089, -1.6292691671887457],
        "adam_m": [0.06599999040000192, -0.03999998720000256],
        "adam_v": [0.004679998290000513, 0.008319996960000912],
    },
    {
        "weights": [0.38454582201357396, -1.7065853124446558],
        "ema": [0.40987004517586204, -1.6833904688678828],
        "adam_m": [-0.007200001679999064, 0.048000002239998752],
        "adam_v": [0.0089459974755006223, 0.015903995512001106],
    },
    {
        "weights": [0.25496059317303013, -1.9206866793844879],
        "ema": [0.3014334287738797, -1.8494978162295064],
        "adam_m": [0.054239878656240748, 0.118399841792319],
        "adam_v": [0.012998679601779591, 0.023108763736497051],
    },
]
"""By mpmath from the equations in `backends.recipe`'s page, with rates 1/4, 1/2, (0.1 + 0.9 (2 + sqrt 3) / 4) / 2 and
(0.1 + 0.9 * 3/4) / 2, and averages that keep 2/11, 1/4, 0.3 and 0.3, since 4/13 and 5/14 are more than 0.3.
"""


class RecipeContract(ABC):
    """What a step makes of a gradient, whatever the network."""

    @staticmethod
    @abstractmethod
    def optimised(recipe: TrainingRecipe, start: NDArray[np.float64], gradients: NDArray[np.float64]) -> list[Parts]:
        """The parts after each step of the backend's optimiser in float64, from `start` (P,) or (M, P)."""

    def test_four_steps_in_forty_digits(self):
        for found, expected in zip(
            self.optimised(RECIPE, np.array(START), np.array(GRADIENTS)), IN_FORTY_DIGITS, strict=True
        ):
            assert found.keys() == expected.keys()
            for part, values in expected.items():
                np.testing.assert_allclose(found[part], values, rtol=1e-13, err_msg=part)  # a dozen roundings

    @pytest.mark.parametrize(
        ("changes", "clipped"),
        [
            ({}, (5, 35)),
            ({"clip_norm": None}, (0, 0)),
            ({"ema_decay": 0.7, "warmup_steps": 0}, (5, 35)),
            ({"num_steps": 20, "final_rate_fraction": 0.3}, (5, 35)),
            ({"warmup_steps": 60}, (5, 35)),
        ],
        ids=str,
    )
    def test_forty_steps_follow_the_recipe(self, changes, clipped):
        """With warm-up, decay and the end of the training passed, the cap on the average, and clipping now and then."""
        recipe = replace(TrainingRecipe(num_steps=35, warmup_steps=10, learning_rate=0.05, ema_decay=0.8), **changes)
        rng = np.random.default_rng(0)
        start, gradients = rng.standard_normal(7), rng.standard_normal((40, 7)) * 10 ** rng.uniform(-1.5, 0.5, (40, 1))
        found = self.optimised(recipe, start, gradients)[-1]
        expected, factors = by_hand(recipe, start, gradients)
        assert clipped[0] <= sum(factor < 1 for factor in factors) <= clipped[1]
        for part, values in expected.items():
            np.testing.assert_allclose(found[part], values, rtol=1e-11, atol=1e-13, err_msg=part)

    def test_rows_are_clipped_by_their_own_norms(self):
        """(M, P) is M trainings: a large gradient in one row shortens no other."""
        rng = np.random.default_rng(1)
        start, gradients = rng.standard_normal((3, 5)), rng.standard_normal((6, 3, 5)) * [[0.1], [1.0], [100.0]]
        found = self.optimised(RECIPE, start, gradients)[-1]
        for row in range(3):
            expected, _ = by_hand(RECIPE, start[row], gradients[:, row])
            for part, values in expected.items():
                np.testing.assert_allclose(found[part][row], values, rtol=1e-11, atol=1e-13, err_msg=part)


def by_hand(
    recipe: TrainingRecipe, start: NDArray[np.float64], gradients: NDArray[np.float64]
) -> tuple[Parts, list[float]]:
    """`recipe_by_hand` of one weight, whose gradients are given whatever the draws."""
    given = iter(gradients)
    no_draws = [Draws(np.zeros((1, 1)), np.zeros((1, 1)), np.ones(1, np.int64), np.ones(1))] * len(gradients)
    parts, factors = recipe_by_hand({"w": start}, lambda *_: {"w": next(given)}, recipe, no_draws)
    return {part: named["w"] for part, named in parts.items()}, factors
