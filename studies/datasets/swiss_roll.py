"""A swiss roll in the plane, the first experiment of Sohl-Dickstein et al. (2015): continuous points, unit variance.

How likely its points can be made depends on how thick it is drawn, and the paper does not say: `load` has noise enough
to see, `load_thin` as much as the paper's bound suggests.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from studies.datasets.dataset import Dataset

TRAIN_EXAMPLES, TEST_EXAMPLES = 10_000, 2_000
NOISE, THIN_NOISE = 0.5, 0.025
"""Standard deviation across the roll before it is standardised, where it is about 28 across."""


def load(noise: float = NOISE, name: str = "swiss_roll") -> Dataset:
    """Fixed draws from scikit-learn's roll, its height dropped, standardised by the training set."""
    plane = _points(noise)
    mean, std = _centre_and_scale(plane)
    train, test = (plane[:TRAIN_EXAMPLES] - mean) / std, (plane[TRAIN_EXAMPLES:] - mean) / std
    return Dataset(name, train, test, None, f"scikit-learn make_swiss_roll, noise {noise:g}")


def load_thin() -> Dataset:
    """The roll drawn with noise 0.025, on which the true density is worth 2.4 bits a point."""
    return load(THIN_NOISE, "swiss_roll_thin")


def log_density(x: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
    """log p(x) in nats of the roll with that noise, standardised as `load` does, at points x (N, 2); (N,).

    The angle 1.5 pi (1 + 2u), u uniform, is integrated over by the midpoint rule, whose nodes lie at most a third of
    the noise apart: its error is then below rounding, but for the two ends.
    """
    mean, std = _centre_and_scale(_points(noise))
    points, nodes = x * std + mean, max(1000, int(400 / noise))
    angle = 1.5 * np.pi * (1 + 2 * (np.arange(nodes) + 0.5) / nodes)
    curve = np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1)
    parts = []
    for some in np.array_split(points, max(1, len(points) * nodes // 2**22)):
        exponent = -((some[:, None] - curve) ** 2).sum(axis=2) / (2 * noise**2)
        parts.append(logsumexp(exponent, axis=1) - np.log(nodes))
    log_density: NDArray[np.float64] = np.concatenate(parts) - np.log(2 * np.pi * noise**2) + 2 * np.log(std)
    return log_density


def _points(noise: float) -> NDArray[np.float64]:
    from sklearn.datasets import make_swiss_roll

    points, _ = make_swiss_roll(TRAIN_EXAMPLES + TEST_EXAMPLES, noise=noise, random_state=0)
    plane: NDArray[np.float64] = points[:, [0, 2]]
    return plane


def _centre_and_scale(plane: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    train = plane[:TRAIN_EXAMPLES]
    return train.mean(axis=0), float(np.sqrt(train.var(axis=0).mean()))
