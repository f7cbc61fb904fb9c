"""The published recipe in literal numbers: the rate at angles whose cosine is known, the average's decay in fractions.

Clipping and Adam are the frameworks' own and held to numbers in `contract/recipe.py`.
"""

from __future__ import annotations

from dataclasses import asdict

import pytest

from backends.recipe import CLIP_EPSILON, TrainingRecipe


def test_the_defaults_are_those_that_the_page_states():
    assert asdict(TrainingRecipe()) == {
        "num_steps": 3000,
        "learning_rate": 2e-3,
        "warmup_steps": 100,
        "final_rate_fraction": 0.0,
        "clip_norm": 1.0,
        "ema_decay": 0.999,
        "adam_beta_1": 0.9,
        "adam_beta_2": 0.999,
        "adam_epsilon": 1e-8,
    }
    assert CLIP_EPSILON == 1e-6


HALF_COSINE = (1.0, 0.9330127018922193, 0.75, 0.5, 0.25, 0.0669872981077807, 0.0)
"""(1 + cos a) / 2 at 0, 30, 60, ..., 180 degrees: (2 + sqrt 3) / 4 the second."""


@pytest.mark.parametrize(
    ("recipe", "rates"),
    [
        pytest.param(
            TrainingRecipe(num_steps=10, warmup_steps=4, learning_rate=0.04),
            {1: 0.01, 2: 0.02, 3: 0.03, **{4 + k: 0.04 * share for k, share in enumerate(HALF_COSINE)}},
            id="the decay counts from the end of the warm-up, where the rate is at its peak, and ends at 0",
        ),
        pytest.param(
            TrainingRecipe(num_steps=10, warmup_steps=4, learning_rate=0.04, final_rate_fraction=0.25),
            # 0.01 is what is left of 0.04, and the cosine takes the 0.03 above it.
            {1: 0.01, 4: 0.04, 6: 0.0325, 7: 0.025, 8: 0.0175, 10: 0.01, 11: 0.01, 1000: 0.01},
            id="a final rate above 0 is where the cosine ends and stays",
        ),
        pytest.param(
            TrainingRecipe(num_steps=6, warmup_steps=0, learning_rate=2.0),
            {k: 2 * share for k, share in enumerate(HALF_COSINE) if k},
            id="without a warm-up step 1 is on the cosine",
        ),
        pytest.param(
            TrainingRecipe(num_steps=4, warmup_steps=8, learning_rate=0.8),
            {1: 0.1, 4: 0.4, 8: 0.8},
            id="a warm-up longer than the training is cut off, not hurried",
        ),
        pytest.param(
            TrainingRecipe(num_steps=4, warmup_steps=4, learning_rate=0.8),
            {1: 0.2, 3: 0.6, 4: 0.8, 5: 0.0},
            id="a warm-up of the whole training ends at the peak",
        ),
        pytest.param(
            TrainingRecipe(num_steps=5, warmup_steps=4, learning_rate=0.8),
            {4: 0.8, 5: 0.0},
            id="a decay of one step",
        ),
        pytest.param(
            TrainingRecipe(),
            # At 45, 90 and 135 degrees the half cosine is (2 + sqrt 2) / 4, 1/2 and (2 - sqrt 2) / 4.
            {
                1: 2e-5,
                50: 1e-3,
                100: 2e-3,
                825: 2e-3 * 0.8535533905932737,
                1550: 1e-3,
                2275: 2e-3 * 0.14644660940672624,
                3000: 0.0,
            },
            id="the default",
        ),
    ],
)
def test_the_rate_rises_in_a_line_and_falls_along_half_a_cosine(recipe, rates):
    found = {step: recipe.learning_rate_at(step) for step in rates}
    assert found == pytest.approx(rates, rel=1e-14, abs=1e-17)


@pytest.mark.parametrize(
    ("step", "decay"),
    [(1, 2 / 11), (2, 0.25), (8, 0.5), (17, 2 / 3), (80, 0.9), (890, 0.99), (8989, 8990 / 8999), (8990, 0.999)],
)
def test_the_average_keeps_what_one_plus_k_over_ten_plus_k_says(step, decay):
    """After step 1 it keeps 2/11, not 1/10 or 1/11; 0.999 is reached at step 8990, where 8991/9000 is."""
    assert TrainingRecipe().ema_decay_at(step) == pytest.approx(decay, rel=1e-15)


@pytest.mark.parametrize(("step", "decay"), [(1, 2 / 11), (7, 8 / 17), (8, 0.5), (9, 0.5), (10_000, 0.5)])
def test_the_average_never_keeps_more_than_its_decay(step, decay):
    assert TrainingRecipe(ema_decay=0.5).ema_decay_at(step) == pytest.approx(decay, rel=1e-15)
    assert TrainingRecipe().ema_decay_at(10**6) == 0.999
