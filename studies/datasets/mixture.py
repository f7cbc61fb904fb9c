"""Points of a known Gaussian mixture in two dimensions, whose entropy and optimal denoiser are known."""

from __future__ import annotations

import numpy as np

from core.oracles import GaussianMixture
from studies.datasets.dataset import Dataset

COMPONENTS, RADIUS, STD = 8, 1.3, 0.15
TRAIN_EXAMPLES, TEST_EXAMPLES = 10_000, 2_000


def means() -> np.ndarray:
    """Component means, (8, 2): evenly spaced on a circle."""
    angle = 2 * np.pi * np.arange(COMPONENTS) / COMPONENTS
    return RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def distribution() -> GaussianMixture:
    """The density itself: equal weights, isotropic components."""
    return GaussianMixture(np.full(COMPONENTS, 1 / COMPONENTS), means(), np.full(COMPONENTS, STD**2))


def load() -> Dataset:
    """Fixed draws with equal weights."""
    rng = np.random.Generator(np.random.Philox(key=0))
    count = TRAIN_EXAMPLES + TEST_EXAMPLES
    points = means()[rng.integers(COMPONENTS, size=count)] + STD * rng.standard_normal((count, 2))
    train, test = points[:TRAIN_EXAMPLES], points[TRAIN_EXAMPLES:]
    return Dataset("mixture", train, test, None, "drawn here, seed 0", truth=distribution())
