"""How far apart two trainings take the same initial weights, from a small sketch of the weights at a few steps.

A count sketch (Charikar, Chen & Farach-Colton 2002) adds every weight, with a random sign, to one of BUCKETS sums. It
is linear, and the squared norm of a sketch has the squared norm of the weights as its mean, so the difference of two
sketches measures the distance of two networks without keeping either: within 1 / sqrt(2 BUCKETS) = 2 % (one sd).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies.cell.draws import generator

BUCKETS = 1024
POINTS = 20

Sketches = dict[int, NDArray[np.float64]]
"""The sketch after each training step that has one."""


def sketch(weights: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """The sketch (BUCKETS,) of weights by neutral name; signs and buckets depend on names and sizes alone."""
    total = np.zeros(BUCKETS)
    for name in sorted(weights):
        values = np.asarray(weights[name], np.float64).ravel()
        random = generator(0, f"sketch of {name}")
        bucket = random.integers(0, BUCKETS, values.size)
        total += np.bincount(bucket, values * random.choice((-1.0, 1.0), values.size), BUCKETS)
    return total


def sketched_steps(train_steps: int) -> frozenset[int]:
    """About POINTS steps from 1 to `train_steps`, evenly spread in their log: most of the drift is at the start."""
    return frozenset(int(step) for step in np.rint(np.geomspace(1, train_steps, POINTS)))


def as_arrays(sketches: Sketches, parameters: int) -> dict[str, NDArray[Any]]:
    """What a cell's file holds: `steps` (P,) in order, `sketches` (P, BUCKETS), and `parameters`, how many weights.

    Networks of different sizes have no distance.
    """
    steps = sorted(sketches)
    return {
        "steps": np.array(steps, np.int64),
        "sketches": np.array([sketches[step] for step in steps]),
        "parameters": np.array(parameters),
    }
