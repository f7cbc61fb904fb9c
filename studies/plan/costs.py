"""About how long a cell takes on a CPU, from the arithmetic of its network: to say so before it starts, and to plan.

An estimate depends on the settings alone, never on a clock, so that what is decided by it is the same every time.
"""

from __future__ import annotations

import bisect
import math

from backends.flops import BACKWARD, forward_flops
from backends.networks import NetworkSettings
from studies.plan.settings import StudySettings

RATE = 4.5e10
"""Operations a second of a U-Net on one CPU thread, measured with the default study's; larger ones reach twice that.

Perceptrons wait for something else than arithmetic, and take longer than is estimated.
"""
START = 15.0
"""Seconds of a cell that are neither optimiser steps nor network evaluations: frameworks to load, samples to score."""


def training_seconds(network: NetworkSettings, settings: StudySettings) -> float:
    """How long the optimiser steps of one cell take."""
    operations = (1 + BACKWARD) * forward_flops(network) * settings.batch_size * settings.train_steps
    return operations / (RATE * settings.threads)


def cell_seconds(network: NetworkSettings, settings: StudySettings, test_examples: int) -> float:
    """How long one cell of T = `settings.num_steps` takes: start, training, the bound of `test_examples`, and samples.

    The likelihood by the probability flow is not counted.
    """
    evaluations = (
        settings.bound_evaluations * test_examples
        + settings.samples * min(settings.sample_steps, settings.num_steps)
        + (0 if draws_whole_chain(settings, settings.num_steps) else settings.full_samples * settings.num_steps)
    )
    evaluating = forward_flops(network) * evaluations / (RATE * settings.threads)
    return START + training_seconds(network, settings) + evaluating


def draws_whole_chain(settings: StudySettings, num_steps: int) -> bool:
    """Whether the samples of a cell of T = num_steps are by the whole chain already, so that none are beside them."""
    return settings.sampler == "ancestral" and settings.sample_steps >= num_steps


def steps_to_warm(num_steps: int, batch_size: int, history: int = 10) -> int:
    """After about how many training steps every t has `history` losses, and importance sampling begins.

    Until then t is uniform: the number of losses at a t is a Poisson variable, and this is where half a t is expected
    to lack some.
    """

    def lacking(steps: int) -> float:
        mean = steps * batch_size / num_steps
        logs = (k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(history))
        return num_steps * sum(map(math.exp, logs))

    enough = 1
    while lacking(enough) > 0.5:
        enough *= 2
    return bisect.bisect_left(range(1, enough + 1), -0.5, key=lambda steps: -lacking(steps)) + 1
