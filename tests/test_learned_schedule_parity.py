"""The learned schedule in both frameworks: the same gradient, and the same schedule after the same steps."""

from __future__ import annotations

import numpy as np
import pytest

import backends.keras
import backends.torch
from backends.recipe import TrainingRecipe
from core.learned_schedule import LearnedSchedule
from core.predictions import PREDICTIONS
from core.reverse import reverse_process
from core.schedules import cosine
from core.variances import VARIANCES
from tests.backends.reference import FLOAT32, FLOAT64, make_draws, mlp_settings, random_weights

pytestmark = pytest.mark.parity

FRAMEWORKS = (backends.torch, backends.keras)
START = cosine(100)
RECIPE = TrainingRecipe(num_steps=20, warmup_steps=4, learning_rate=1e-2)


@pytest.fixture
def op_by_op():
    """Tracing a graph for one step would take most of the time; Keras's own tests train graphs."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def trainers(prediction, variance, execution=FLOAT64, levels=17):
    family = reverse_process(START, prediction, variance, levels=levels)
    settings = mlp_settings(family.learns_variance)
    weights = random_weights(settings, size=0.2)
    return family, [
        backend.place(backend.make_network(settings, weights, execution), family, execution).trainer(
            "posterior_kl", RECIPE, LearnedSchedule(START)
        )
        for backend in FRAMEWORKS
    ]


def worst(ours, theirs):
    """Largest error against the largest value."""
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.usefixtures("op_by_op")
@pytest.mark.parametrize(("execution", "tolerance"), [(FLOAT64, 1e-10), (FLOAT32, 1e-4)])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("variance", VARIANCES)
def test_losses_and_gradients_agree(prediction, variance, execution, tolerance):
    """Away from the start: losses per example, and the schedule's gradient as Adam's first moment.

    float32: the gradient is a difference of large parts, of t = 1 and of the rest.
    """
    family, pair = trainers(prediction, variance, execution)
    moved = np.linspace(-0.5, 0.6, LearnedSchedule(START).size)
    draws = make_draws(family, (3,))
    found = []
    for trainer in pair:
        trainer.load_state({**trainer.state(), "schedule/weights": moved})
        losses = trainer.losses(trainer.step(draws))
        found.append((*losses, trainer.state()["schedule/adam_m"]))
    for ours, theirs in zip(*found, strict=True):
        assert worst(ours, theirs) < tolerance


@pytest.mark.parametrize("source", [0, 1], ids=["torch to keras", "keras to torch"])
def test_twenty_steps_end_at_the_same_schedule_in_either(source):
    """Clipping, Adam, warm-up and averaging, the last ten steps in the other framework: one state, to 1e-8."""
    family, pair = trainers("v", "learned_range")
    first, second = pair[source], pair[1 - source]
    for seed in range(10):
        first.step(make_draws(family, (3,), seed=seed))
    second.load_state(first.state())
    for seed in range(10, 20):
        draws = make_draws(family, (3,), seed=seed)
        for trainer in pair:
            trainer.step(draws)
    ours, theirs = (trainer.state() for trainer in pair)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], rtol=0, atol=1e-8)
    np.testing.assert_allclose(pair[0].schedule().log_snr, pair[1].schedule().log_snr, atol=1e-8)
    assert np.abs(pair[0].schedule().log_snr[1:] - START.log_snr[1:]).max() > 0.05
