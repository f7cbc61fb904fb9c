"""About how long a cell takes on a CPU, from the arithmetic of its network: to say so before it starts, and to plan.

An estimate depends on the settings alone, never on a clock, so that what is decided by it is the same every time.
"""

from __future__ import annotations

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
    """How long one cell takes: start, training, the bound of `test_examples`, and samples.

    The likelihood by the probability flow is not counted.
    """
    evaluations = (
        settings.bound_evaluations * test_examples
        + settings.samples * min(settings.sample_steps, settings.num_steps)
        + settings.full_samples * settings.num_steps
    )
    evaluating = forward_flops(network) * evaluations / (RATE * settings.threads)
    return START + training_seconds(network, settings) + evaluating
